import Flows
import Testing

@testable import Correlation

/// ICMP errors about queries: a reason for silence, and no more.
@Suite struct RefusalTests {
  private func sent(_ scenario: Scenario, port: UInt16 = 40000, id: UInt16 = 7) -> Ask {
    let ask = Ask(scenario, port: port, id: id)
    ask.entry()
    ask.asked()
    ask.sent()
    scenario.pass(100 * microsecond)
    return ask
  }

  private func warm() -> Scenario {
    let scenario = Scenario()
    scenario.warmUp()
    return scenario
  }

  @Test func aBackendWhereNobodyListens() throws {
    let scenario = warm()
    let ask = sent(scenario)
    ask.refused()
    scenario.refuse(ask.client, ask.server, by: ask.server.address, on: 11, out: true, ask.query)
    scenario.wait(9 * second)
    #expect(scenario.losses.isEmpty, "the client may be waiting")
    scenario.wait(20 * second)
    let lost = try #require(scenario.losses.first)
    #expect(scenario.losses.count == 1 && lost.verdict == .noAnswer && lost.reason == .icmpUnreachable && lost.grade == .observed)
    #expect(lost.evidence == [.asked, .sent, .noCame, .icmpError])
    #expect(lost.icmpType == 3 && lost.icmpCode == 3 && lost.icmpSender == scenario.backend.address)
  }

  @Test func aRouterThatQuotesNoMoreThanTheUDPHeader() throws {
    let scenario = warm()
    let ask = sent(scenario)
    scenario.refuse(ask.client, ask.backend, by: v4("10.1.1.1"), on: 21, nil, code: 1)
    scenario.wait(30 * second)
    #expect(scenario.losses.map(\.reason) == [.icmpUnreachable] && scenario.losses.map(\.grade) == [.observed])
    #expect(scenario.losses.first?.icmpSender == v4("10.1.1.1"))
  }

  @Test func withoutTheIDTwoOnOneTupleAreNotTold() {
    let scenario = warm()
    let ask = sent(scenario)
    let other = sent(scenario, id: 8)
    scenario.refuse(ask.client, ask.backend, by: ask.backend.address, on: 21, nil)
    scenario.wait(30 * second)
    #expect(scenario.losses.count == 2)
    #expect(scenario.losses.allSatisfy { $0.reason == .silent || $0.grade == .inferred })
    #expect(other.id == 8)
  }

  @Test func theMasqueradedTupleIsFoundByItsEntry() throws {
    let scenario = warm()
    var ask = Ask(scenario, port: 40000, id: 7)
    ask.natted = Endpoint(scenario.nodeAddress, 61000)
    ask.entry()
    ask.asked()
    ask.sent()
    ask.refused()
    scenario.wait(30 * second)
    #expect(scenario.losses.map(\.reason) == [.icmpUnreachable] && scenario.losses.map(\.grade) == [.observed])
  }

  @Test func anAnsweredQueryStaysAnswered() {
    let scenario = warm()
    let before = sent(scenario)
    before.refused()
    before.came()
    before.delivered()
    let after = sent(scenario, port: 40001)
    after.came()
    after.delivered()
    after.refused()
    scenario.wait(30 * second)
    #expect(scenario.records.isEmpty && scenario.isConserved)
  }

  /// The client has closed its socket, and its host refuses the answer.
  @Test func aRefusedAnswerSaysNothingOfTheQuery() throws {
    let scenario = warm()
    let ask = sent(scenario)
    scenario.wait(2 * second)
    ask.came()
    ask.untranslated()
    scenario.refuse(ask.backend, ask.client, by: ask.client.address, on: 11, ask.answerMessage())
    scenario.refuse(ask.backend, ask.client, by: ask.client.address, on: 11, nil)
    scenario.wait(30 * second)
    #expect(scenario.losses.map(\.verdict) == [.answerUntranslated])
    #expect(scenario.losses.first?.icmpType == nil)
  }

  @Test func whoForgesOneMakesNothingSure() {
    let scenario = warm()
    let ask = sent(scenario)
    // From another pod, towards the client; from the client itself; for another ID; for a datagram that was not sent yet.
    scenario.refuse(ask.client, ask.backend, by: ask.backend.address, on: 12, ask.query)
    scenario.refuse(ask.client, ask.server, by: ask.server.address, on: 11, out: true, ask.query)
    let second = sent(scenario, port: 40001)
    scenario.refuse(second.client, second.backend, by: second.backend.address, on: 11, second.query)
    scenario.refuse(second.client, second.backend, by: second.backend.address, on: 21, scenario.message(9, "a.example", QueryType.a))
    let third = Ask(scenario, port: 40002, id: 7)
    scenario.refuse(third.client, third.backend, by: third.backend.address, on: 21, third.query)
    third.entry()
    third.asked()
    third.sent()
    scenario.wait(30 * 1_000_000_000)
    #expect(scenario.losses.count == 3)
    for lost in scenario.losses {
      #expect(lost.verdict == .noAnswer && (lost.reason == .silent || lost.grade == .inferred), "\(lost.client)")
    }
    #expect(scenario.losses.count { $0.reason == .silent && $0.grade == .observed } == 2)
  }

  @Test func smallerPacketsAreNoRefusal() {
    let scenario = warm()
    let ask = sent(scenario)
    scenario.refuse(ask.client, ask.backend, by: v4("10.1.1.1"), on: 21, ask.query, code: 4)
    scenario.wait(30 * second)
    #expect(scenario.losses.map(\.reason) == [.silent])
  }

  @Test func thisNodeItselfWhereNobodyListens() {
    let scenario = warm()
    let local = Endpoint(scenario.nodeAddress, 53)
    Ask(scenario, port: 30000, to: local, backend: local, id: 3).asked()
    scenario.copy(
      local, endpoint("10.0.1.2", 30000), on: 11, out: true, scenario.message(3, "a.example", QueryType.a, response: true), name: "a.example")
    let ask = Ask(scenario, port: 40000, to: local, backend: local, id: 7)
    ask.asked()
    scenario.refuse(ask.client, ask.server, by: scenario.nodeAddress, on: 11, out: true, ask.query)
    scenario.wait(30 * second)
    #expect(scenario.losses.map(\.reason) == [.icmpUnreachable] && scenario.losses.map(\.grade) == [.observed])
  }

  /// A rule that rejects: dropped on this node, and told so.
  @Test func aRejectingRuleIsStillAPolicy() {
    let scenario = warm()
    let ask = Ask(scenario, port: 40000, id: 7)
    ask.asked()
    scenario.refuse(ask.client, ask.server, by: scenario.nodeAddress, on: 11, out: true, ask.query, code: 13)
    scenario.wait(30 * second)
    #expect(scenario.losses.map(\.verdict) == [.droppedOnNode] && scenario.losses.map(\.reason) == [.policyOrRoute])
    #expect(scenario.losses.first?.evidence.contains(.icmpError) == true && scenario.losses.first?.icmpCode == 13)
  }

  /// Each attempt has its own.
  @Test func aRetryIsRefusedForItself() {
    let scenario = warm()
    let ask = sent(scenario)
    ask.refused()
    scenario.wait(5 * second)
    ask.asked()
    ask.sent()
    scenario.wait(30 * second)
    #expect(scenario.losses.map(\.reason) == [.icmpUnreachable, .silent])
  }
}
