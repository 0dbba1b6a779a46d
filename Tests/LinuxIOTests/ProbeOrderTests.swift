import Testing

@testable import LinuxIO

@Suite struct ProbeOrderTests {
  private func arranged(_ times: [UInt64]) -> [Int] {
    var order = ProbeOrder(capacity: 4)
    // What it was used for before is forgotten.
    order.arrange(3) { _ in 1 }
    order.arrange(times.count) { times[$0] }
    return order.places
  }

  /// One CPU took its place in the ring and was interrupted before it read the clock; the other's events came meanwhile.
  @Test func eventsOfTwoCPUsComeInOrderOfTime() {
    #expect(arranged([100, 140, 110, 120, 130, 150]) == [0, 2, 3, 4, 1, 5])
    #expect(arranged([5, 4, 3, 2, 1]) == [4, 3, 2, 1, 0])
    #expect(arranged([]) == [])
    #expect(arranged([7]) == [0])
  }

  @Test func equalTimesStayAsTheyLay() { #expect(arranged([2, 1, 2, 1, 2]) == [1, 3, 0, 2, 4]) }

  /// A whole ring of two CPUs, each in order of its own, woven at random: nothing is lost, and the result is sorted.
  @Test func aFullRingWovenAtRandom() {
    var random = SystemRandomNumberGenerator()
    for _ in 0..<20 {
      var clocks: [UInt64] = [0, 0]
      let times = (0..<KernelProbe.eventsPerDrain).map { _ in
        let cpu = Int.random(in: 0...1, using: &random)
        clocks[cpu] += UInt64.random(in: 0...2000, using: &random)
        return clocks[cpu]
      }
      let places = arranged(times)
      #expect(places.sorted() == Array(times.indices))
      #expect(places.map { times[$0] } == times.sorted())
    }
  }

  /// 1 MiB of ring holds no more than one drain takes: all of it is put in order together.
  @Test func aDrainTakesAWholeRing() { #expect((1 << 20) / (KernelProbe.eventSize + 8) <= KernelProbe.eventsPerDrain) }
}
