import Flows
import Testing

@testable import Correlation

/// Which lookup a closed query says that it is part of.
@Suite struct LookupTests {
  /// A query that left and was never answered.
  private func unanswered(_ ask: Ask) {
    ask.entry()
    ask.asked()
    ask.sent()
  }

  @Test func bothTypesOfOneNameAreOneLookup() throws {
    let scenario = Scenario()
    scenario.warmUp()
    unanswered(Ask(scenario, port: 40000, id: 100, name: "a.example"))
    unanswered(Ask(scenario, port: 40000, id: 101, name: "A.Example", type: QueryType.aaaa))
    scenario.wait(30 * second)
    let closings = scenario.closings
    try #require(closings.count == 2)
    #expect(closings[0].lookupID == closings[1].lookupID)
    #expect(abs(closings[0].lookupTime.nanoseconds - closings[1].lookupTime.nanoseconds) < 100 * millisecond)
    #expect(closings.allSatisfy { $0.lookupTime == $0.time })
  }

  @Test func anotherNameOrSocketIsAnotherLookup() throws {
    let scenario = Scenario()
    scenario.warmUp()
    unanswered(Ask(scenario, port: 40000, id: 100, name: "a.example"))
    unanswered(Ask(scenario, port: 40000, id: 101, name: "b.example"))
    unanswered(Ask(scenario, port: 40001, id: 102, name: "a.example"))
    scenario.wait(30 * second)
    #expect(Set(scenario.closings.map(\.lookupID)).count == 3)
  }

  /// Go and single-request-reopen: the retry's loss is no lookup of its own.
  @Test func aJoinedRetryIsPartOfTheLookupItRetries() throws {
    let scenario = Scenario()
    scenario.warmUp()
    unanswered(Ask(scenario, port: 40000, id: 100))
    scenario.wait(5 * second)
    unanswered(Ask(scenario, port: 40001, id: 101))
    scenario.wait(30 * second)
    let closings = scenario.closings
    try #require(closings.count == 2)
    #expect(closings[0].lookupID == closings[1].lookupID && closings[0].lookupTime == closings[1].lookupTime)
  }

  @Test func aClosedQueryCarriesTheReasonAndEvidenceOfItsFirstLoss() throws {
    let scenario = Scenario()
    Ask(scenario, port: 40000).asked()
    scenario.wait(30 * second)
    let lost = try #require(scenario.losses.first)
    let closed = try #require(scenario.closings.first)
    #expect(closed.verdict == lost.verdict && closed.reason == lost.reason && closed.grade == lost.grade && closed.evidence == lost.evidence)
    #expect(closed.evidence.contains(.pathUnobserved))
  }
}
