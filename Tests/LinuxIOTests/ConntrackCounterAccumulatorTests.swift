import Flows
import LinuxIO
import Testing

@Suite struct ConntrackCounterAccumulatorTests {
  func reading(_ cpu: UInt16, failed: UInt32, drop: UInt32 = 0) -> ConntrackCPUReading {
    var reading = ConntrackCPUReading(cpu: cpu)
    reading.insertFailed = failed
    reading.drop = drop
    return reading
  }

  func take(_ accumulator: inout ConntrackCounterAccumulator, _ readings: ConntrackCPUReading...) {
    accumulator.beginReading()
    for reading in readings { accumulator.take(reading) }
  }

  @Test func theFirstReadingIsTheBase() {
    var a = ConntrackCounterAccumulator()
    take(&a, reading(0, failed: 1_000_000), reading(1, failed: 7))
    #expect(a.counters == ConntrackCounters())
    take(&a, reading(0, failed: 1_000_003, drop: 1), reading(1, failed: 12))
    #expect(a.counters.insertFailed == 8)
    #expect(a.counters.drop == 1)
    #expect(a.counters(cpu: 0)?.insertFailed == 3)
    #expect(a.counters(cpu: 1)?.insertFailed == 5)
    #expect(a.counters(cpu: 2) == nil)
  }

  @Test func wrapsPerCPUAndCounter() {
    var a = ConntrackCounterAccumulator()
    take(&a, reading(0, failed: .max - 1, drop: 10), reading(1, failed: 5, drop: .max))
    take(&a, reading(0, failed: 3, drop: 11), reading(1, failed: 6, drop: 0))
    #expect(a.counters.insertFailed == 5 + 1)
    #expect(a.counters.drop == 1 + 1)
    for step in 1...5 { take(&a, reading(0, failed: 3 &+ 0xF000_0000 &* UInt32(step), drop: 11), reading(1, failed: 6, drop: 0)) }
    #expect(a.counters.insertFailed == 6 + 5 * 0xF000_0000)
  }

  @Test func aCPUThatAppearsLaterStartsAtItsFirstSight() {
    var a = ConntrackCounterAccumulator()
    take(&a, reading(0, failed: 1))
    take(&a, reading(0, failed: 2), reading(5, failed: 900))
    #expect(a.counters.insertFailed == 1)
    #expect(a.cpuCount == 6)
    #expect(a.counters(cpu: 3) == nil)
    take(&a, reading(0, failed: 2), reading(5, failed: 901))
    #expect(a.counters.insertFailed == 2)
  }

  @Test func aCPUThatComesBackGoesOnOrStartsAnew() {
    var a = ConntrackCounterAccumulator()
    take(&a, reading(0, failed: 0), reading(1, failed: 100), reading(2, failed: 100))
    take(&a, reading(0, failed: 0), reading(1, failed: 110), reading(2, failed: 110))
    take(&a, reading(0, failed: 0))
    #expect(a.counters.insertFailed == 20)
    take(&a, reading(0, failed: 0), reading(1, failed: 115), reading(2, failed: 3))
    #expect(a.counters.insertFailed == 25)
    take(&a, reading(0, failed: 0), reading(1, failed: 115), reading(2, failed: 4))
    #expect(a.counters.insertFailed == 26)
    #expect(a.counters(cpu: 2)?.insertFailed == 11)
  }

  @Test func everyCounterIsItsOwn() {
    let fields: [(WritableKeyPath<ConntrackCPUReading, UInt32>, KeyPath<ConntrackCounters, UInt64>)] = [
      (\.found, \.found), (\.invalid, \.invalid), (\.insert, \.insert), (\.insertFailed, \.insertFailed), (\.drop, \.drop),
      (\.earlyDrop, \.earlyDrop), (\.error, \.error), (\.searchRestart, \.searchRestart), (\.clashResolve, \.clashResolve),
      (\.chainTooLong, \.chainTooLong),
    ]
    var a = ConntrackCounterAccumulator()
    take(&a, ConntrackCPUReading(cpu: 0))
    var now = ConntrackCPUReading(cpu: 0, features: [.clashResolve], unknownAttributes: 2)
    for (index, field) in fields.enumerated() { now[keyPath: field.0] = UInt32(index + 1) }
    take(&a, now)
    for (index, field) in fields.enumerated() { #expect(a.counters[keyPath: field.1] == UInt64(index + 1)) }
    #expect(a.features == [.clashResolve])
    #expect(a.unknownAttributes == 2)
  }

  @Test func neverBackwards() {
    var a = ConntrackCounterAccumulator()
    var last: UInt64 = 0
    var seed: UInt32 = 1
    for _ in 0..<1_000 {
      seed = seed &* 1_664_525 &+ 1_013_904_223
      if seed & 0x300 == 0 { take(&a) } else { take(&a, reading(UInt16(seed >> 28), failed: seed)) }
      #expect(a.counters.insertFailed >= last)
      last = a.counters.insertFailed
    }
  }
}
