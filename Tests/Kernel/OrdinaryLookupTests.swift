import TestSupport
import Testing

extension KernelTests {
  /// A healthy node: nothing is called lost, every query is counted, once.
  @Suite(.serialized) struct OrdinaryLookupTests {
    @Test func thousandLookupsRaiseNothing() throws {
      let outcome = try Runs.valid("ordinary lookups", perform) { outcome in
        outcome.truth.answered.count == 2000 ? nil : "\(outcome.truth.answered.count) of 2000 answered"
      }
      try Reported.check("ordinary lookups", outcome, .quiet)
      #expect(!outcome.records.contains { ["dns_query_lost", "dns_query_closed", "alert_firing"].contains($0.event) })
      let page = try #require(outcome.metrics)
      #expect(page.sum("racetrack_lost_queries_total") == 0)
      #expect(page.sum("racetrack_dns_retries_total") == 0)
      #expect(page.sum("racetrack_dns_answers_total") == 2000)
    }

    /// Clashes that the kernel resolves and whose answers come within the second that the loser's entry lives: nobody lost anything.
    @Test(arguments: [0, 600]) func resolvedClashesRaiseNothing(delayMilliseconds: Int) throws {
      let outcome = try Runs.valid("resolved clashes", { try race(delayMilliseconds: delayMilliseconds) }) { outcome in
        let missing = outcome.truth.sent - outcome.truth.answered.count
        return missing == 0 && outcome.counters.clashResolve >= 200 ? nil : "\(missing) not answered, \(outcome.counters)"
      }
      try Reported.check("resolved clashes, answers after \(delayMilliseconds) ms", outcome, .quiet)
      #expect(!outcome.records.contains { ["dns_query_lost", "dns_query_closed", "alert_firing"].contains($0.event) })
      let page = try #require(outcome.metrics)
      #expect(page.sum("racetrack_clashes_total", ["outcome": "resolved"]) == Double(outcome.counters.clashResolve))
      #expect(page.sum("racetrack_clashes_total", ["outcome": "dropped"]) == 0)
    }

    private func race(delayMilliseconds: Int) throws -> Stage.Outcome {
      let stage = try Stage(clients: 1, backends: 2) { lab in
        var rules = Ruleset()
        rules.service("10.96.0.20", to: lab.backends.map(\.v4))
        return rules
      } servers: { lab in
        for backend in lab.backends { try lab.serve(backend, delayMilliseconds: delayMilliseconds) }
      }
      try stage.startAgent(["--dns.timeout", "4s"])
      let pod = stage.lab.clients[0]
      try stage.launch(in: pod, .ordinary, "race --pairs 400 --wait-ms 1500 --from \(pod.v4) --servers 10.96.0.20")
      return try stage.finish(settling: 8)
    }

    private func perform() throws -> Stage.Outcome {
      let stage = try Stage(clients: 2, backends: 2) { lab in
        var rules = Ruleset()
        rules.fillerRules = 50
        rules.service("10.96.0.20", to: lab.backends.map(\.v4))
        rules.service("fd96::20", to: lab.backends.map(\.v6))
        return rules
      } servers: { lab in
        for backend in lab.backends { try lab.serve(backend) }
      }
      try stage.startAgent(["--kernel-probe", "auto"])
      let (one, two) = (stage.lab.clients[0], stage.lab.clients[1])
      try stage.launch(in: one, .ordinary, "ask --count 500 --rate 250 --label four --from \(one.v4) --server 10.96.0.20")
      try stage.launch(in: two, .ordinary, "ask --count 500 --rate 250 --label six --together --from \(two.v6) --server fd96::20")
      return try stage.finish(settling: 5)
    }
  }
}
