import Flows
import Testing

@testable import Correlation

/// The exactness of the counters against whatever moves them.
@Suite struct CounterHistoryTests {
  /// A history on its own clock, in milliseconds.
  private final class Rig {
    var history = CounterHistory()
    var counters = ConntrackCounters()
    var features: ConntrackFeatures = [.clashResolve, .chainTooLong]

    func at(_ milliseconds: Double) -> Instant { Instant(nanoseconds: 1000 * second + Int64(milliseconds * 1e6)) }
    func read(_ milliseconds: Double, entries: UInt32 = 0, limit: UInt32 = 0) {
      history.add(
        CounterSample(
          before: at(milliseconds), after: at(milliseconds + 0.05), counters: counters, features: features, entries: entries, entriesLimit: limit))
    }
    func fail(_ number: UInt64 = 1) {
      counters.insertFailed &+= number
      counters.drop &+= number
    }
    func finding(_ milliseconds: Double) -> CounterFinding { history.finding(around: at(milliseconds)).finding }
    func wasFull(_ milliseconds: Double) -> Bool { history.finding(around: at(milliseconds)).tableWasFull }
    func candidate(_ milliseconds: Double) { _ = history.addCandidate(at: at(milliseconds)) }
  }

  /// Readings every 100 ms from -1 s to 3 s, failures at the times given, candidates at 1000 and what is given.
  private func finding(failures: [Double], candidates: [Double], around: Double = 1000, period: Double = 100) -> CounterFinding {
    let rig = Rig()
    for time in candidates { rig.candidate(time) }
    var pending = failures.sorted()
    var time = -1000.0
    while time <= 3000 {
      while let first = pending.first, first <= time {
        rig.fail()
        pending.removeFirst()
      }
      rig.read(time)
      time += period
    }
    return rig.finding(around)
  }

  @Test func oneCandidateAndOneFailureIsExactWhereverItFallsBetweenReadings() {
    for offset in stride(from: 0.0, to: 100.0, by: 0.7) {
      #expect(finding(failures: [1000 + offset + 0.03], candidates: [1000 + offset], around: 1000 + offset) == .exact)
    }
  }

  @Test func aForeignFailureInTheSecondAroundIsNeverExact() {
    for offset in stride(from: -490.0, to: 490.0, by: 3.7) {
      #expect(finding(failures: [1000.03, 1000 + offset], candidates: [1000]) != .exact)
    }
  }

  @Test func aFalseCandidateAndAForeignFailureAReadingApartAreNotExact() {
    for offset in stride(from: -490.0, to: 490.0, by: 3.7) where abs(offset) > 110 {
      #expect(finding(failures: [1000 + offset], candidates: [1000]) != .exact)
    }
  }

  @Test func twoCandidatesOfWhichOneIsFalseAreNotExact() {
    for offset in stride(from: -480.0, to: 480.0, by: 7.3) {
      #expect(finding(failures: [1000.03], candidates: [1000, 1000 + offset].sorted()) != .exact)
    }
  }

  /// Candidates and readings as an emulated node with busy processors showed them: one insertion came 2 ms late, and no reading followed for 33 ms.
  @Test func anInsertionThatWasHeldUpIsNotMissing() {
    let candidates = [-30.7, 1.6, 9.4, 16.4, 22.0, 30.5, 38.4].map { 1000 + $0 }
    for isLate in [true, false] {
      let rig = Rig()
      for time in candidates { rig.candidate(time) }
      rig.read(400)
      rig.fail()
      for time in [990.0, 995.6] { rig.read(time) }
      rig.fail(2)
      for time in [1018.5, 1019.0] { rig.read(time) }
      rig.fail(isLate ? 4 : 3)
      for time in [1052.5, 1065.8, 1081.2, 1101.6, 1127.1, 1600] { rig.read(time) }
      #expect(rig.finding(1001.6) == (isLate ? .shared : .insufficient))
    }
  }

  @Test func manyOfBothAreExact() {
    let times = (0..<400).map { 500 + Double($0) * 2.5 }
    #expect(finding(failures: times.map { $0 + 0.02 }, candidates: times) == .exact)
    #expect(finding(failures: times.map { $0 + 0.02 } + [1100], candidates: times) != .exact)
    #expect(finding(failures: Array(times.map { $0 + 0.02 }.dropLast(200)), candidates: times) != .exact)
  }

  @Test func readingsTooFarApartProveNothing() {
    // The source was down for eight seconds; one failure in them is not this candidate's.
    let rig = Rig()
    rig.candidate(1000)
    rig.read(-900)
    rig.read(-800)
    rig.fail()
    rig.read(7200)
    rig.read(7300)
    #expect(rig.finding(1000) == .shared)
  }

  @Test func aWithdrawnCandidateDoesNotCount() {
    let rig = Rig()
    let first = rig.history.addCandidate(at: rig.at(1000))
    rig.candidate(1000.5)
    rig.read(400)
    rig.read(900)
    rig.fail()
    rig.read(1100)
    rig.read(1600)
    #expect(rig.finding(1000) != .exact)
    rig.history.withdraw(first, at: rig.at(1000))
    #expect(rig.finding(1000) == .exact)
  }

  @Test func longChainsAreNobodysRace() {
    let rig = Rig()
    rig.candidate(1000)
    rig.read(400)
    rig.read(900)
    rig.counters.insertFailed += 1
    rig.counters.chainTooLong += 1
    rig.read(1100)
    rig.read(1600)
    #expect(rig.finding(1000) != .exact)
  }

  @Test func aFullTableIsKnownFromTheLatestReadingOfItsSize() {
    let rig = Rig()
    rig.read(0, entries: 990, limit: 1000)
    rig.read(400)
    rig.read(900)
    rig.counters.drop += 1
    rig.read(1100)
    rig.read(1600)
    #expect(rig.wasFull(1000))
    rig.read(2000, entries: 500, limit: 1000)
    rig.read(2900)
    rig.counters.drop += 1
    rig.read(3100)
    rig.read(3600)
    #expect(!rig.wasFull(3000))
  }

  @Test func onOldKernelsADropOfTheFullTableIsNoRace() {
    let rig = Rig()
    rig.features = []
    rig.candidate(1000)
    rig.read(400, entries: 1000, limit: 1000)
    rig.read(900)
    rig.counters.drop += 1
    rig.read(1100)
    rig.read(1600)
    #expect(rig.finding(1000) != .exact)
  }

  @Test func countersThatGoBackwardsDoNotTrap() {
    let rig = Rig()
    rig.counters.insertFailed = 10
    rig.counters.drop = 9
    rig.candidate(1000)
    rig.read(400)
    rig.read(900)
    rig.counters.insertFailed = 0
    rig.counters.drop = 3
    rig.read(1100)
    rig.read(1600)
    #expect(rig.finding(1000) != .exact)
  }

  @Test func dropAloneIsNotQuiet() throws {
    let scenario = Scenario()
    scenario.warmUp()
    Ask(scenario, port: 40000).asked()
    scenario.counters.drop += 1
    scenario.wait(30 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.verdict == .droppedOnNode && lost.grade == .inferred)
    #expect(!lost.evidence.contains(.countersQuiet) && lost.dropDelta == 1)
  }

  @Test func failuresThatNobodyExplainsLowerAPolicyDrop() throws {
    let scenario = Scenario()
    scenario.warmUp()
    Ask(scenario, port: 40000).asked()
    scenario.fail(1)
    scenario.wait(30 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.verdict == .droppedOnNode && lost.grade == .inferred)
  }

  @Test func twoUnsentOnOneNewEntryAreNotBothObserved() {
    let scenario = Scenario()
    scenario.warmUp()
    let a = Ask(scenario, port: 40000, id: 7, type: QueryType.a)
    let aaaa = Ask(scenario, port: 40000, id: 8, type: QueryType.aaaa)
    a.entry()
    a.asked()
    aaaa.asked()
    scenario.fail(1)
    scenario.wait(30 * second)
    #expect(scenario.losses.count == 2)
    #expect(scenario.losses.allSatisfy { $0.grade == .inferred })
  }

  /// Every loss that a reading of the second around can hold must be a candidate when the verdict falls, wherever the sweeps lie.
  @Test func aStreamOfRacesIsObservedAtEveryPhaseOfTheSweeps() {
    for phase in 0..<10 {
      let scenario = Scenario()
      scenario.warmUp()
      for index in 0..<200 {
        scenario.pass(millisecond)
        let port = UInt16(30000 + index)
        let winner = Ask(scenario, port: port, to: scenario.vip, id: UInt16(index))
        let loser = Ask(scenario, port: port, to: scenario.secondVIP, id: UInt16(index))
        winner.entry()
        winner.asked()
        loser.asked()
        winner.sent()
        scenario.fail(1)
        winner.came()
        winner.delivered()
        // A busy machine: sweeps are late.
        scenario.pass(Int64(phase) * 9 * millisecond)
        scenario.wait(10 * millisecond)
      }
      scenario.wait(15 * second)
      #expect(scenario.losses.count == 200)
      #expect(scenario.losses.count { $0.grade == .observed } == 200, "phase \(phase)")
    }
  }

  @Test func thousandsOfLossesASecondAreJudgedInTime() {
    let rig = Rig()
    for index in 0..<30_000 { rig.candidate(Double(index) * 0.1) }
    for index in 0..<40 {
      rig.read(Double(index) * 100)
      rig.fail(1000)
    }
    let clock = ContinuousClock()
    let spent = clock.measure {
      for index in 0..<100 { _ = rig.finding(1000 + Double(index) * 10) }
    }
    print("100 findings over 10,000 losses a second: \(spent)")
    #expect(spent < .seconds(3))
  }
}

extension Scenario {
  func fail(_ number: UInt64) {
    counters.insertFailed += number
    counters.drop += number
  }
}
