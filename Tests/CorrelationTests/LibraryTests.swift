import Flows
import Testing

@testable import Correlation

/// Whose resolver a query looks like.
@Suite struct LibraryTests {
  private func pair(_ scenario: Scenario, port: UInt16 = 40000) -> (a: Ask, aaaa: Ask) {
    (
      Ask(scenario, port: port, id: 501, name: "x.lab.test", type: QueryType.a),
      Ask(scenario, port: port, id: 502, name: "x.lab.test", type: QueryType.aaaa)
    )
  }

  private func warm() -> Scenario {
    let scenario = Scenario()
    scenario.warmUp()
    return scenario
  }

  private func libraries(_ scenario: Scenario) -> Set<CLibrary> {
    scenario.wait(30 * second)
    return Set(scenario.closings.map(\.libc))
  }

  @Test(arguments: [1, 5]) func glibcRepeatsTheAnsweredOneToo(timeout: Int64) {
    let scenario = warm()
    let (a, aaaa) = pair(scenario)
    a.answered()
    aaaa.asked()
    scenario.wait(timeout * second)
    a.answered()
    aaaa.answered()
    #expect(libraries(scenario) == [.glibc])
  }

  @Test func muslRepeatsTheLostOneAlone() {
    let scenario = warm()
    let (a, aaaa) = pair(scenario)
    a.answered()
    aaaa.asked()
    scenario.wait(2500 * millisecond)
    aaaa.answered()
    #expect(libraries(scenario) == [.musl])
  }

  @Test func muslAsksAllServersAtOnce() {
    let scenario = warm()
    let first = Ask(scenario, port: 40000, id: 7)
    let other = Ask(scenario, port: 40000, to: scenario.secondVIP, id: 7)
    first.asked()
    other.asked()
    scenario.wait(30 * second)
    #expect(scenario.losses.count == 2 && scenario.losses.allSatisfy { $0.libc == .musl }, "known before the first verdict")
    #expect(libraries(scenario) == [.musl])
  }

  @Test func goTakesAnotherPortAndID() {
    let scenario = warm()
    Ask(scenario, port: 40000, id: 7).asked()
    scenario.wait(5 * second)
    Ask(scenario, port: 40001, id: 8).answered()
    #expect(libraries(scenario) == [.go])
  }

  /// c-ares does the same.
  @Test func bothLostAndBothRepeatedIsNobodys() {
    let scenario = warm()
    let (a, aaaa) = pair(scenario)
    for _ in 0..<2 {
      a.asked()
      aaaa.asked()
      scenario.wait(5 * second)
    }
    #expect(libraries(scenario) == [.unknown])
  }

  /// A pair from one socket, asked again from another by whoever called the resolver.
  @Test func anApplicationThatAsksAgainIsNotGo() {
    let scenario = warm()
    let (a, aaaa) = pair(scenario)
    a.asked()
    aaaa.asked()
    scenario.wait(5 * second)
    for type in [QueryType.a, QueryType.aaaa] {
      Ask(scenario, port: 40001, id: 600 + type, name: "x.lab.test", type: type).answered()
    }
    #expect(!libraries(scenario).contains(.glibc) && scenario.closings.allSatisfy { $0.libc != .musl })
  }

  /// A datagram that the network gives twice is no retry.
  @Test func aDuplicateIsNotGlibc() {
    let scenario = warm()
    let (a, aaaa) = pair(scenario)
    a.answered()
    aaaa.asked()
    scenario.wait(300 * millisecond)
    a.asked()
    #expect(libraries(scenario) == [.unknown])
  }

  @Test func whatLosesNothingSaysNothing() {
    let scenario = warm()
    let (a, aaaa) = pair(scenario)
    a.answered()
    aaaa.answered()
    scenario.wait(30 * second)
    #expect(scenario.records.isEmpty)
  }
}

/// `clash_resolved`: a clash whose answer was delivered, with its query where the copies were seen.
@Suite struct ResolvedClashTests {
  private func warm() -> Scenario {
    let scenario = Scenario()
    scenario.warmUp()
    Ask(scenario, port: 30000, backend: scenario.secondBackend, id: 1).answered()
    scenario.wait(2 * second)
    return scenario
  }

  private func told(_ scenario: Scenario) -> [ResolvedClash] {
    scenario.records.compactMap { if case .clashResolved(let clash) = $0 { clash } else { nil } }
  }

  private func update(_ scenario: Scenario, _ ask: Ask) {
    scenario.new((ask.client, ask.server), reply: (ask.backend, ask.client), kind: .update, status: [.natClash, .seenReply, .confirmed])
  }

  /// The event is read before the packets of its sweep, or after the answer came, or after it was delivered.
  @Test(arguments: 0..<4) func theQueryIsNamedWheneverTheEventIsRead(moment: Int) throws {
    let scenario = warm()
    let loser = Ask(scenario, port: 40000, backend: scenario.secondBackend, id: 8, name: "b.example", type: QueryType.aaaa)
    Ask(scenario, port: 40000, id: 7, name: "b.example").answered()
    if moment == 0 { update(scenario, loser) }
    loser.asked()
    loser.sent()
    if moment == 1 { update(scenario, loser) }
    loser.came()
    if moment == 2 { update(scenario, loser) }
    loser.delivered()
    if moment == 3 { update(scenario, loser) }
    scenario.wait(20 * second)
    let clash = try #require(told(scenario).first)
    #expect(told(scenario).count == 1 && scenario.engine.totals.clashesResolvedNamed == 1)
    #expect(clash.query?.dnsID == 8 && clash.query?.queryType == QueryType.aaaa && clash.query?.name == Scenario.wire("b.example"))
    #expect(clash.client == loser.client && clash.server == loser.server && clash.backend == scenario.secondBackend)
    #expect(scenario.losses.isEmpty)
  }

  @Test func anAnswerThatWasNotDeliveredIsNoResolvedClash() {
    let scenario = warm()
    let loser = Ask(scenario, port: 40000, backend: scenario.secondBackend, id: 8)
    loser.asked()
    loser.sent()
    update(scenario, loser)
    loser.came()
    scenario.wait(20 * second)
    #expect(told(scenario).isEmpty)
    #expect(scenario.losses.map(\.verdict) == [.answerDroppedOnNode])
  }

  @Test func withoutCopiesTheEntryTells() throws {
    let scenario = warm()
    let loser = Ask(scenario, port: 40000, backend: scenario.secondBackend, id: 8)
    update(scenario, loser)
    scenario.wait(5 * second)
    let clash = try #require(told(scenario).first)
    #expect(told(scenario).count == 1 && clash.query == nil && clash.backend == scenario.secondBackend)
  }
}
