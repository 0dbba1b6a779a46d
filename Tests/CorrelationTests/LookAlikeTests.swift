import Flows
import Testing

@testable import Correlation

/// What is dropped before or without an insertion: invalid packets, a full table; and what leaves by the wrong device.
@Suite struct LookAlikeTests {
  private func warm() -> Scenario {
    let scenario = Scenario()
    scenario.warmUp()
    return scenario
  }

  // MARK: Invalid

  private func invalid(_ scenario: Scenario, moves: UInt64 = 1, leaves: Bool = false) -> Ask {
    let ask = Ask(scenario, port: 40000, id: 7)
    scenario.copy(ask.client, ask.server, on: 11, out: false, ask.query, name: ask.name, badChecksum: true)
    scenario.counters.invalid += moves
    if leaves { scenario.copy(ask.client, ask.server, on: 2, out: true, ask.query, name: ask.name) }
    return ask
  }

  @Test(arguments: [false, true]) func aWrongChecksumThatConntrackRefused(leaves: Bool) throws {
    let scenario = warm()
    _ = invalid(scenario, leaves: leaves)
    scenario.wait(30 * second)
    let lost = try #require(scenario.losses.first)
    #expect(scenario.losses.count == 1 && lost.verdict == .droppedOnNode && lost.reason == .invalid && lost.grade == .observed)
    #expect(lost.evidence.contains(.badChecksum) && lost.evidence.contains(.leftUntranslated) == leaves && lost.invalidDelta == 1)
  }

  /// net.netfilter.nf_conntrack_checksum=0: it is tracked like any other.
  @Test func aWrongChecksumThatNobodyLooksAt() throws {
    let scenario = warm()
    _ = invalid(scenario, moves: 0)
    scenario.wait(30 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.verdict == .droppedOnNode && lost.reason == .policyOrRoute && lost.grade == .observed)
  }

  /// The counter moves for others then: it is no reason for this one.
  @Test func aWrongChecksumThatNobodyLooksAtBesideOthersThatAreInvalid() throws {
    let scenario = Scenario { $0.verifiesChecksums = false }
    scenario.warmUp()
    _ = invalid(scenario, moves: 3)
    scenario.wait(30 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.verdict == .droppedOnNode && lost.reason == .policyOrRoute && !lost.evidence.contains(.badChecksum))
  }

  @Test func aWrongChecksumThatIsAnsweredIsNoLoss() {
    let scenario = warm()
    let ask = invalid(scenario, moves: 0)
    ask.entry()
    ask.sent()
    ask.came()
    ask.delivered()
    scenario.wait(30 * second)
    #expect(scenario.records.isEmpty)
  }

  /// The counter moves for every protocol: of a whole datagram with a right checksum it says nothing.
  @Test func othersThatAreInvalidDoNotMakeAPolicyDropOne() throws {
    let scenario = warm()
    Ask(scenario, port: 40000, id: 7).asked()
    scenario.counters.invalid += 1
    scenario.wait(30 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.reason == .policyOrRoute && lost.grade == .observed && lost.invalidDelta == 0)
  }

  // MARK: A full table

  @Test func aDropOfTheFullTableIsObservedWhereNothingElseWasDropped() throws {
    let scenario = warm()
    scenario.entries = 1000
    scenario.wait(2 * second)
    Ask(scenario, port: 40000, id: 7).asked()
    scenario.counters.drop += 1
    scenario.wait(30 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.verdict == .tableFull && lost.grade == .observed && lost.evidence.contains(.countersExact))
    #expect(lost.dropDelta == 1 && lost.insertFailedDelta == 0)
  }

  @Test func manyDropsOfTheFullTableAreAllObserved() {
    let scenario = warm()
    scenario.entries = 1000
    scenario.wait(2 * second)
    for index in 0..<50 {
      Ask(scenario, port: UInt16(40000 + index), id: UInt16(index)).asked()
      scenario.counters.drop += 1
      scenario.wait(30 * millisecond)
    }
    scenario.wait(30 * second)
    #expect(scenario.losses.count == 50)
    #expect(scenario.losses.count { $0.verdict == .tableFull && $0.grade == .observed } >= 48)
  }

  @Test func othersThatFindItFullLowerTheGrade() throws {
    let scenario = warm()
    scenario.entries = 1000
    scenario.wait(2 * second)
    Ask(scenario, port: 40000, id: 7).asked()
    scenario.counters.drop += 3
    scenario.wait(30 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.verdict == .tableFull && lost.grade == .inferred && lost.evidence.contains(.countersShared))
  }

  @Test func aPolicyDropBesideAFullTableIsNotObservedAsOne() {
    let scenario = warm()
    scenario.entries = 1000
    scenario.wait(2 * second)
    Ask(scenario, port: 40000, id: 7).asked()
    scenario.wait(150 * millisecond)
    Ask(scenario, port: 40001, id: 8).asked()
    scenario.counters.drop += 1
    scenario.wait(30 * second)
    #expect(scenario.losses.count == 2)
    #expect(scenario.losses.allSatisfy { $0.verdict != .tableFull || $0.grade == .inferred })
  }

  @Test func aHalfFullTableIsNotFull() throws {
    let scenario = warm()
    scenario.entries = 500
    scenario.wait(2 * second)
    Ask(scenario, port: 40000, id: 7).asked()
    scenario.counters.drop += 1
    scenario.wait(30 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.verdict == .droppedOnNode && lost.grade == .inferred)
  }

  /// early_drop made room: who got it was not dropped.
  @Test func anEvictionDropsNobodyOnItsWay() throws {
    let scenario = warm()
    Ask(scenario, port: 40000, id: 7).asked()
    scenario.counters.earlyDrop += 1
    scenario.wait(30 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.verdict == .droppedOnNode && lost.reason == .policyOrRoute)
  }

  @Test func evictionsShowATableThatWasFullBetweenReadings() throws {
    let scenario = warm()
    Ask(scenario, port: 40000, id: 7).asked()
    scenario.counters.earlyDrop += 1
    scenario.counters.drop += 1
    scenario.wait(30 * second)
    #expect(scenario.losses.map(\.verdict) == [.tableFull])
  }

  /// A clash in a full table's time stays a clash, and is no more than inferred.
  @Test func aClashInAFullTableIsNoObservation() throws {
    let scenario = warm()
    scenario.entries = 1000
    scenario.wait(2 * second)
    let winner = Ask(scenario, port: 40000, id: 7)
    let loser = Ask(scenario, port: 40000, to: scenario.secondVIP, id: 8)
    winner.entry()
    winner.asked()
    loser.asked()
    winner.sent()
    scenario.counters.drop += 2
    scenario.counters.insertFailed += 1
    winner.came()
    winner.delivered()
    scenario.wait(30 * second)
    #expect(scenario.losses.allSatisfy { $0.grade == .inferred })
  }

  // MARK: The wrong device

  /// Two queries of one lookup to one tuple; both leave for the winner's backend, the second by the device that leads to another one.
  private func misroute(_ scenario: Scenario, to device: UInt32 = 22, resolves: UInt64 = 1) -> Ask {
    let winner = Ask(scenario, port: 40000, id: 7, type: QueryType.a)
    var loser = Ask(scenario, port: 40000, id: 8, type: QueryType.aaaa)
    loser.backendDevice = device
    winner.entry()
    winner.asked()
    loser.asked()
    winner.sent()
    loser.sent()
    scenario.counters.clashResolve += resolves
    winner.came()
    winner.delivered()
    return loser
  }

  @Test func theLoserLeavesForTheWinnersBackendByTheWrongDevice() throws {
    let scenario = warm()
    _ = misroute(scenario)
    scenario.wait(30 * second)
    let lost = try #require(scenario.losses.first)
    // The counter that moved is somebody else's: the kernel counts nothing there.
    #expect(scenario.losses.count == 1 && lost.verdict == .clashMisrouted && lost.grade == .inferred && lost.dnsID == 8)
    #expect(lost.evidence.contains(.otherDevice) && lost.clashResolveDelta == 1 && lost.backend == scenario.backend)
  }

  @Test func withoutTheCounterItIsInferred() {
    let scenario = warm()
    _ = misroute(scenario, resolves: 0)
    scenario.wait(30 * second)
    #expect(scenario.losses.map(\.verdict) == [.clashMisrouted] && scenario.losses.map(\.grade) == [.inferred])
  }

  @Test func bothByOneDeviceIsOrdinarySilence() {
    let scenario = warm()
    _ = misroute(scenario, to: 21)
    scenario.wait(30 * second)
    #expect(scenario.losses.map(\.verdict) == [.noAnswer] && scenario.losses.map(\.reason) == [.silent])
  }

  /// Two uplinks, or a route that has changed: what left that way was answered as well.
  @Test(arguments: [true, false]) func aDeviceThatLeadsThereTooIsNotWrong(isBefore: Bool) {
    let scenario = warm()
    func byTheOther(_ port: UInt16) {
      var ask = Ask(scenario, port: port, id: 9, name: "c.example")
      ask.backendDevice = 22
      ask.answered()
    }
    if isBefore { byTheOther(30000) }
    _ = misroute(scenario)
    scenario.wait(1 * second)
    if !isBefore { byTheOther(30001) }
    scenario.wait(30 * second)
    #expect(scenario.losses.map(\.verdict) == [.noAnswer] && scenario.losses.map(\.reason) == [.silent])
  }

  @Test func whatIsAnsweredIsNoLossWhateverItsWay() {
    let scenario = warm()
    let loser = misroute(scenario)
    scenario.wait(100 * millisecond)
    loser.came()
    loser.delivered()
    scenario.wait(30 * second)
    #expect(scenario.losses.isEmpty)
  }
}
