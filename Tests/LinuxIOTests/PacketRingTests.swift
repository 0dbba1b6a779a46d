import CLinux
import Flows
import Glibc
import Testing

@testable import LinuxIO

private let end = WallTime(nanoseconds: .max)

/// Waits until the ring has as many frames as are expected, held ones included, or 5 s are over.
private func collect(_ ring: inout PacketRing, _ count: Int) throws {
  var loop = try EventLoop()
  try loop.add(ring.descriptor, as: EventToken(0), .edge)
  let deadline = Clocks.monotonic() + 5 * Nanoseconds.perSecond
  ring.collect()
  while ring.heldFrames < count, Clocks.monotonic() < deadline {
    _ = loop.wait(timeoutMilliseconds: 20)
    ring.collect()
  }
}

@Suite(.enabled(if: Sandbox.isAvailable, Sandbox.reason))
struct PacketRingTests {
  private struct Load: Sendable {
    var frames = 0
    var inversions = 0
    var outgoing = 0
    var lengths: Set<Int> = []
    var originalLengths: Set<UInt32> = []
    var last = Int64.min

    mutating func note(_ header: FrameHeader, _ bytes: RawSpan) {
      frames += 1
      if header.stamp.nanoseconds < last { inversions += 1 }
      last = header.stamp.nanoseconds
      if header.isOutgoing { outgoing += 1 }
      lengths.insert(bytes.byteCount)
      originalLengths.insert(header.originalLength)
    }
  }

  @Test func lendsFramesOfTwoSendersInOrderOfTime() throws {
    var load = Load()
    var statistics = PacketStatistics()
    try Sandbox.run {
      try Sandbox.vethPair()
      try Sandbox.vethPair("c", "d")
      var ring = try PacketRing()
      let first = try FrameSender("a")
      let second = try FrameSender("c")
      let started = Sender.start(first.descriptor, cpu: 0, count: 3000)
      let other = Sender.start(second.descriptor, cpu: 1, count: 3000)
      started.join()
      other.join()
      try collect(&ring, 12_000)
      ring.process(upTo: end) { load.note($0, $1) }
      statistics = ring.statistics()
    }
    #expect(load.frames == 12_000)
    #expect(load.outgoing == 6000)
    #expect(load.inversions == 0)
    #expect(statistics == PacketStatistics(packets: 12_000, drops: 0, freezes: 0))
  }

  @Test func countsEveryDropOfAnOverload() throws {
    var load = Load()
    var statistics = PacketStatistics()
    var thawed = 0
    try Sandbox.run {
      try Sandbox.vethPair()
      var options = PacketRingOptions()
      options.blockSize = 4096
      options.blockCount = 2
      var ring = try PacketRing(options)
      let sender = try FrameSender("a")
      for _ in 0..<5000 { sender.send(Packets.query(1)) }
      try collect(&ring, 2)
      ring.process(upTo: end) { load.note($0, $1) }
      // The ring goes on after it was frozen.
      sender.send(Packets.query(2))
      try collect(&ring, 2)
      thawed = ring.process(upTo: end) { load.note($0, $1) }
      statistics = ring.statistics()
    }
    #expect(statistics.packets == 10_002)
    #expect(statistics.drops > 9000)
    #expect(UInt64(load.frames) + statistics.drops == statistics.packets)
    #expect(statistics.freezes > 0)
    #expect(thawed == 2)
  }

  /// Whatever the number of frames is to the lead: each is prepared and then lent once more, in order, and every block is given back.
  @Test(arguments: [0, 1, 3, 4, 5, 500])
  func lendsEveryFrameAgainBehindALead(_ count: Int) throws {
    let lead = 4
    var (prepared, lent): ([[UInt8]], [[UInt8]]) = ([], [])
    var distances: [Int] = []
    var (returned, heldBefore, heldBlocks, heldFrames) = (-1, -1, -1, -1)
    try Sandbox.run {
      try Sandbox.vethPair()
      var options = PacketRingOptions()
      options.capturesOutgoing = false
      options.blockSize = 4096
      options.blockCount = 128
      var ring = try PacketRing(options)
      let sender = try FrameSender("a")
      for id in 0..<count { sender.send(Packets.query(UInt16(id))) }
      try collect(&ring, count)
      heldBefore = ring.heldBlocks
      returned = ring.process(
        upTo: end, lead: lead, prepare: { _, bytes in prepared.append(bytes.withUnsafeBytes { Array($0) }) },
        { bytes in
          lent.append(bytes.withUnsafeBytes { Array($0) })
          distances.append(prepared.count - lent.count)
        })
      (heldBlocks, heldFrames) = (ring.heldBlocks, ring.heldFrames)
    }
    #expect(returned == count && prepared.count == count)
    // The ID ends each frame: none is told for another.
    #expect(prepared.map { Int($0[$0.count - 2]) << 8 | Int($0[$0.count - 1]) } == Array(0..<count))
    #expect(lent == prepared)
    #expect(distances == (0..<count).map { min(lead, count - 1 - $0) })
    #expect(count < 500 ? heldBefore <= count : heldBefore > 10)
    #expect(heldBlocks == 0 && heldFrames == 0)
  }

  @Test func holdsFramesNewerThanTheHorizon() throws {
    var numbers: [String: Int] = [:]
    var stamps: [Int64] = []
    try Sandbox.run {
      try Sandbox.vethPair()
      var ring = try PacketRing()
      let sender = try FrameSender("a")
      for id in UInt16(0)..<10 { sender.send(Packets.query(id)) }
      try collect(&ring, 20)
      let before = WallTime(nanoseconds: ring.stampOfHeldFrame(0) - 1)
      numbers["before"] = ring.process(upTo: before) { _, _ in }
      numbers["held"] = ring.heldFrames
      numbers["blocks"] = ring.heldBlocks
      var middle = before
      // The first ten, by their own stamps: look without taking.
      middle = WallTime(nanoseconds: ring.stampOfHeldFrame(9))
      numbers["first"] = ring.process(upTo: middle) { header, _ in stamps.append(header.stamp.nanoseconds) }
      numbers["blocksAfterFirst"] = ring.heldBlocks
      numbers["rest"] = ring.process(upTo: end) { header, _ in stamps.append(header.stamp.nanoseconds) }
      numbers["blocksAtEnd"] = ring.heldBlocks
      sender.send(Packets.query(11))
      try collect(&ring, 2)
      // A horizon of a clock that was set back an hour holds nothing.
      numbers["stepped"] = ring.process(upTo: WallTime(nanoseconds: before.nanoseconds - 3600 * Nanoseconds.perSecond)) { _, _ in }
    }
    #expect(numbers["before"] == 0)
    #expect(numbers["held"] == 20)
    #expect((numbers["blocks"] ?? 0) >= 1)
    #expect((numbers["first"] ?? 0) >= 10)
    #expect((numbers["first"] ?? 0) + (numbers["rest"] ?? 0) == 20)
    #expect(stamps == stamps.sorted() && stamps.count == 20)
    #expect((numbers["blocksAfterFirst"] ?? 0) >= 1)
    #expect(numbers["blocksAtEnd"] == 0)
    #expect(numbers["stepped"] == 2)
  }

  /// Three of four blocks are nearly all. How many frames that is depends on the kernel: it hands over a block that is full or old.
  @Test func holdsNothingWhenTheRingIsNearlyFull() throws {
    var (blocks, collected, lent) = (0, 0, 0)
    try Sandbox.run {
      try Sandbox.vethPair()
      var options = PacketRingOptions()
      options.blockSize = 4096
      options.blockCount = 4
      var ring = try PacketRing(options)
      let sender = try FrameSender("a")
      let deadline = Clocks.monotonic() + 30 * Nanoseconds.perSecond
      while ring.heldBlocks < 3, Clocks.monotonic() < deadline {
        sender.send(Packets.query(1))
        ring.collect()
      }
      (blocks, collected) = (ring.heldBlocks, ring.heldFrames)
      // Older than every frame, so that all of them would be held, and not so old that the clock must have been set back.
      lent = ring.process(upTo: WallTime(nanoseconds: ring.stampOfHeldFrame(0) - 1)) { _, _ in }
    }
    #expect(blocks >= 3 && collected >= 3)
    #expect(lent == collected)
  }

  @Test func sparesOutgoingCopiesOnRequestAndCutsLongPackets() throws {
    var load = Load()
    try Sandbox.run {
      try Sandbox.vethPair()
      var options = PacketRingOptions()
      options.capturesOutgoing = false
      var ring = try PacketRing(options)
      let sender = try FrameSender("a")
      for _ in 0..<50 { sender.send(Packets.ethernet(0x0800, Packets.v4(17, Packets.udp(40000, 53, id: 1, padding: 1000)))) }
      try collect(&ring, 50)
      ring.process(upTo: end) { load.note($0, $1) }
    }
    #expect(load.frames == 50)
    #expect(load.outgoing == 0)
    #expect(load.lengths == [512])
    #expect(load.originalLengths == [1030])
  }

  @Test func goesOnWhenADeviceGoesDown() throws {
    var load = Load()
    var errors: UInt64 = 1
    try Sandbox.run {
      try Sandbox.vethPair()
      try Sandbox.vethPair("c", "d")
      var ring = try PacketRing()
      try Sandbox.ip("link set dev a down")
      try Sandbox.ip("link del dev a")
      let sender = try FrameSender("c")
      sender.send(Packets.query(1))
      try collect(&ring, 2)
      ring.process(upTo: end) { load.note($0, $1) }
      ring.takeError()
      errors = ring.socketErrors
    }
    #expect(load.frames == 2)
    #expect(errors == 0)
  }

  @Test(.enabled(if: access("/dev/net/tun", R_OK) == 0, "needs /dev/net/tun"))
  func readsDevicesWithoutALinkHeader() throws {
    var load = Load()
    var firstBytes: [UInt8] = []
    try Sandbox.run {
      let tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC)
      defer { close(tun) }
      // TUNSETIFF with struct ifreq: the name, then IFF_TUN | IFF_NO_PI.
      var request = [UInt8](repeating: 0, count: 40)
      request.replaceSubrange(0..<4, with: Array("tun7".utf8))
      request[16] = 0x01
      request[17] = 0x10
      let setInterface: UInt = 0x4004_54CA
      let made = request.withUnsafeMutableBytes { ioctl(tun, setInterface, $0.baseAddress!) }
      guard made == 0 else { throw Sandbox.Failure(description: "TUNSETIFF: errno \(errno)") }
      try Sandbox.ip("link set dev tun7 up")
      var ring = try PacketRing()
      let packet = Packets.v4(17, Packets.udp(40000, 53, id: 9))
      _ = write(tun, packet, packet.count)
      try collect(&ring, 1)
      ring.process(upTo: end) { header, bytes in
        load.note(header, bytes)
        firstBytes.append(bytes.unsafeLoad(fromByteOffset: 0, as: UInt8.self))
      }
    }
    #expect(load.frames == 1 && load.outgoing == 0)
    #expect(firstBytes == [0x45])
  }

  @Test func refusesAShapeThatCannotBe() {
    var options = PacketRingOptions()
    options.blockSize = 5000
    #expect(throws: SetupError.self) { _ = try PacketRing(options) }
    options.blockSize = 4096
    options.blockCount = 1
    #expect(throws: SetupError.self) { _ = try PacketRing(options) }
  }

  /// The loop sleeps while nothing is captured, though the kernel's retire timer runs, and a burst costs two wake-ups.
  @Test func idleWakesNobody() throws {
    var (idle, burst) = (UInt64.max, UInt64.max)
    var lent = 0
    try Sandbox.run {
      try Sandbox.vethPair()
      var ring = try PacketRing()
      var loop = try EventLoop()
      let ringToken = EventToken(0)
      try loop.add(ring.descriptor, as: ringToken, .swept)
      let sender = try FrameSender("a")
      for _ in 0..<50 { sender.send(Packets.query(1, port: 99)) }
      _ = loop.wait(timeoutMilliseconds: 500)
      idle = loop.wakeups
      for _ in 0..<100 { sender.send(Packets.query(1)) }
      while lent < 200, loop.wait(timeoutMilliseconds: 5000).contains(ringToken) {
        ring.collect()
        lent += ring.process(upTo: end) { _, _ in }
      }
      burst = loop.wakeups - idle
    }
    // One for the time that ran out.
    #expect(idle == 1)
    #expect(lent == 200)
    // Two a sweep; a slow sender may spread its burst over a few.
    #expect(burst >= 2 && burst <= 8)
  }

  @Test(.enabled(if: getenv("RACETRACK_BENCH") != nil, "a measurement: set RACETRACK_BENCH"))
  func walk() throws {
    var best = (collect: Int64.max, process: Int64.max)
    var frames = 0
    try Sandbox.run {
      try Sandbox.vethPair()
      var ring = try PacketRing()
      let sender = try FrameSender("a")
      for _ in 0..<20 {
        for _ in 0..<5000 { sender.send(Packets.query(1)) }
        let start = Clocks.monotonic() + 30 * Nanoseconds.perMillisecond
        while Clocks.monotonic() < start {}
        let before = Clocks.monotonic()
        ring.collect()
        let between = Clocks.monotonic()
        var bytes = 0
        frames = ring.process(upTo: end) { bytes &+= $1.byteCount }
        let after = Clocks.monotonic()
        best.collect = min(best.collect, (between - before) / Int64(max(1, frames)))
        best.process = min(best.process, (after - between) / Int64(max(1, frames)))
      }
    }
    print("ring walk: \(frames) frames, collect \(best.collect) ns, process \(best.process) ns a frame")
  }
}

/// Sends one query many times from a thread of its own, bound to a CPU.
private final class Sender {
  private let descriptor: Int32
  private let cpu: Int
  private let count: Int
  private var thread = pthread_t()

  private init(_ descriptor: Int32, _ cpu: Int, _ count: Int) {
    self.descriptor = descriptor
    self.cpu = cpu
    self.count = count
  }

  static func start(_ descriptor: Int32, cpu: Int, count: Int) -> Sender {
    let sender = Sender(descriptor, cpu, count)
    pthread_create(
      &sender.thread, nil,
      { context in
        let sender = Unmanaged<Sender>.fromOpaque(context!).takeUnretainedValue()
        var set = [UInt](repeating: 0, count: 16)
        set[0] = 1 << UInt(sender.cpu)
        _ = pinThread(pthread_self(), 128, &set)
        let frame = Packets.query(1)
        for _ in 0..<sender.count { while send(sender.descriptor, frame, frame.count, 0) < 0 {} }
        return nil
      }, Unmanaged.passUnretained(sender).toOpaque())
    return sender
  }

  func join() { pthread_join(thread, nil) }
}

@_silgen_name("pthread_setaffinity_np")
private func pinThread(_ thread: pthread_t, _ size: Int, _ set: UnsafePointer<UInt>) -> Int32
