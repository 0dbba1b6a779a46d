import Flows
import Testing

@testable import Correlation

/// A and AAAA from one socket to one service, on a kernel that drops the second to be inserted.
@Suite struct TextbookRaceTests {
  /// The loser was asked first; the winner's entry is read `readLate` after it was made.
  private func race(_ scenario: Scenario, port: UInt16, readLate: Int64 = 0) {
    let loser = Ask(scenario, port: port, id: 1, name: "race.example", type: QueryType.a)
    let winner = Ask(scenario, port: port, backend: scenario.secondBackend, id: 2, name: "race.example", type: QueryType.aaaa)
    loser.asked()
    winner.asked()
    scenario.pass(50 * microsecond)
    if readLate == 0 { winner.entry() }
    winner.sent()
    scenario.counters.insertFailed += 1
    scenario.counters.drop += 1
    scenario.pass(200 * microsecond)
    winner.came()
    winner.delivered()
    if readLate > 0 {
      scenario.wait(readLate)
      winner.entry()
    }
  }

  private func check(_ scenario: Scenario) throws {
    scenario.wait(15 * second)
    let lost = try #require(scenario.losses.first)
    #expect(scenario.losses.count == 1)
    #expect(lost.verdict == .dnatClashDropped && lost.grade == .observed, "\(lost)")
    #expect(lost.queryType == QueryType.a && lost.backend == scenario.secondBackend)
    #expect(scenario.isConserved)
  }

  @Test func itIsNamed() throws {
    let scenario = Scenario()
    scenario.warmUp()
    race(scenario, port: 40000)
    try check(scenario)
  }

  /// IPVS has the service's address on a device of the node.
  @Test func itIsObservedWhereTheServiceIsAnAddressOfTheNode() throws {
    let scenario = Scenario()
    scenario.engine.addressAdded(scenario.vip.address)
    scenario.warmUp()
    race(scenario, port: 40000)
    try check(scenario)
  }

  /// A starved agent reads the winner's event later than any race lasts; the winner's copy says when it left.
  @Test func anEventReadLateStillTellsTheWinner() throws {
    let scenario = Scenario()
    scenario.warmUp()
    race(scenario, port: 40000, readLate: 300 * millisecond)
    try check(scenario)
  }
}
