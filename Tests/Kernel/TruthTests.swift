import TestSupport
import Testing

extension KernelTests {
  /// The laboratory itself, without the agent: what the clients lost is what the kernel counted.
  @Suite(.serialized) struct TruthTests {
    @Test(arguments: Scenario.allCases) func kernelAgreesWithClients(_ scenario: Scenario) throws {
      let outcome = try Runs.valid(scenario.rawValue, { try scenario.perform(agent: nil) }, void: scenario.void)
      print("\(scenario.rawValue): sent \(outcome.truth.sent) lost \(outcome.truth.lost.count) kernel \(outcome.counters)")
      #expect(outcome.truth.count(scenario.verdict) == outcome.truth.lost.count)
      #expect(outcome.truth.answered.count == outcome.truth.sent - outcome.truth.lost.count)
    }
  }
}
