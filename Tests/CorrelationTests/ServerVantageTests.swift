import Flows
import Testing

@testable import Correlation

/// Queries of other nodes for backends of this one: told only when they are lost here, and as surely as those of its own clients.
@Suite struct ServerVantageTests {
  private func query(_ scenario: Scenario, _ number: Int, name: String = "a.example", to server: Endpoint? = nil) -> Ask {
    Ask(scenario, port: UInt16(40000 + number), to: server ?? scenario.backend, id: UInt16(number), name: name, from: v4("10.9.9.9"), device: 2)
  }

  private func warm() -> Scenario {
    let scenario = Scenario()
    for number in 0..<5 {
      query(scenario, number).answered()
      query(scenario, 100 + number, to: scenario.vip).answered()
      scenario.wait(20 * millisecond)
    }
    scenario.wait(2 * second)
    return scenario
  }

  @Test(arguments: [false, true]) func aBackendThatDoesNotAnswer(isTranslated: Bool) throws {
    let scenario = warm()
    let ask = query(scenario, 10, to: isTranslated ? scenario.vip : nil)
    if isTranslated { ask.entry() }
    ask.asked()
    ask.sent()
    scenario.wait(30 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.vantage == .server && lost.verdict == .noAnswer && lost.reason == .silent && lost.grade == .observed)
    #expect(scenario.closings.isEmpty && scenario.engine.totals.serverLost == 1 && scenario.engine.totals.lost == 0)
  }

  @Test func anAnswerOfTheLocalBackendThatDoesNotLeave() throws {
    let scenario = warm()
    let ask = query(scenario, 10)
    ask.asked()
    ask.sent()
    ask.came()
    scenario.wait(30 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.vantage == .server && lost.verdict == .answerDroppedOnNode && lost.grade == .observed)
    #expect(lost.evidence == [.asked, .sent, .came, .noDelivered])
  }

  @Test func aBackendThatRefuses() {
    let scenario = warm()
    let ask = query(scenario, 10)
    ask.asked()
    ask.sent()
    ask.refused()
    scenario.wait(30 * second)
    #expect(scenario.losses.map(\.reason) == [.icmpUnreachable] && scenario.losses.map(\.grade) == [.observed])
  }

  /// Answers that return by another way are never seen here.
  @Test func aPathThatNeverShowedAnAnswerIsInferred() {
    let scenario = Scenario()
    let ask = query(scenario, 10)
    ask.asked()
    ask.sent()
    ask.came()
    scenario.wait(30 * second)
    #expect(scenario.losses.map(\.grade) == [.inferred])
    #expect(scenario.losses.allSatisfy { $0.evidence.contains(.pathUnobserved) })
  }

  @Test func whatIsLostBeforeItGetsHereIsNobodysLossHere() {
    let scenario = warm()
    scenario.wait(30 * second)
    #expect(scenario.records.isEmpty)
    #expect(scenario.engine.totals.transmissions[Int(Vantage.server.rawValue)] == 10)
  }
}
