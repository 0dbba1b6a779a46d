import Flows
import Testing

@testable import Correlation

/// How long what was seen stays good as evidence.
@Suite struct WitnessTests {
  @Test func aWinnerAskedInTheTickBeforeIsStillThereAtTheVerdict() throws {
    let scenario = Scenario()
    scenario.features = []
    scenario.warmUp()
    let a = Ask(scenario, port: 40000, id: 7, type: QueryType.a)
    let aaaa = Ask(scenario, port: 40000, id: 8, type: QueryType.aaaa)
    // The two copies lie a microsecond apart on both sides of a tick of the timers.
    scenario.pass(10 * millisecond - scenario.at.nanoseconds % (10 * millisecond) - microsecond)
    a.entry()
    a.asked()
    aaaa.asked()
    #expect(aaaa.scenario.at.nanoseconds % (10 * millisecond) == microsecond)
    scenario.pass(5 * microsecond)
    a.sent()
    scenario.counters.insertFailed += 1
    scenario.counters.drop += 1
    a.came()
    a.delivered()
    scenario.pass(10 * millisecond - scenario.at.nanoseconds % (10 * millisecond))
    scenario.wait(20 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.verdict == .dnatClashDropped)
    #expect(lost.reason == .none)
    #expect(lost.grade == .observed)
  }

  @Test func theSameIfTheAgentSleptOverIt() throws {
    let scenario = Scenario()
    scenario.features = []
    scenario.warmUp()
    let a = Ask(scenario, port: 40000, id: 7, type: QueryType.a)
    let aaaa = Ask(scenario, port: 40000, id: 8, type: QueryType.aaaa)
    a.entry()
    a.asked()
    scenario.pass(30 * millisecond)
    aaaa.asked()
    a.sent()
    a.came()
    a.delivered()
    scenario.pass(5 * second)
    scenario.wait(20 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.reason != .afterInsertion)
  }

  /// The first races after start, at slow backends: the path shows its legs only after the second in which the loser would have been judged, so
  /// that its verdict falls ten seconds on, when the winner has long been answered.
  @Test(arguments: ["race.example", "other.example"], [true, false])
  func aWinnerIsRememberedUntilALateVerdict(loserName: String, winnerIsFirst: Bool) throws {
    let scenario = Scenario()
    scenario.wait(1 * second)
    let winner = Ask(scenario, port: 40000, id: 7, name: "race.example", type: QueryType.a)
    let loser = Ask(scenario, port: 40000, id: 8, name: loserName, type: QueryType.aaaa)
    winner.entry()
    (winnerIsFirst ? winner : loser).asked()
    (winnerIsFirst ? loser : winner).asked()
    scenario.pass(5 * microsecond)
    winner.sent()
    scenario.counters.insertFailed += 1
    scenario.counters.drop += 1
    scenario.wait(3 * second / 2)
    #expect(scenario.losses.isEmpty)
    winner.came()
    winner.delivered()
    scenario.wait(20 * second)
    let lost = try #require(scenario.losses.first)
    #expect(scenario.losses.count == 1)
    #expect(lost.dnsID == 8)
    #expect(lost.verdict == .dnatClashDropped)
    #expect(lost.reason == .none)
    #expect(lost.grade == .observed)
    #expect(scenario.isConserved)
  }

  @Test func anEntryThatMayBeLongDeadDoesNotHideARace() throws {
    let scenario = Scenario()
    scenario.warmUp()
    // Minutes ago the same port asked the other server. The end of an answered entry is not told.
    Ask(scenario, port: 40000, to: scenario.secondVIP, id: 3, name: "old.example").answered()
    scenario.wait(90 * second)
    for (index, server) in [scenario.vip, scenario.secondVIP].enumerated() {
      Ask(scenario, port: UInt16(23000 + index), to: server, id: 9).answered()
    }
    scenario.wait(1 * second)
    let winner = Ask(scenario, port: 40000, to: scenario.vip, id: 7)
    let loser = Ask(scenario, port: 40000, to: scenario.secondVIP, id: 7)
    winner.entry()
    winner.asked()
    loser.asked()
    scenario.pass(5 * microsecond)
    winner.sent()
    scenario.counters.insertFailed += 1
    scenario.counters.drop += 1
    scenario.pass(200 * microsecond)
    winner.came()
    winner.delivered()
    scenario.wait(15 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.verdict == .replyClashDropped && lost.grade == .observed)
  }

  @Test func anEntryInUseIsStillAnEarlierEntry() throws {
    let scenario = Scenario()
    scenario.warmUp()
    for index in 0..<10 {
      Ask(scenario, port: 40000, id: UInt16(index), name: "\(index).example").answered()
      scenario.wait(15 * second)
    }
    Ask(scenario, port: 40000, id: 99).asked()
    scenario.wait(30 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.verdict == .droppedOnNode && lost.reason == .policyOrRoute && lost.evidence.contains(.ownEntry))
  }

  @Test func aDumpDoesNotMakeAnEntryYounger() throws {
    let scenario = Scenario()
    scenario.warmUp()
    let ask = Ask(scenario, port: 40000, id: 1)
    ask.answered()
    scenario.wait(1 * second)
    Ask(scenario, port: 40000, id: 2, name: "b.example").asked()
    scenario.wait(100 * millisecond)
    scenario.new((ask.client, ask.server), reply: (ask.backend, ask.client), kind: .dumped)
    scenario.wait(30 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.reason == .policyOrRoute && lost.evidence.contains(.ownEntry))
  }

  @Test func anEntryOfADumpIsNoWinner() throws {
    let scenario = Scenario()
    scenario.warmUp()
    let loser = Ask(scenario, port: 40000, to: scenario.secondVIP, id: 8)
    loser.asked()
    scenario.counters.insertFailed += 1
    scenario.counters.drop += 1
    scenario.wait(100 * millisecond)
    // Read from the table after a resync: when it was made nobody knows.
    scenario.new((loser.client, scenario.vip), reply: (scenario.backend, loser.client), kind: .dumped)
    scenario.wait(30 * second)
    #expect(scenario.losses.map(\.verdict.isClash) == [false])
  }

  @Test func anEntryUsedAgainIsNotTheOldest() {
    let scenario = Scenario { $0.entries = 64 }
    let ask = Ask(scenario, port: 40000, id: 1)
    ask.entry()
    for index in 0..<62 { Ask(scenario, port: UInt16(20000 + index), id: 2).entry() }
    scenario.wait(10 * second)
    ask.entry()
    for index in 0..<4 {
      Ask(scenario, port: UInt16(21000 + index), id: 2).entry()
      scenario.wait(10 * millisecond)
    }
    #expect(!scenario.isTablesBlind)
    #expect(scenario.engine.entries.find(original: FiveTuple(udp: ask.client, ask.server), zone: 0) >= 0)
  }

  @Test func aTimerBeyondTheWheelDoesNotJudgeEarly() {
    let scenario = Scenario()
    scenario.warmUp()
    // The agent was stopped for a minute; the ring kept what happened in its last half second.
    scenario.pass(60 * second)
    let ask = Ask(scenario, port: 40000)
    ask.entry()
    ask.asked()
    scenario.engine.advance(to: scenario.at, wall: scenario.wall)
    ask.sent()
    ask.came()
    ask.delivered()
    scenario.wait(30 * second)
    #expect(scenario.losses.isEmpty)
  }

  @Test func aLongTimeoutIsWaitedFor() {
    let scenario = Scenario { $0.timeout = 300 * second }
    scenario.warmUp()
    let ask = Ask(scenario, port: 40000)
    ask.entry()
    ask.asked()
    ask.sent()
    scenario.wait(299 * second)
    #expect(scenario.losses.isEmpty)
    scenario.wait(2 * second)
    #expect(scenario.losses.map(\.verdict) == [.noAnswer])
    scenario.wait(301 * second)
    #expect(scenario.closings.count == 1 && scenario.engine.transmissions.count == 0)
  }

  @Test func aLateReplyNeedsAClashOfItsOwnTime() throws {
    let scenario = Scenario()
    scenario.warmUp()
    let ask = Ask(scenario, port: 40000, backend: scenario.secondBackend, id: 8)
    // A clash of an earlier life of this port.
    scenario.new((ask.client, ask.server), reply: (ask.backend, ask.client), kind: .destroy, status: [.natClash, .confirmed])
    scenario.wait(60 * second)
    ask.entry()
    ask.asked()
    ask.sent()
    scenario.wait(1500 * millisecond)
    scenario.new((ask.client, ask.server), reply: (ask.backend, ask.client), kind: .destroy)
    scenario.new((ask.backend, ask.client), reply: (ask.client, ask.backend))
    ask.came()
    ask.untranslated()
    scenario.wait(20 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.verdict == .answerUntranslated && lost.reason == .entryDeleted)
  }
}
