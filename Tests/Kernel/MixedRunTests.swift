import TestSupport
import Testing

extension KernelTests {
  /// Look-alikes at once: what is said surely is right, every loss is recorded once, the sums hold.
  @Suite(.serialized) struct MixedRunTests {
    @Test(arguments: ["off", "auto"]) func nothingSaidSurelyIsWrong(probe: String) throws {
      let options = ["--dns.timeout", "4s", "--kernel-probe", probe]
      let outcome = try Runs.valid("mixed run", { try MixedRun.perform(agent: options) }, void: MixedRun.void)
      try Reported.check("mixed run, probe \(probe)", outcome, .mixed)
      let sure = outcome.records.filter { $0.event == "dns_query_lost" && $0.verdict == "dropped_on_node" && $0.grade != "inferred" }
      #expect(sure.allSatisfy { $0.reason == "policy_or_route" }, "no other reason was given cause")
    }

    /// A judge that looks at node-wide counters alone fails the same scoring.
    @Test func naiveJudgeIsRejected() throws {
      let outcome = try Runs.valid("mixed run without the agent", { try MixedRun.perform(agent: nil) }, void: MixedRun.void)
      let said = NaiveJudge.judge(unanswered: Array(outcome.truth.lost.keys), moved: outcome.counters)
      let score = Score(outcome.truth, said)
      print("naive judge: sent \(outcome.truth.sent), kernel \(outcome.counters), noise lost \(outcome.noiseLost)\n\(score.table)")
      #expect(!score.problems(.mixed).isEmpty)
      #expect(!score.problems(.quiet).isEmpty)
      #expect(score.wrong.count == outcome.truth.lost.count - outcome.truth.count("reply_clash_dropped"))

      let knowing = outcome.truth.lost.map { Judgement(key: $0.key, verdict: $0.value, grade: "observed") }
      #expect(Score(outcome.truth, knowing).problems(.quiet).isEmpty, "the truth itself passes")
    }
  }
}
