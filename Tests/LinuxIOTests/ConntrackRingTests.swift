import AllocationCount
import CConntrack
import Flows
import Foundation
import Glibc
import Synchronization
import Testing

@testable import LinuxIO

/// The ring's program on a pair of UNIX datagram sockets: a message passes if a record of it comes by the ring, or through the socket and is wanted.
private final class RingPair: MessageFilter {
  private let sockets: [Int32]
  private let ring: OpaquePointer
  private let ports: [UInt16]

  init(ports: [UInt16] = [53]) throws {
    sockets = try FilteredPair.socketPair()
    var failure = conntrack_failure()
    ring = try #require(conntrack_ring_open(ports, ports.count, &failure), "\(failure)")
    try #require(conntrack_ring_attach(ring, sockets[1]) == 0)
    self.ports = ports
  }

  deinit {
    for socket in sockets { close(socket) }
    conntrack_ring_close(ring)
  }

  var left: UInt64 { conntrack_ring_left(ring) }

  func passes(_ message: [UInt8]) -> Bool { record(message) != nil }

  func record(_ message: [UInt8]) -> conntrack_record? {
    precondition(send(sockets[0], message, message.count, 0) == message.count)
    var record = conntrack_record()
    var tally = conntrack_tally()
    let slots = conntrack_ring_slots(ring)
    withUnsafeMutablePointer(to: &record) { record in
      withUnsafeMutablePointer(to: &tally) { tally in
        var taking = conntrack_ring_taking(records: record, capacity: 1, count: 0, slots: slots, tally: tally)
        conntrack_ring_take(ring, &taking)
        precondition(taking.slots == 0)
      }
    }
    precondition(slots == tally.messages && slots <= 1)
    var buffer = [UInt8](repeating: 0, count: 4096)
    let count = recv(sockets[1], &buffer, buffer.count, 0)
    precondition(count < 0 || slots == 0, "it came both ways")
    if slots == 1 { return tally.results.0 == 1 ? record : nil }
    var length = 0
    guard count > 0, conntrack_parse(buffer, count, &record, &length) == CONNTRACK_PARSED else { return nil }
    return conntrack_is_wanted(&record, ports, ports.count) ? record : nil
  }
}

/// Numerical Recipes' linear congruential generator: the same damage every time.
private struct Random: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return state ^ state >> 33
  }
}

/// A socket with a ring, in the calling thread's namespace. The ring is closed last: properties go in this order.
private final class RingSocket {
  var socket: ConntrackEventSocket
  let ring: ConntrackEventRing

  init(ports: [UInt16] = [53], receiveBuffer: Int = ConntrackEventSocket.defaultReceiveBuffer) throws {
    ring = try ConntrackEventRing(ports: ports)
    socket = try ConntrackEventSocket(ports: ports, receiveBuffer: receiveBuffer)
    try ring.serve(&socket)
  }

  var isReadable: Bool {
    [ring.descriptor, socket.descriptor].contains { descriptor in
      var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
      return poll(&entry, 1, 0) == 1
    }
  }

  func events() -> [ConntrackEvent] {
    var events: [ConntrackEvent] = []
    while socket.drain({ events.append($0) }) {}
    return events
  }
}

/// One byte to port 53 of an IPv4 address.
private func send(_ descriptor: Int32, to address: UInt32) {
  var target = sockaddr_in()
  target.sin_family = sa_family_t(AF_INET)
  target.sin_port = UInt16(53).bigEndian
  target.sin_addr.s_addr = address.bigEndian
  let sent = withUnsafePointer(to: &target) { pointer in
    pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { sendto(descriptor, "q", 1, 0, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
  }
  precondition(sent == 1)
}

/// What says which message an event was made of.
private func essence(_ event: ConntrackEvent) -> String {
  "\(event.kind) \(event.original) \(event.reply) \(event.status.rawValue) \(event.id) \(event.zone)"
}

@Suite(.serialized, .enabled(if: ConntrackNamespace.missing == nil, "eBPF and conntrack's kernel tests need root, ip, nft and conntrack"))
struct ConntrackRingTests {
  /// Messages that the ring's 1 MiB has room for.
  private static let capacity = (1 << 20) / 384

  @Test(arguments: ConntrackFilterTests.rows) func choosesAsTheFilterDoes(_ row: ConntrackFilterTests.Row) throws {
    let pair = try RingPair()
    ConntrackFilterTests.check(row, pair)
    #expect(pair.left == 0, "the program chose by itself")
  }

  @Test func portsAreLookedForAsByTheFilter() throws {
    let pair = try RingPair()
    ConntrackFilterTests.checkPortOnEverySide(pair)
    let sixteen = try RingPair(ports: ConntrackFilterTests.sixteenPorts)
    ConntrackFilterTests.checkSixteenPorts(sixteen)
    #expect(pair.left == 0 && sixteen.left == 0, "the program chose by itself")
    var failure = conntrack_failure()
    #expect(conntrack_ring_open(Array(1...17), 17, &failure) == nil && failure.code == E2BIG)
  }

  /// Cut, mutated and lengthened: what the ring brings and the socket makes up for is what the filter lets through and the parser takes.
  @Test func damagedMessagesAreTakenAsWithTheFilter() throws {
    let ring = try RingPair()
    let filter = try FilteredPair(ports: [53])
    var random = Random(state: 20)
    var taken = 0
    func compare(_ message: [UInt8]) {
      var record = conntrack_record()
      var length = 0
      let isWanted =
        filter.passes(message) && conntrack_parse(message, message.count, &record, &length) == CONNTRACK_PARSED
        && conntrack_is_wanted(&record, [53], 1)
      let other = ring.record(message)
      if let other {
        taken += 1
        // A message behind the first is the socket's affair; here only the first is looked at.
        let says = withUnsafeBytes(of: other) { other in withUnsafeBytes(of: record) { other.elementsEqual($0) } }
        #expect(!isWanted || says)
      }
      // Where an attribute comes twice or out of order, the filter looks at the first and the parser at the last: it may let less through.
      #expect(other != nil || !isWanted, "\(message)")
    }
    for length in 1...goldenMessage.count { compare(Array(goldenMessage[..<length])) }
    for _ in 0..<20_000 {
      var message = goldenMessage
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        message[Int.random(in: 0..<message.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
      }
      compare(message)
    }
    // Most by the ring: what was left to the socket is the lesser part, wanted or not.
    #expect(taken > 5_000 && ring.left < 10_000)
  }

  /// What is longer than a slot, or is not one message, comes through the socket.
  @Test func whatDoesNotFitComesThroughTheSocket() throws {
    let pair = try RingPair()
    let tuple = FiveTuple(udp: endpoint("fd00::1", 4000), endpoint("fd00::2", 53))
    func message(_ more: Int) -> [UInt8] {
      Netlink.message(Netlink.tuple(1, tuple), Netlink.tuple(2, tuple.inverse), Netlink.attribute(22, [UInt8](repeating: 7, count: more)))
    }
    let head = message(0).count
    #expect(pair.passes(message(376 - head)) && pair.left == 0)
    #expect(pair.passes(message(380 - head)) && pair.left == 1)
    #expect(pair.passes(message(2000)) && pair.left == 2)
    #expect(pair.passes(message(0) + message(0)) && pair.left == 3)
    let odd = Netlink.message(Netlink.tuple(2, tuple.inverse), Netlink.tuple(1, tuple))
    #expect(pair.passes(odd) && pair.left == 4)
    let other = FiveTuple(udp: endpoint("fd00::1", 4000), endpoint("fd00::2", 54))
    #expect(!pair.passes(Netlink.message(Netlink.tuple(2, other.inverse), Netlink.tuple(1, other))) && pair.left == 5)
  }

  /// The running kernel's own events, by both ways at once.
  @Test(arguments: [false, true]) func bringsWhatTheSocketBrings(v6: Bool) throws {
    try ConntrackNamespace.run(rules: "udp dport 53 dnat to 127.0.0.1:5353;") {
      var plain = try ConntrackEventSocket()
      let ringed = try RingSocket()
      let server = try LoopbackSocket(v6: v6, port: v6 ? 53 : 5353)
      let client = try LoopbackSocket(v6: v6)
      client.send(to: 53)
      try server.receive()
      #expect(ringed.isReadable)
      let new = ringed.events()
      #expect(new.map(\.kind) == [.new] && !ringed.isReadable)
      #expect(new.first?.original.source.port == client.port && new.first?.isDestinationTranslated == !v6)
      if v6 {
        server.send(to: client.port)
        try client.receive()
        try ConntrackNamespace.command("/usr/sbin/conntrack", "-F")
        #expect(!ringed.isReadable, "UPDATE and DESTROY of an answered query")
      }
      try query(53, from: 20_000..<20_400, v6: v6)
      try query(54, from: 21_000..<21_400, v6: v6)
      try ConntrackNamespace.command("/usr/sbin/conntrack", "-F")
      let rest = ringed.events()
      var expected: [ConntrackEvent] = []
      while plain.drain({ expected.append($0) }) {}
      #expect((new + rest).map(essence) == expected.map(essence))
      #expect(rest.count { $0.kind == .new } == 400 && rest.count { $0.kind == .destroy } >= 400)
      #expect(ringed.ring.left == 0 && ringed.socket.readLost() == 0 && ringed.socket.messages == plain.messages)
      #expect(ConntrackDecodeError.allCases.allSatisfy { ringed.socket.errors($0) == 0 })
    }
  }

  /// Four threads make entries while this one reads: each event comes once.
  @Test func nothingIsLostOrTwiceUnderLoad() throws {
    try ConntrackNamespace.run {
      let ringed = try RingSocket()
      let addresses: ClosedRange<UInt32> = 1...500
      // Ports of their own: with SO_REUSEADDR the kernel may give two of them the same.
      let senders = try (0..<4).map { thread in try (0..<8).map { try LoopbackSocket(port: UInt16(30_000 + 8 * thread + $0)) } }
      let unfinished = Atomic(senders.count)
      for sockets in senders {
        let descriptors = sockets.map(\.descriptor)
        Thread {
          for address in addresses { for descriptor in descriptors { send(descriptor, to: 0x7F00_0000 | address) } }
          unfinished.subtract(1, ordering: .releasing)
        }.start()
      }
      var last: [UInt16: UInt32] = [:]
      var events = 0
      var disordered = 0
      func take() {
        while ringed.socket.drain({ event in
          let address = event.original.destination.address.v4
          events += 1
          if address <= last[event.original.source.port] ?? 0 { disordered += 1 }
          last[event.original.source.port] = address
        }) {}
      }
      while unfinished.load(ordering: .acquiring) > 0 { take() }
      take()
      #expect(events == 4 * 8 * addresses.count && last.count == 32)
      #expect(ringed.socket.readLost() == 0 && !ringed.isReadable)
      // An event that came twice would be out of order. So may be one that found the ring full while it was read.
      print("by ring and socket under load: \(events) events, \(ringed.ring.left) left to the socket, \(disordered) out of order")
      #expect(disordered <= ringed.ring.left)
      withExtendedLifetime(senders) {}
    }
  }

  /// The kernel wakes for the first event after an empty ring only; one that comes while the ring is read, or just before the loop sleeps, must not wait for
  /// another. Gaps of 0 to 400 us around sweeps of 1 ms hit every moment of a turn.
  @Test func noEventWaitsForAnother() throws {
    try ConntrackNamespace.run {
      let ringed = try RingSocket()
      var loop = try EventLoop(sweepDelay: Nanoseconds.perMillisecond)
      try loop.add(ringed.ring.descriptor, as: EventToken(0), .swept)
      let sender = try LoopbackSocket()
      let descriptor = sender.descriptor
      let total = 10_000
      let isOver = DispatchSemaphore(value: 0)
      Thread {
        var random = Random(state: 7)
        for number in 1...UInt32(total) {
          send(descriptor, to: 0x7F01_0000 + number)
          let until = conntrack_now() + Int64.random(in: 0...400_000, using: &random)
          while conntrack_now() < until {}
        }
        isOver.signal()
      }.start()
      var events = 0
      var turns = 0
      var isStuck = false
      while events < total && !isStuck {
        // In time all the same if the machine holds this thread up.
        isStuck = loop.wait(timeoutMilliseconds: 5_000).isEmpty
        _ = ringed.socket.drain { _ in events += 1 }
        if ringed.socket.hasMore { loop.requestSweep() }
        turns += 1
      }
      isOver.wait()
      print("\(events) events in \(turns) turns of the loop")
      // After a wake-up that was lost the ring would fill up, and the loop not end.
      #expect(ringed.ring.left == 0)
      #expect(!isStuck && events == total && turns > 200)
      withExtendedLifetime(sender) {}
    }
  }

  /// With the ring full the socket takes over: all of it comes, in order, and none is counted as lost.
  @Test func aFullRingLosesNothing() throws {
    try ConntrackNamespace.run {
      let ringed = try RingSocket()
      try query(53, from: 10_000..<15_000)
      #expect(ringed.ring.left == UInt64(5_000 - Self.capacity))
      #expect(ringed.events().map(\.original.source.port) == Array(10_000..<15_000))
      #expect(ringed.socket.readLost() == 0)
      try query(53, from: 15_000..<15_001)
      #expect(ringed.events().count == 1 && ringed.ring.left == UInt64(5_000 - Self.capacity), "the ring goes on")
    }
  }

  @Test func receivedAndLostAreAllThatWasSent() throws {
    try ConntrackNamespace.run {
      let ringed = try RingSocket(receiveBuffer: 4096)
      try query(53, from: 10_000..<15_000)
      let received = ringed.events().count
      let lost = ringed.socket.readLost()
      #expect(received > Self.capacity && lost > 0)
      #expect(UInt64(received) + lost == 5_000)
    }
  }

  /// What was queued before the ring came is read too.
  @Test func aRingComesToASocketInUse() throws {
    try ConntrackNamespace.run {
      let ring = try ConntrackEventRing()
      var socket = try ConntrackEventSocket()
      try query(53, from: 10_000..<10_100)
      try ring.serve(&socket)
      try query(53, from: 10_100..<10_200)
      var ports: Set<UInt16> = []
      #expect(!socket.drain { ports.insert($0.original.source.port) })
      #expect(ports == Set(10_000..<10_200))
    }
  }

  /// What finds room while a full ring is read comes after what went to the socket for want of room.
  @Test func theOrderHoldsAroundAFullRing() throws {
    try ConntrackNamespace.run {
      let ringed = try RingSocket()
      try query(53, from: 10_000..<13_000)
      #expect(ringed.ring.left == UInt64(3_000 - Self.capacity))
      var ports: [UInt16] = []
      #expect(ringed.socket.drain(limit: 1_000) { ports.append($0.original.source.port) })
      try query(53, from: 13_000..<13_100)
      #expect(ringed.ring.left == UInt64(3_000 - Self.capacity), "the ring has room")
      #expect(!ringed.socket.drain { ports.append($0.original.source.port) })
      #expect(ports == Array(10_000..<13_000))
      #expect(ringed.isReadable && ringed.events().map(\.original.source.port) == Array(13_000..<13_100))
    }
  }

  @Test func drainIsBoundedAndDoesNotAllocate() throws {
    try ConntrackNamespace.run {
      let ringed = try RingSocket()
      try query(53, from: 10_000..<13_500)
      var ports = 0
      let before = allocation_count()
      let first = ringed.socket.drain(limit: 1_000) { ports += Int($0.original.destination.port) }
      let afterFirst = ports
      let second = ringed.socket.drain(limit: 2_000) { ports += Int($0.original.destination.port) }
      let start = conntrack_now()
      let third = ringed.socket.drain { ports += Int($0.original.destination.port) }
      let elapsed = conntrack_now() - start
      let allocations = allocation_count() - before
      #expect(first && second && !third && afterFirst == 1_000 * 53 && ports == 3_500 * 53)
      #expect(allocations == 0)
      print("drain of ring and socket: \(elapsed / 500) ns an event")
    }
  }

  @Test func learnedPortsAreSeenFromThenOn() throws {
    try ConntrackNamespace.run {
      let ringed = try RingSocket()
      try query(5353, from: 10_000..<10_010)
      #expect(ringed.events().isEmpty)
      try ringed.socket.setPorts([53, 5353])
      try query(5353, from: 11_000..<11_010)
      #expect(ringed.events().map(\.original.source.port) == Array(11_000..<11_010))
      #expect(throws: SetupError.self) { try ringed.socket.setPorts(Array(1...17)) }
      try ringed.socket.setPorts([5353])
      try query(53, from: 12_000..<12_010)
      #expect(ringed.events().isEmpty)
    }
  }

  /// What comes through the socket is filtered here, by the ports of this moment: the program may not have been able to tell.
  @Test func whatTheSocketBringsIsFiltered() throws {
    try ConntrackNamespace.run {
      let ringed = try RingSocket()
      try query(53, from: 10_000..<13_000)
      try ringed.socket.setPorts([5353])
      #expect(ringed.events().count == Self.capacity && ringed.socket.messages == 3_000)
      #expect(ringed.socket.readLost() == 0)
    }
  }

  /// A socket that answers with an error takes nothing of what the ring brought with it.
  @Test func whatTheRingBroughtSurvivesAnErrorOfTheSocket() throws {
    try ConntrackNamespace.run {
      let ringed = try RingSocket()
      try query(53, from: 10_000..<10_040)
      // An unconnected stream: recvmmsg answers ENOTCONN.
      let stream = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
      #expect(dup2(stream, ringed.socket.descriptor) == ringed.socket.descriptor)
      close(stream)
      var count = 0
      #expect(!ringed.socket.drain { _ in count += 1 })
      #expect(count == 40 && ringed.socket.receiveErrors == 1)
    }
  }

  /// What a former socket left in the ring is not told as new.
  @Test func theNextSocketBeginsWithAnEmptyRing() throws {
    try ConntrackNamespace.run {
      let ring = try ConntrackEventRing()
      do {
        var former = try ConntrackEventSocket()
        try ring.serve(&former)
        try query(53, from: 10_000..<10_040)
        let (hasMore, isHeldUp) = (former.hasMore, former.isHeldUp)
        #expect(hasMore && !isHeldUp)
      }
      var next = try ConntrackEventSocket()
      try ring.serve(&next)
      let hasOld = next.hasMore
      #expect(!hasOld)
      try query(53, from: 11_000..<11_003)
      var ports: [UInt16] = []
      #expect(!next.drain { ports.append($0.original.source.port) })
      let hasMore = next.hasMore
      #expect(ports == [11_000, 11_001, 11_002] && !hasMore)
    }
  }

  /// CAP_BPF is enough, and a later socket needs no right for the ring.
  @Test func rights() throws {
    try ConntrackNamespace.run {
      try ConntrackNamespace.without([.sysAdmin, .perfmon]) { _ = try ConntrackEventRing() }
      let ring = try ConntrackEventRing()
      try ConntrackNamespace.without([.sysAdmin, .bpf, .perfmon]) {
        let refused = #expect(throws: SetupError.self) { _ = try ConntrackEventRing() }
        #expect(refused?.code == EPERM && refused?.remedy.contains("CAP_BPF") == true)
        var socket = try ConntrackEventSocket()
        try ring.serve(&socket)
        try query(53, from: 10_000..<10_010)
        var count = 0
        #expect(!socket.drain { _ in count += 1 } && count == 10)
      }
    }
  }
}
