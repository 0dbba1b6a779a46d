import Flows
import Testing

@testable import Correlation

@Suite struct ClashVerdictTests {
  /// One socket asks two service addresses that share a backend; the second never leaves.
  private func raceReply(_ scenario: Scenario, port: UInt16, id: UInt16 = 7, counted: Bool = true) -> (winner: Ask, loser: Ask) {
    let winner = Ask(scenario, port: port, to: scenario.vip, id: id, name: "race.example")
    let loser = Ask(scenario, port: port, to: scenario.secondVIP, id: id, name: "race.example")
    winner.entry()
    winner.asked()
    loser.asked()
    scenario.pass(5 * microsecond)
    winner.sent()
    if counted {
      scenario.counters.insertFailed += 1
      scenario.counters.drop += 1
    }
    scenario.pass(200 * microsecond)
    winner.came()
    winner.delivered()
    return (winner, loser)
  }

  @Test func replyClashIsObservedWhereTheCountersMovedByOne() throws {
    let scenario = Scenario()
    scenario.warmUp()
    let (_, loser) = raceReply(scenario, port: 40000)
    scenario.wait(15 * second)
    let lost = try #require(scenario.losses.first)
    #expect(scenario.losses.count == 1)
    #expect(lost.verdict == .replyClashDropped)
    #expect(lost.grade == .observed)
    #expect(lost.server == loser.server && lost.client == loser.client && lost.dnsID == 7)
    #expect(lost.winnerServer == scenario.vip)
    #expect(lost.insertFailedDelta == 1 && lost.dropDelta == 1)
    #expect(lost.name == Scenario.wire("race.example"))
    // Another server answered the same question of the socket: nobody waited.
    #expect(scenario.closings.map(\.impact) == [.none])
    #expect(scenario.isConserved)
  }

  @Test func manyRacesAreAllObserved() {
    let scenario = Scenario()
    scenario.warmUp()
    for index in 0..<100 {
      scenario.pass(millisecond)
      _ = raceReply(scenario, port: UInt16(30000 + index), id: UInt16(index))
      scenario.wait(Int64(3 + index % 7) * millisecond)
    }
    scenario.wait(15 * second)
    #expect(scenario.losses.count == 100)
    #expect(scenario.losses.allSatisfy { $0.verdict == .replyClashDropped && $0.grade == .observed })
    #expect(scenario.isConserved)
  }

  @Test func quietCountersMeanItWasNoRace() throws {
    let scenario = Scenario()
    scenario.warmUp()
    _ = raceReply(scenario, port: 40000, counted: false)
    scenario.wait(15 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.verdict == .droppedOnNode && lost.reason == .policyOrRoute && lost.grade == .observed)
    #expect(lost.evidence.contains(.countersQuiet))
  }

  @Test func foreignFailuresLowerTheGrade() throws {
    let scenario = Scenario()
    scenario.warmUp()
    _ = raceReply(scenario, port: 40000)
    scenario.counters.insertFailed += 3
    scenario.counters.drop += 3
    scenario.wait(15 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.verdict == .replyClashDropped && lost.grade == .inferred)
    #expect(lost.evidence.contains(.countersShared))
  }

  @Test func aPolicyDropBesideARaceIsNeverObservedAsOne() {
    let scenario = Scenario()
    scenario.warmUp()
    _ = raceReply(scenario, port: 40000)
    scenario.wait(30 * millisecond)
    // Looks like a race in everything but the counter.
    _ = raceReply(scenario, port: 40001, id: 8, counted: false)
    scenario.wait(15 * second)
    #expect(scenario.losses.count == 2)
    #expect(scenario.losses.allSatisfy { $0.grade == .inferred || $0.verdict == .replyClashDropped && $0.client.port == 40000 })
  }

  @Test func aDropAndAForeignFailureAPeriodApartDoNotMakeAnExactCount() {
    let scenario = Scenario()
    scenario.warmUp()
    _ = raceReply(scenario, port: 40001, id: 8, counted: false)
    scenario.wait(300 * millisecond)
    scenario.counters.insertFailed += 1
    scenario.counters.drop += 1
    scenario.wait(15 * second)
    #expect(scenario.losses.map(\.grade) == [.inferred])
  }

  @Test func aWinnerThatHadLeftBeforeIsNone() throws {
    let scenario = Scenario()
    scenario.warmUp()
    let winner = Ask(scenario, port: 40000, to: scenario.vip, id: 7)
    winner.answered()
    scenario.wait(20 * millisecond)
    Ask(scenario, port: 40000, to: scenario.secondVIP, id: 9).asked()
    scenario.counters.insertFailed += 1
    scenario.counters.drop += 1
    scenario.wait(15 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.verdict == .droppedOnNode)
  }

  @Test func sourceClashNamesTheOtherClient() throws {
    let scenario = Scenario()
    scenario.warmUp()
    func masqueraded(_ pod: IPAddress, _ device: UInt32, _ port: UInt16, _ id: UInt16) -> Ask {
      var ask = Ask(scenario, port: port, id: id, from: pod, device: device)
      ask.natted = Endpoint(scenario.nodeAddress, port)
      return ask
    }
    masqueraded(scenario.pod, 11, 25000, 1).answered()
    scenario.wait(2 * second)
    let winner = masqueraded(scenario.pod, 11, 40000, 2)
    let loser = masqueraded(scenario.otherPod, 12, 40000, 3)
    winner.entry()
    winner.asked()
    loser.asked()
    winner.sent()
    scenario.counters.insertFailed += 1
    scenario.counters.drop += 1
    winner.came()
    winner.delivered()
    scenario.wait(15 * second)
    let lost = try #require(scenario.losses.first)
    #expect(scenario.losses.count == 1)
    #expect(lost.verdict == .snatClashDropped && lost.grade == .observed)
    #expect(lost.winnerClient == winner.client)
    #expect(lost.client == loser.client)
  }

  @Test func classicRaceOfOneTupleOnOldKernels() throws {
    let scenario = Scenario()
    scenario.features = []
    scenario.warmUp()
    let a = Ask(scenario, port: 40000, id: 7, type: QueryType.a)
    let aaaa = Ask(scenario, port: 40000, id: 8, type: QueryType.aaaa)
    a.entry()
    a.asked()
    aaaa.asked()
    scenario.pass(5 * microsecond)
    a.sent()
    scenario.counters.insertFailed += 4  // counts resolved clashes too on these kernels
    scenario.counters.drop += 1
    a.came()
    a.delivered()
    scenario.wait(5 * second)
    // glibc: five seconds later both are asked again, one by one, and answered.
    let again = Ask(scenario, port: 40000, id: 8, type: QueryType.aaaa)
    again.asked()
    again.sent()
    again.came()
    again.delivered()
    scenario.wait(20 * second)
    let lost = try #require(scenario.losses.first)
    #expect(scenario.losses.count == 1)
    #expect(lost.verdict == .dnatClashDropped && lost.grade == .observed)
    #expect(lost.queryType == QueryType.aaaa && lost.siblingID == 7 && lost.siblingType == QueryType.a)
    let closed = try #require(scenario.closings.first)
    #expect(closed.impact == .delayed && closed.attempts == 2)
    #expect(abs(closed.delay - 5 * second) < 50 * millisecond)
  }

  /// A loser has no NEW, so that the first query ever sent to a backend may be one that no event names.
  @Test(arguments: [true, false]) func lateReplyOfAResolvedClash(isBackendKnown: Bool) throws {
    let scenario = Scenario()
    scenario.warmUp()
    if isBackendKnown { Ask(scenario, port: 26000, backend: scenario.secondBackend, id: 1).answered() }
    scenario.wait(2 * second)
    let winner = Ask(scenario, port: 40000, id: 7, type: QueryType.a)
    let loser = Ask(scenario, port: 40000, backend: scenario.secondBackend, id: 8, type: QueryType.aaaa)
    winner.entry()
    winner.asked()
    loser.asked()
    winner.sent()
    loser.sent()
    scenario.counters.clashResolve += 1
    scenario.wait(1500 * millisecond)
    winner.came()
    winner.delivered()
    scenario.new((loser.client, loser.server), reply: (loser.backend, loser.client), kind: .destroy, status: [.natClash, .confirmed])
    scenario.new((loser.backend, loser.client), reply: (loser.client, loser.backend))
    loser.came()
    loser.untranslated()
    scenario.wait(20 * second)
    let lost = try #require(scenario.losses.first)
    #expect(scenario.losses.count == 1)
    #expect(lost.verdict == .clashLateReply && lost.grade == .observed && lost.evidence.contains(.sent))
    #expect(lost.dnsID == 8 && lost.backend == scenario.secondBackend)
    #expect(scenario.closings.map(\.impact) == [.failed])
  }

  @Test func aResolvedClashThatIsAnsweredInTimeIsNoLoss() {
    let scenario = Scenario()
    scenario.warmUp()
    let loser = Ask(scenario, port: 40000, backend: scenario.secondBackend, id: 8)
    Ask(scenario, port: 40000, id: 7, type: QueryType.aaaa).answered()
    loser.asked()
    loser.sent()
    scenario.wait(20 * millisecond)
    scenario.new(
      (loser.client, loser.server), reply: (loser.backend, loser.client), kind: .update, status: [.natClash, .seenReply, .confirmed])
    loser.came()
    loser.delivered()
    scenario.wait(20 * second)
    #expect(scenario.losses.isEmpty)
    #expect(scenario.engine.totals.clashesResolvedNamed == 1)
    #expect(scenario.isConserved)
  }

  @Test func zonesKeepWinnersApart() throws {
    let scenario = Scenario()
    scenario.warmUp()
    let winner = Ask(scenario, port: 40000, to: scenario.vip, id: 7)
    let loser = Ask(scenario, port: 40000, to: scenario.secondVIP, id: 8)
    scenario.new((winner.client, winner.server), reply: (winner.backend, winner.client), zone: 9)
    winner.asked()
    loser.asked()
    scenario.wait(15 * second)
    // The entry stands in another zone: it took nothing from anyone here.
    #expect(scenario.losses.allSatisfy { !$0.verdict.isClash })
  }
}
