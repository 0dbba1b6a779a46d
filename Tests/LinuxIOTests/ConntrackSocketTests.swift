import AllocationCount
import CConntrack
import Flows
import Glibc
import LinuxIO
import Testing

private func isReadable(_ descriptor: Int32, waiting milliseconds: Int32 = 0) -> Bool {
  var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
  return poll(&entry, 1, milliseconds) == 1
}

private func events(of socket: inout ConntrackEventSocket) throws -> [ConntrackEvent] {
  var events: [ConntrackEvent] = []
  _ = isReadable(socket.descriptor, waiting: 1000)
  #expect(!socket.drain { events.append($0) })
  return events
}

private func milliseconds(since start: Int64) -> Double { Double((conntrack_now() - start) / 1000) / 1000 }

/// On the running kernel, each in a network namespace of its own.
@Suite(.serialized, .enabled(if: ConntrackNamespace.missing == nil, "conntrack kernel tests need root, ip, nft and conntrack"))
struct ConntrackSocketTests {
  @Test(arguments: [false, true]) func newPassesAndHealthyEventsDoNotWake(v6: Bool) throws {
    try ConntrackNamespace.run {
      var socket = try ConntrackEventSocket()
      #expect(socket.isReceiveBufferForced && socket.receiveBuffer == 2 * ConntrackEventSocket.defaultReceiveBuffer)
      let server = try LoopbackSocket(v6: v6, port: 53)
      let client = try LoopbackSocket(v6: v6)
      client.send(to: 53)
      try server.receive()
      let new = try events(of: &socket)
      let loopback = v6 ? "::1" : "127.0.0.1"
      #expect(new.map(\.kind) == [.new])
      #expect(new.first?.original == FiveTuple(udp: endpoint(loopback, client.port), endpoint(loopback, 53)))
      #expect(new.first?.reply == new.first?.original.inverse)
      #expect(new.first?.status.contains(.seenReply) == false && new.first?.id != 0)

      server.send(to: client.port)
      try client.receive()
      try ConntrackNamespace.command("/usr/sbin/conntrack", "-F")
      #expect(!isReadable(socket.descriptor), "UPDATE and DESTROY of an answered query")

      client.send(to: 53)
      try server.receive()
      try ConntrackNamespace.command("/usr/sbin/conntrack", "-F")
      let unanswered = try events(of: &socket)
      #expect(unanswered.map(\.kind) == [.new, .destroy])
      #expect(unanswered.last?.original == new.first?.original && unanswered.last?.status.contains(.seenReply) == false)
      #expect(socket.readLost() == 0 && socket.messages == 3 && socket.receiveErrors == 0)
      #expect(ConntrackDecodeError.allCases.allSatisfy { socket.errors($0) == 0 })
    }
  }

  @Test func connectionsOfOtherPortsAreNotSeen() throws {
    try ConntrackNamespace.run {
      var dns = try ConntrackEventSocket()
      var web = try ConntrackEventSocket(ports: [8080])
      let server = try LoopbackSocket(port: 8080, stream: true)
      #expect(listen(server.descriptor, 16) == 0)
      for _ in 0..<2_500 {
        let client = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        #expect(server.withAddress(8080) { connect(client, $0, $1) } == 0)
        close(accept(server.descriptor, nil, nil))
        close(client)
      }
      #expect(try events(of: &web).filter { $0.kind == .new && $0.original.protocolNumber == 6 }.count == 2_500)
      #expect(!isReadable(dns.descriptor))
      #expect(dns.readLost() == 0 && dns.messages == 0)
    }
  }

  @Test func translatedPortsAndLateAnswers() throws {
    try ConntrackNamespace.run(rules: "udp dport 53 dnat to 127.0.0.1:5353;") {
      var original = try ConntrackEventSocket()
      var reply = try ConntrackEventSocket(ports: [5353])
      let backend = try LoopbackSocket(port: 5353)
      let client = try LoopbackSocket()
      client.send(to: 53)
      try backend.receive()
      let seen = try events(of: &original) + events(of: &reply)
      #expect(seen.count == 2)
      for event in seen {
        #expect(event.original.destination.port == 53 && event.reply.source.port == 5353)
        #expect(event.isDestinationTranslated && event.status.contains(.destinationNAT))
      }
      // An answer without an entry: what a late reply to a NAT_CLASH loser is.
      let answering = try LoopbackSocket(port: 53)
      let asking = try LoopbackSocket()
      answering.send(to: asking.port)
      try asking.receive()
      let late = try events(of: &original)
      #expect(late.map(\.kind) == [.new])
      #expect(late.first?.original.source.port == 53 && late.first?.original.destination.port == asking.port)
    }
  }

  @Test func learnedPortsAreSeenFromThenOn() throws {
    try ConntrackNamespace.run {
      var socket = try ConntrackEventSocket()
      let server = try LoopbackSocket(port: 5353)
      let before = try LoopbackSocket()
      before.send(to: 5353)
      try server.receive()
      #expect(!isReadable(socket.descriptor))
      try socket.setPorts([53, 5353])
      let after = try LoopbackSocket()
      after.send(to: 5353)
      try server.receive()
      #expect(try events(of: &socket).map(\.original.source.port) == [after.port])
      #expect(throws: SetupError.self) { try socket.setPorts(Array(1...17)) }
    }
  }

  @Test func receivedAndLostAreAllThatWasSent() throws {
    try ConntrackNamespace.run {
      var small = try ConntrackEventSocket(receiveBuffer: 4096)
      // SOL_NETLINK, NETLINK_NO_ENOBUFS: otherwise a full queue refuses everything until it is empty.
      var isSet: Int32 = 0
      var length: socklen_t = 4
      #expect(getsockopt(small.descriptor, 270, 5, &isSet, &length) == 0 && isSet == 1)
      var large = try ConntrackEventSocket()
      let server = try LoopbackSocket(port: 53)
      try query(53, from: 10_000..<15_000)
      _ = server
      #expect(try events(of: &large).count == 5_000)
      #expect(large.readLost() == 0)
      let received = try events(of: &small).count
      let lost = small.readLost()
      #expect(received > 0 && lost > 0)
      #expect(UInt64(received) + lost == 5_000)
      try query(53, from: 15_000..<15_001)
      #expect(try events(of: &small).count == 1, "the socket goes on after a loss")
      #expect(small.readLost() == lost)
    }
  }

  @Test func drainIsBoundedAndDoesNotAllocate() throws {
    try ConntrackNamespace.run {
      var socket = try ConntrackEventSocket()
      try query(53, from: 10_000..<13_000)
      var ports = 0
      let before = allocation_count()
      let more = socket.drain(limit: 1_000) { ports += Int($0.original.destination.port) }
      let start = conntrack_now()
      let still = socket.drain { ports += Int($0.original.destination.port) }
      let elapsed = conntrack_now() - start
      let allocations = allocation_count() - before
      #expect(more && !still)
      #expect(ports == 3_000 * 53)
      #expect(allocations == 0)
      print("drain: \(elapsed / 2_000) ns an event")
    }
  }

  @Test func messagesFromProcessesAreCountedAndIgnored() throws {
    try ConntrackNamespace.run {
      var event = try ConntrackEventSocket()
      // struct sockaddr_nl: family, pad, pid, groups.
      var address: [UInt32] = [0, 0, 0]
      var length: socklen_t = 12
      let forger = socket(AF_NETLINK, Int32(SOCK_RAW.rawValue), 12)
      defer { close(forger) }
      let sent = address.withUnsafeMutableBytes { raw in
        let pointer = raw.baseAddress!.assumingMemoryBound(to: sockaddr.self)
        getsockname(event.descriptor, pointer, &length)
        raw.storeBytes(of: 0, toByteOffset: 8, as: UInt32.self)
        return sendto(forger, goldenMessage, goldenMessage.count, 0, pointer, length)
      }
      #expect(sent == goldenMessage.count)
      #expect(try events(of: &event).isEmpty)
      #expect(event.foreignMessages == 1 && event.messages == 0)
    }
  }

  @Test func countersCountFromTheFirstReading() throws {
    try ConntrackNamespace.run {
      var requests = try ConntrackRequests()
      var accumulator = ConntrackCounterAccumulator()
      let base = try requests.readCounters(into: &accumulator)
      #expect(base.counters == ConntrackCounters() && base.before < base.after)
      #expect(base.entries == 0 && base.entriesLimit == 0)
      #expect(base.features == [.clashResolve, .chainTooLong])
      for port in 1...3 {
        try ConntrackNamespace.command(
          "/usr/sbin/conntrack", "-I", "-s", "10.0.0.1", "-d", "10.0.0.2", "-p", "udp", "--sport", "\(port)", "--dport", "53", "-t", "60")
      }
      let sample = try requests.readCounters(into: &accumulator, withTableSize: true)
      #expect(sample.counters.insert == 3)
      #expect(sample.entries == 3 && sample.entriesLimit > 0)
      var sum: UInt64 = 0
      for cpu in 0..<accumulator.cpuCount { sum += accumulator.counters(cpu: cpu)?.insert ?? 0 }
      #expect(sum == 3)
      #expect(accumulator.unknownAttributes == 0)

      let start = conntrack_now()
      let before = allocation_count()
      for _ in 0..<1_000 { _ = try requests.readCounters(into: &accumulator) }
      #expect(allocation_count() == before)
      let plain = milliseconds(since: start)
      let again = conntrack_now()
      for _ in 0..<1_000 { _ = try requests.readCounters(into: &accumulator, withTableSize: true) }
      print("readCounters: \(plain) µs, with table size \(milliseconds(since: again)) µs, \(accumulator.cpuCount) CPUs")
      #expect(plain < 2_000, "too dear for 100 readings a second")
    }
  }

  @Test func dumpFindsTheEntriesOfThePorts() throws {
    try ConntrackNamespace.run(rules: "udp dport 53 dnat to 127.0.0.1:5353;") {
      var requests = try ConntrackRequests()
      let other = try LoopbackSocket(port: 8080)
      try query(8080, from: 10_000..<60_000)
      try query(53, from: 60_000..<60_100)
      try query(53, from: 60_000..<60_050, v6: true)
      _ = other
      var found: [ConntrackEvent] = []
      let start = conntrack_now()
      let dump = try requests.dump(ports: [53]) { found.append($0) }
      print("dump: \(dump.entries) entries in \(milliseconds(since: start)) ms")
      #expect(dump.attempts == 1 && !dump.isIncomplete && dump.errors == 0)
      #expect(dump.matched == found.count && dump.entries >= 50_000)
      #expect(found.allSatisfy { $0.kind == .dumped && $0.original.destination.port == 53 && $0.status.contains(.confirmed) })
      #expect(found.count { $0.original.source.address.isV4 && $0.reply.source.port == 5353 } == 100)
      #expect(found.count { !$0.original.source.address.isV4 } == 50)
      var translated = 0
      _ = try requests.dump(ports: [5353]) { _ in translated += 1 }
      #expect(translated == 100)
      _ = try requests.dump(ports: []) { _ in Issue.record("no port, no entry") }
      #expect(try requests.readTableSize().entries >= 150)
    }
  }

  @Test func withoutNetAdminTheRemedyIsNamed() throws {
    try ConntrackNamespace.run {
      var open = try ConntrackRequests()
      try ConntrackNamespace.withoutNetAdmin {
        let refused = #expect(throws: SetupError.self) { _ = try ConntrackEventSocket() }
        #expect(refused?.code == EPERM && refused?.description.hasSuffix("Operation not permitted; needs CAP_NET_ADMIN") == true)
        let unasked = #expect(throws: SetupError.self) { _ = try ConntrackRequests() }
        #expect(unasked?.description == "ask for the conntrack table size: Operation not permitted; needs CAP_NET_ADMIN")
        var accumulator = ConntrackCounterAccumulator()
        #expect(throws: SetupError.self) { _ = try open.readCounters(into: &accumulator) }
      }
      #expect(try open.readTableSize().limit > 0)
    }
  }

  @Test func whatWouldHelpIsNamed() {
    #expect(SetupError(conntrack: "ask", code: EINVAL).remedy == "load nf_conntrack_netlink")
    #expect(SetupError(conntrack: "socket", code: EPROTONOSUPPORT).description == "socket: Protocol not supported; load nf_conntrack_netlink")
    #expect(SetupError(conntrack: "read", code: EIO).description == "read: Input/output error")
  }
}
