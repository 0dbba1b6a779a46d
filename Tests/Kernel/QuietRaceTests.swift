import TestSupport
import Testing

extension KernelTests {
  /// One kind of race at a time on an otherwise quiet node: every lost query is named, rightly, and nothing else is.
  @Suite(.serialized) struct QuietRaceTests {
    static let options = ["--dns.timeout", "4s"]

    @Test(arguments: Scenario.allCases) func everyLossIsNamedWithoutTheProbe(_ scenario: Scenario) throws {
      let outcome = try perform(scenario, probe: "off")
      try Reported.check(scenario.rawValue, outcome, .quiet)
    }

    /// With the probe, where this kernel lets it run, a dropped loser is proven.
    @Test(arguments: [Scenario.replyClashV4, .sourceClash]) func everyLossIsProvenWithTheProbe(_ scenario: Scenario) throws {
      let outcome = try perform(scenario, probe: "auto")
      let probing = outcome.metrics.map { $0.sum("racetrack_source_up", ["source": "kernel_probe"]) == 1 } ?? false
      if !probing { print("\(scenario.rawValue): the probe does not run here, scored without it") }
      try Reported.check("\(scenario.rawValue) (probe \(probing ? "on" : "refused"))", outcome, probing ? .probed : .quiet)
    }

    private func perform(_ scenario: Scenario, probe: String) throws -> Stage.Outcome {
      let options = Self.options + ["--kernel-probe", probe]
      let outcome = try Runs.valid(scenario.rawValue, { try scenario.perform(agent: options) }, void: scenario.void)
      if scenario == .replyClashV4 {
        let losses = outcome.records.filter { $0.event == "dns_query_lost" && $0.verdict == scenario.verdict && $0.grade != "inferred" }
        let others = ["10.96.0.10": "10.96.0.11", "10.96.0.11": "10.96.0.10"]
        #expect(losses.allSatisfy { $0.winnerServer == $0.server.flatMap { others[$0] } }, "the winner asked the other service address")
      }
      return outcome
    }
  }
}
