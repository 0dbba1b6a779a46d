import Correlation
import Flows
import LinuxIO
import Testing
import Wire

/// Frames with the kernel's wall-clock stamps, put on the monotonic line and judged as in `Pipeline.take`, while the wall clock is stepped.
@Suite struct ClockStepTests {
  /// A node with a pod behind device 11 and a server behind device 21, in sweeps of 20 ms.
  private final class Rig {
    static let sweep = 20 * Nanoseconds.perMillisecond
    var monotonic: Int64 = 500 * Nanoseconds.perSecond
    var wall: Int64 = 1_795_000_000 * Nanoseconds.perSecond
    var clock: WallToMonotonic
    var decoder = PacketDecoder(hashSeed: 3)
    var engine: Engine
    var records: [Record] = []

    init() {
      clock = WallToMonotonic(monotonic: Instant(nanoseconds: monotonic), wall: WallTime(nanoseconds: wall))
      engine = Engine(EngineConfiguration(), now: clock.now, wall: clock.wallNow)
      engine.deviceChanged(11, .workload)
      engine.deviceChanged(21, .workload)
    }

    func pass(_ nanoseconds: Int64) {
      monotonic += nanoseconds
      wall += nanoseconds
    }

    /// Copies with the stamps they were given are taken in the sweep that follows.
    private var frames: [(stamp: Int64, bytes: [UInt8], interface: UInt32, isOutgoing: Bool)] = []

    func copy(_ bytes: [UInt8], on interface: UInt32, out: Bool) {
      frames.append((wall, bytes, interface, out))
      pass(50 * Nanoseconds.perMicrosecond)
    }

    func sweep() {
      pass(Self.sweep)
      clock.sweep(monotonic: Instant(nanoseconds: monotonic), wall: WallTime(nanoseconds: wall))
      for frame in frames {
        guard let packet = try? decoder.decode(frame.bytes.span.bytes, etherType: 0x0800) else { continue }
        let stamp = WallTime(nanoseconds: frame.stamp)
        let observation = PacketObservation(
          time: clock.instant(of: stamp), wallTime: stamp, interface: frame.interface, isOutgoing: frame.isOutgoing, source: packet.source,
          destination: packet.destination, dns: packet.dns)
        decoder.withName(in: frame.bytes.span.bytes) { name in engine.observe(observation, name: name) }
      }
      frames.removeAll()
      engine.advance(to: clock.now, wall: clock.wallNow)
      records += engine.records
      engine.records.removeAll()
    }

    func sweep(for nanoseconds: Int64) {
      let end = monotonic + nanoseconds
      while monotonic < end { sweep() }
    }

    var isConserved: Bool {
      let totals = engine.totals
      return totals.transmissions[0] == totals.answered + totals.lost + totals.unknown + totals.evicted + totals.open
    }
    var answered: UInt64 { engine.totals.answered }
  }

  private static func packet(_ id: UInt16, answer: Bool) -> [UInt8] {
    func big(_ values: [UInt16]) -> [UInt8] { values.flatMap { [UInt8($0 >> 8), UInt8($0 & 0xFF)] } }
    let message = big([id, answer ? 0x8180 : 0x0100, 1, 0, 0, 0]) + [1, 0x61, 0] + big([1, 1])
    let (client, server): ([UInt8], [UInt8]) = ([10, 0, 1, 2], [10, 1, 1, 2])
    let ports: [UInt16] = answer ? [53, 40000 + id] : [40000 + id, 53]
    let length = UInt16(8 + message.count)
    return [0x45, 0] + big([20 + length, 0, 0]) + [64, 17, 0, 0] + (answer ? server + client : client + server) + big(ports + [length, 0]) + message
  }

  private func ask(_ rig: Rig, _ id: UInt16) {
    rig.copy(Self.packet(id, answer: false), on: 11, out: false)
    rig.copy(Self.packet(id, answer: false), on: 21, out: true)
  }

  private func answer(_ rig: Rig, _ id: UInt16) {
    rig.copy(Self.packet(id, answer: true), on: 21, out: false)
    rig.copy(Self.packet(id, answer: true), on: 11, out: true)
  }

  /// Between a query and its answer, within a sweep and between sweeps: every query stays answered, and nothing is said.
  @Test(arguments: [3600, -3600, 1, -1] as [Int64]) func healthyQueriesAcrossAStep(seconds: Int64) {
    let rig = Rig()
    for id: UInt16 in 0..<200 {
      ask(rig, id)
      if id % 50 == 20 { rig.wall += seconds * Nanoseconds.perSecond }
      if id % 3 == 0 { rig.sweep() }
      if id % 50 == 45 { rig.wall -= seconds * Nanoseconds.perSecond }
      answer(rig, id)
      rig.sweep()
    }
    rig.sweep(for: 30 * Nanoseconds.perSecond)
    #expect(rig.records.isEmpty)
    #expect(rig.answered == 200 && rig.isConserved)
  }

  /// A loss keeps its verdict, and its delay is that of the monotonic clock.
  @Test(arguments: [3600, -3600] as [Int64]) func aLossAcrossAStepKeepsItsDelay(seconds: Int64) throws {
    let rig = Rig()
    for id: UInt16 in 0..<20 {
      ask(rig, id)
      answer(rig, id)
      rig.sweep()
    }
    rig.sweep(for: 2 * Nanoseconds.perSecond)
    rig.copy(Self.packet(77, answer: false), on: 11, out: false)
    rig.sweep(for: 2 * Nanoseconds.perSecond)
    rig.wall += seconds * Nanoseconds.perSecond
    rig.sweep(for: 3 * Nanoseconds.perSecond)
    ask(rig, 77)
    answer(rig, 77)
    rig.sweep(for: 30 * Nanoseconds.perSecond)
    let lost = rig.records.compactMap { if case .lost(let lost) = $0 { lost } else { nil } }
    #expect(lost.count == 1 && lost.first?.verdict == .droppedOnNode && lost.first?.dnsID == 77)
    let closed = try #require(rig.records.compactMap { if case .closed(let closed) = $0 { closed } else { nil } }.first)
    #expect(closed.impact == .delayed && closed.attempts == 2)
    #expect(abs(closed.delay - 5 * Nanoseconds.perSecond) < 100 * Nanoseconds.perMillisecond)
    #expect(rig.isConserved)
  }
}
