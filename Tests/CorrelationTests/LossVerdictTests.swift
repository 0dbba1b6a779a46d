import Flows
import Testing

@testable import Correlation

@Suite struct LossVerdictTests {
  @Test func ordinaryLookupsLoseNothing() {
    let scenario = Scenario()
    for index in 0..<500 {
      Ask(scenario, port: UInt16(20000 + index), id: UInt16(index)).answered()
      scenario.wait(2 * millisecond)
    }
    scenario.wait(20 * second)
    #expect(scenario.records.isEmpty)
    #expect(scenario.engine.totals.answered == 500 && scenario.engine.totals.open == 0)
    #expect(scenario.isConserved)
    #expect(scenario.engine.transmissions.count == 0 && scenario.engine.names.used == 0)
  }

  @Test func silenceOfTheBackendIsNoAnswer() throws {
    let scenario = Scenario()
    scenario.warmUp()
    let ask = Ask(scenario, port: 40000)
    ask.entry()
    ask.asked()
    ask.sent()
    scenario.wait(9 * second)
    #expect(scenario.losses.isEmpty)
    scenario.wait(20 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.verdict == .noAnswer && lost.reason == .silent && lost.grade == .observed)
    #expect(lost.backend == scenario.backend)
    #expect(scenario.closings.map(\.impact) == [.failed])
  }

  @Test func anAnswerThatCameAndWasNotDelivered() throws {
    let scenario = Scenario()
    scenario.warmUp()
    let ask = Ask(scenario, port: 40000)
    ask.entry()
    ask.asked()
    ask.sent()
    ask.came()
    scenario.wait(30 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.verdict == .answerDroppedOnNode && lost.grade == .observed)
  }

  @Test func aPolicyDropIsObservedWherePathsAreSeen() throws {
    let scenario = Scenario()
    scenario.warmUp()
    Ask(scenario, port: 40000).asked()
    scenario.wait(30 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.verdict == .droppedOnNode && lost.reason == .policyOrRoute && lost.grade == .observed)
  }

  @Test func aPathThatNeverShowedTheLegIsOnlyInferred() throws {
    let scenario = Scenario()
    Ask(scenario, port: 40000).asked()
    scenario.wait(30 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.grade == .inferred && lost.evidence.contains(.pathUnobserved))
  }

  @Test func aPathThatHidesTheSentLegIsNotCalledLossy() {
    let scenario = Scenario()
    for index in 0..<50 {
      let ask = Ask(scenario, port: UInt16(20000 + index), id: UInt16(index))
      ask.entry()
      ask.asked()
      scenario.wait(20 * millisecond)
      ask.came()
      ask.delivered()
    }
    scenario.wait(20 * second)
    #expect(scenario.losses.isEmpty)
    #expect(!scenario.isSentObservable)
    #expect(scenario.engine.totals.answered == 50)
  }

  @Test func lostAfterInsertionWhereItsOwnEntryWasMade() throws {
    let scenario = Scenario()
    scenario.warmUp()
    let ask = Ask(scenario, port: 40000)
    ask.entry()
    ask.asked()
    scenario.wait(30 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.verdict == .droppedOnNode && lost.reason == .afterInsertion && lost.grade == .observed)
  }

  @Test func aLostQueryOfAnEarlierEntryWasNoRace() throws {
    let scenario = Scenario()
    scenario.warmUp()
    Ask(scenario, port: 40000, id: 1).answered()
    scenario.wait(1 * second)
    Ask(scenario, port: 40000, id: 2, name: "b.example").asked()
    scenario.counters.insertFailed += 1
    scenario.counters.drop += 1
    scenario.wait(30 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.verdict == .droppedOnNode && lost.reason == .policyOrRoute)
  }

  /// That the entry of before was still there nobody saw: the end of an answered entry is not told. Another's failure may have been this one's.
  /// And a drop without one may be for want of room in the table.
  @Test(arguments: [(0, 0), (1, 1), (0, 1)] as [(UInt64, UInt64)]) func anEarlierEntryBesideFailuresOfOthers(failures: UInt64, drops: UInt64) throws {
    let scenario = Scenario()
    scenario.warmUp()
    Ask(scenario, port: 40000, id: 1).answered()
    scenario.wait(1 * second)
    Ask(scenario, port: 40000, id: 2, name: "b.example").asked()
    scenario.counters.insertFailed += failures
    scenario.counters.drop += drops
    scenario.wait(30 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.verdict == .droppedOnNode && lost.evidence.contains(.ownEntry) && lost.grade == (drops == 0 ? .observed : .inferred))
  }

  @Test func aRetryOfTheSameIDIsAnotherTransmissionOfTheSameQuery() throws {
    let scenario = Scenario()
    scenario.warmUp()
    let first = Ask(scenario, port: 40000)
    first.entry()
    first.asked()
    first.sent()
    scenario.wait(5 * second)
    first.asked()
    first.sent()
    first.came()
    first.delivered()
    scenario.wait(30 * second)
    #expect(scenario.losses.map(\.verdict) == [.noAnswer])
    #expect(scenario.losses.map(\.attempt) == [1])
    let closed = try #require(scenario.closings.first)
    #expect(closed.attempts == 2 && closed.impact == .delayed && abs(closed.delay - 5 * second) < 50 * millisecond)
    #expect(scenario.engine.totals.retries == 1)
    #expect(scenario.isConserved)
  }

  @Test func aRetryFromANewPortIsJoinedAndSaysSo() throws {
    let scenario = Scenario()
    scenario.warmUp()
    let first = Ask(scenario, port: 40000, id: 100)
    first.entry()
    first.asked()
    first.sent()
    scenario.wait(5 * second)
    Ask(scenario, port: 40001, id: 101).answered()
    scenario.wait(30 * second)
    let closed = try #require(scenario.closings.first)
    #expect(closed.impact == .delayed && !closed.impactObserved && closed.attempts == 2)
  }

  @Test func ringLossMakesUnansweredQueriesUnknown() throws {
    let scenario = Scenario()
    scenario.warmUp()
    scenario.engine.blindBegan(.packets, at: scenario.at, wall: scenario.wall, lost: 12)
    Ask(scenario, port: 40000).asked()
    scenario.wait(50 * millisecond)
    scenario.engine.blindEnded(.packets, at: scenario.at, wall: scenario.wall)
    scenario.wait(30 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.verdict == .unknown && lost.blindSource == .packets)
    #expect(scenario.engine.totals.unknown == 1 && scenario.isConserved)
    let window = scenario.records.compactMap { if case .blind(let window) = $0 { window } else { nil } }
    #expect(window.map(\.lost) == [12])
  }

  @Test func shutDownClosesWhatIsOpen() {
    let scenario = Scenario()
    scenario.warmUp()
    Ask(scenario, port: 40000).asked()
    scenario.engine.shutDown(at: scenario.at, wall: scenario.wall)
    scenario.records += scenario.engine.records
    #expect(scenario.losses.map(\.verdict) == [.unknown])
    #expect(scenario.losses.map(\.blindSource) == [.shutdown])
    #expect(scenario.engine.totals.open == 0 && scenario.isConserved)
  }

  @Test func fullTablesEvictAndStayConserved() {
    let scenario = Scenario { $0.transmissions = 64 }
    for index in 0..<200 {
      let ask = Ask(scenario, port: UInt16(20000 + index), id: UInt16(index))
      ask.asked()
    }
    scenario.wait(10 * millisecond)
    #expect(scenario.engine.totals.evicted == 136)
    #expect(scenario.isTablesBlind)
    #expect(scenario.isConserved)
    scenario.wait(40 * second)
    #expect(scenario.engine.transmissions.count == 0)
    #expect(!scenario.isTablesBlind)
    #expect(scenario.isConserved)
  }

  @Test func hostClientsAreAnsweredWithoutAnIngressCopy() {
    let scenario = Scenario()
    var ask = Ask(scenario, port: 40000, from: scenario.nodeAddress)
    ask.natted = ask.client
    ask.entry()
    ask.sent()
    ask.came()
    scenario.wait(30 * second)
    #expect(scenario.losses.isEmpty)
    #expect(scenario.engine.totals.transmissions[0] == 1 && scenario.engine.totals.answered == 1)
  }

  /// Absence is evidence only where presence was seen: for a process of the node too.
  @Test(arguments: [false, true]) func silenceTowardsAProcessOfTheNode(showsAnswers: Bool) throws {
    let scenario = Scenario()
    for (id, isAnswered) in [(1, true), (2, false)] as [(UInt16, Bool)] where !isAnswered || showsAnswers {
      var ask = Ask(scenario, port: 40000 + id, id: id, from: scenario.nodeAddress)
      ask.natted = ask.client
      ask.entry()
      ask.sent()
      if isAnswered { ask.came() }
      scenario.wait(1 * second)
    }
    scenario.wait(30 * second)
    #expect(scenario.losses.map(\.verdict) == [.noAnswer] && scenario.losses.map(\.grade) == [showsAnswers ? .observed : .inferred])
    #expect(scenario.losses.first?.evidence.contains(.pathUnobserved) == !showsAnswers)
    #expect(scenario.isDeliveredObservable == showsAnswers)
  }

  @Test func otherNodesQueriesToALocalBackendAreServerVantage() {
    let scenario = Scenario()
    let ask = Ask(scenario, port: 40000, to: scenario.backend, from: v4("10.9.9.9"), device: 2)
    ask.asked()
    ask.sent()
    ask.came()
    ask.delivered()
    scenario.wait(30 * second)
    #expect(scenario.losses.isEmpty)
    #expect(scenario.engine.totals.transmissions[Int(Vantage.server.rawValue)] == 1)
    #expect(scenario.engine.totals.transmissions[0] == 0)
  }

  @Test func transitIsCountedAndForgotten() {
    let scenario = Scenario()
    let ask = Ask(scenario, port: 40000, to: endpoint("8.8.8.8"), from: v4("10.9.9.9"), device: 2)
    ask.asked()
    scenario.copy(ask.client, ask.server, on: 2, out: true, ask.query, name: ask.name)
    scenario.wait(30 * second)
    #expect(scenario.records.isEmpty)
    #expect(scenario.engine.transmissions.count == 0)
  }

  @Test func equalIDsOnOtherPortsStayApart() {
    let scenario = Scenario()
    scenario.warmUp()
    let a = Ask(scenario, port: 40000, id: 5)
    let b = Ask(scenario, port: 40001, id: 5)
    for ask in [a, b] {
      ask.entry()
      ask.asked()
      ask.sent()
    }
    b.came()
    b.delivered()
    scenario.wait(30 * second)
    #expect(scenario.losses.map(\.client) == [a.client])
  }

  @Test func anAnswerWithoutAQuestionIsCredited() {
    let scenario = Scenario()
    scenario.warmUp()
    let ask = Ask(scenario, port: 40000, id: 5)
    ask.entry()
    ask.asked()
    ask.sent()
    var dns = DNSMessage()
    dns.id = 5
    dns.isResponse = true
    dns.responseCode = 1
    scenario.copy(ask.backend, ask.client, on: 21, out: false, dns, name: "")
    scenario.copy(ask.server, ask.client, on: 11, out: true, dns, name: "")
    scenario.wait(30 * second)
    #expect(scenario.losses.isEmpty)
    #expect(scenario.engine.totals.answersByCode[1] == 1)
  }
}

extension LossVerdictTests {
  /// An eBPF datapath shows neither leg: what comes of it may be wrong, says so, and the gauge tells it.
  @Test func aDatapathThatHidesBothLegsIsDoubted() {
    let scenario = Scenario()
    for index in 0..<10 {
      let ask = Ask(scenario, port: UInt16(20000 + index), id: UInt16(index))
      ask.asked()
      scenario.wait(20 * millisecond)
      ask.came()
    }
    scenario.wait(20 * second)
    #expect(scenario.losses.count == 10)
    #expect(scenario.losses.allSatisfy { $0.grade == .inferred && $0.evidence.contains(.pathUnobserved) })
    #expect(!scenario.isDeliveredObservable && !scenario.isSentObservable)
  }

  @Test func loopbackShowsEveryPacketTwice() {
    let scenario = Scenario()
    scenario.engine.deviceChanged(1, .loopback)
    let stub = endpoint("127.0.0.53")
    let ask = Ask(scenario, port: 40000, to: stub, from: v4("127.0.0.1"), device: 1)
    for out in [true, false] { scenario.copy(ask.client, stub, on: 1, out: out, ask.query, name: ask.name) }
    for out in [true, false] { scenario.copy(stub, ask.client, on: 1, out: out, ask.answerMessage(), name: ask.name) }
    scenario.wait(20 * second)
    #expect(scenario.losses.isEmpty)
    #expect(scenario.engine.totals.transmissions[0] == 1 && scenario.engine.totals.answered == 1)
    #expect(scenario.engine.totals.unmatchedAnswers == 0)
  }

  @Test func anEntryThatWasDeletedInFlight() throws {
    let scenario = Scenario()
    scenario.warmUp()
    let ask = Ask(scenario, port: 40000)
    ask.entry()
    ask.asked()
    ask.sent()
    scenario.wait(100 * millisecond)
    scenario.new((ask.client, ask.server), reply: (ask.backend, ask.client), kind: .destroy, status: [.confirmed])
    scenario.wait(50 * millisecond)
    scenario.new((ask.backend, ask.client), reply: (ask.client, ask.backend))
    ask.came()
    ask.untranslated()
    scenario.wait(20 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.verdict == .answerUntranslated && lost.reason == .entryDeleted && lost.grade == .observed)
  }

  @Test func anAnswerThatPassedConnectionTrackingByOnTheBridge() throws {
    let scenario = Scenario()
    scenario.engine.deviceChanged(11, .workload, master: 5)
    scenario.engine.deviceChanged(21, .workload, master: 5)
    let ask = Ask(scenario, port: 40000)
    ask.entry()
    ask.asked()
    ask.sent()
    ask.came()
    ask.untranslated()
    scenario.wait(20 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.verdict == .answerUntranslated && lost.reason == .bridgeBypass && lost.grade == .observed)
  }

  /// The entry ended when the answer had long gone by: that was not why.
  @Test func anEntryThatEndedAfterTheAnswerCameIsNoReason() throws {
    let scenario = Scenario { $0.unrepliedTimeout = 5 * second }
    scenario.engine.deviceChanged(11, .workload, master: 5)
    scenario.engine.deviceChanged(21, .workload, master: 5)
    let ask = Ask(scenario, port: 40000)
    ask.entry()
    ask.asked()
    ask.sent()
    ask.came()
    ask.untranslated()
    scenario.wait(5 * second)
    scenario.new((ask.client, ask.server), reply: (ask.backend, ask.client), kind: .destroy, status: [.confirmed])
    scenario.wait(20 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.verdict == .answerUntranslated && lost.reason == .bridgeBypass && lost.grade == .observed)
  }

  /// The counter is everybody's, and an entry that was deleted in that second looks the same.
  @Test func anEarlyDropIsNotSure() throws {
    let scenario = Scenario()
    scenario.warmUp()
    let ask = Ask(scenario, port: 40000)
    ask.entry()
    ask.asked()
    ask.sent()
    scenario.wait(100 * millisecond)
    scenario.counters.earlyDrop += 1
    scenario.new((ask.client, ask.server), reply: (ask.backend, ask.client), kind: .destroy, status: [.confirmed])
    scenario.wait(50 * millisecond)
    scenario.new((ask.backend, ask.client), reply: (ask.client, ask.backend))
    ask.came()
    ask.untranslated()
    scenario.wait(20 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.verdict == .answerUntranslated && lost.reason == .earlyDrop && lost.grade == .inferred)
  }

  @Test func updatesAreNoQuestions() {
    let scenario = Scenario()
    let ask = Ask(scenario, port: 40000)
    var update = ask.query
    update.opcode = 5
    scenario.copy(ask.client, ask.server, on: 11, out: false, update, name: ask.name)
    scenario.wait(20 * second)
    #expect(scenario.records.isEmpty && scenario.engine.totals.transmissions[0] == 0)
  }
}
