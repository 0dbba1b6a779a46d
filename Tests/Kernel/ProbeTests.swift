import TestSupport
import Testing

extension KernelTests {
  /// The kernel probe on the rung that this kernel gives it.
  @Suite(.serialized) struct ProbeTests {
    private static let options = ["--dns.timeout", "4s", "--kernel-probe", "require"]

    private func losses(_ outcome: Stage.Outcome) -> [AgentRecord] { outcome.records.filter { $0.event == "dns_query_lost" } }

    /// What the probe saw dropped, the kernel counted and the client missed are one number, and each record tells the CPU.
    @Test(arguments: [Scenario.replyClashV4, .replyClashV6, .replyClashSameQuestion, .sourceClash])
    func dropsAreWhatTheKernelCountsAndTheClientMisses(_ scenario: Scenario) throws {
      let outcome = try Runs.valid(scenario.rawValue, { try scenario.perform(agent: Self.options) }, void: scenario.void)
      try Reported.check("\(scenario.rawValue), probe", outcome, .probed)
      let seen = losses(outcome).filter { $0.evidence?.contains("probe_drop") == true }
      #expect(seen.count == outcome.counters.insertFailed)
      #expect(seen.count == outcome.truth.count(scenario.verdict))
      #expect(seen.allSatisfy { $0.grade == "proven" && $0.cpu != nil && $0.winnerServer != nil })
      if scenario != .sourceClash { #expect(seen.allSatisfy { $0.backend != nil }) }
      #expect(seen.allSatisfy { $0.evidence?.contains("insert_failed+1") == true && $0.evidence?.contains("drop+1") == true })
      if scenario == .replyClashV4 { #expect(seen.allSatisfy { $0.siblingID != nil }) }
    }

    /// Where a rule drops a first packet, its entry is not confirmed either; beside real clashes the counters move as well. Each is told from the other.
    @Test(arguments: ["nft forward", "nft after translation", "iptables forward", "iptables mangle"]) func ruleDropsAreNoClashes(_ place: String)
      throws
    {
      func perform() throws -> Stage.Outcome {
        let stage = try Stage(
          clients: 2, backends: 2,
          { lab in
            var rules = Ruleset()
            for address in ["10.96.0.10", "10.96.0.11"] { rules.service(address, to: [lab.backends[0].v4]) }
            rules.service("10.96.0.12", to: [lab.backends[1].v4])
            return rules
          }, servers: { lab in for backend in lab.backends { try lab.serve(backend) } })
        let (clean, victim) = (stage.lab.clients[0], stage.lab.clients[1])
        try stage.startAgent(Self.options)
        for pod in [clean, victim] {
          try stage.launch(in: pod, .ordinary, "ask --count 20 --rate 100 --label warm\(pod.name) --from \(pod.v4) --server 10.96.0.12")
        }
        try stage.join()
        try add(place, stage.lab, victim)
        try stage.launch(
          in: clean, .replyRace, "race --label clash --port-base 20000 --pairs 300 --pace-us 3000 --from \(clean.v4) --servers 10.96.0.10,10.96.0.11")
        try stage.launch(in: victim, .policy, "ask --count 200 --rate 200 --together --label rule --from \(victim.v4) --server 10.96.0.12")
        return try stage.finish(settling: 12)
      }
      let outcome = try Runs.valid(place, perform) { outcome in
        let clashes = outcome.truth.count("reply_clash_dropped")
        if clashes < 50 { return "only \(clashes) clashes" }
        return outcome.counters.insertFailed == clashes ? nil : "the kernel counted \(outcome.counters), the clients lost \(clashes)"
      }
      try Reported.check(place, outcome, .probed)
      let dropped = losses(outcome).filter { $0.verdict == "dropped_on_node" }
      #expect(dropped.count == outcome.truth.count("dropped_on_node"))
      // The probe told of every failure beside them.
      #expect(dropped.allSatisfy { $0.grade == "observed" && $0.evidence?.contains("probe_drop") == false })
    }

    private func add(_ place: String, _ lab: Lab, _ victim: Lab.Pod) throws {
      let match = "-s \(victim.v4) -p udp --dport 53 -j DROP"
      switch place {
      case "iptables forward":
        try Command.run(["ip", "netns", "exec", lab.node, "iptables-legacy", "-A", "FORWARD"] + match.split(separator: " ").map(String.init))
      case "iptables mangle":
        try Command.run(
          ["ip", "netns", "exec", lab.node, "iptables-legacy", "-t", "mangle", "-A", "POSTROUTING"] + match.split(separator: " ").map(String.init))
      default:
        var rules = Ruleset()
        rules.table = "drops"
        rules.fillerRules = 0
        let rule = "ip saddr \(victim.v4) udp dport 53 drop"
        if place == "nft forward" { rules.forward(rule) } else { rules.afterTranslation(rule) }
        try lab.load(rules)
      }
    }

    /// The second query of a socket belongs to a confirmed entry: when a rule drops it the probe has nothing to say, and the packet tap names it.
    @Test func dropsOfConfirmedEntriesAreTheTapsBusiness() throws {
      let stage = try Stage(
        clients: 1, backends: 1,
        { lab in
          var rules = Ruleset()
          rules.service("10.96.0.12", to: [lab.backends[0].v4])
          return rules
        }, servers: { lab in try lab.serve(lab.backends[0]) })
      let pod = stage.lab.clients[0]
      try stage.startAgent(Self.options)
      try stage.launch(in: pod, .ordinary, "ask --count 20 --rate 100 --label warm --from \(pod.v4) --server 10.96.0.12")
      try stage.join()
      var rules = Ruleset()
      rules.table = "drops"
      rules.fillerRules = 0
      // The first of a pair confirms the entry, the second finds it.
      rules.forward("ip saddr \(pod.v4) udp dport 53 ct status confirmed drop")
      try stage.lab.load(rules)
      let race = "race --pairs 30 --pace-us 20000 --gap-us 5000 --port-base 20000 --from \(pod.v4) --servers 10.96.0.12"
      try stage.launch(in: pod, .policy, race)
      let outcome = try stage.finish(settling: 12)
      try Reported.check("confirmed entries", outcome, .quiet)
      #expect(outcome.truth.count("dropped_on_node") >= 25)
      #expect(
        losses(outcome).allSatisfy { $0.verdict == "dropped_on_node" && $0.grade == "observed" && $0.evidence?.contains("probe_drop") == false })
    }

    /// A process of the node gets EPERM and no packet is ever captured: only the probe can tell of its losses.
    @Test func processesOfTheNode() throws {
      func perform() throws -> Stage.Outcome {
        let stage = try Stage(
          clients: 1, backends: 1,
          { lab in
            var rules = Ruleset()
            rules.servesNode = true
            for address in ["10.96.0.10", "10.96.0.11"] { rules.service(address, to: [lab.backends[0].v4]) }
            return rules
          }, servers: { lab in try lab.serve(lab.backends[0]) })
        try Command.run([
          "ip", "-n", stage.lab.node, "route", "add", "10.96.0.0/24", "via", stage.lab.backends[0].v4, "dev", stage.lab.backends[0].device, "onlink",
        ])
        try stage.startAgent(Self.options)
        for batch in 0..<4 where stage.unanswered(.replyRace) < 100 {
          try stage.launch(
            in: nil, .replyRace, "race --label host\(batch) --pairs 400 --wait-ms 1500 --port-base \(20000 + 1000 * batch)",
            "--netns \(stage.lab.node) --from \(Lab.nodeV4) --servers 10.96.0.10,10.96.0.11")
          try stage.join()
        }
        return try stage.finish(settling: 12)
      }
      let outcome = try Runs.valid("node's own", perform) { outcome in
        if outcome.truth.refused < 50 { return "only \(outcome.truth.refused) refused" }
        return outcome.counters.insertFailed == outcome.truth.refused
          ? nil : "the kernel counted \(outcome.counters), \(outcome.truth.refused) were refused"
      }
      try Reported.check("node's own", outcome, .probed)
      let lost = losses(outcome)
      #expect(lost.count == outcome.truth.refused)
      #expect(outcome.truth.lost.count == outcome.truth.refused)
      #expect(lost.allSatisfy { $0.grade == "proven" && $0.verdict == "reply_clash_dropped" && $0.isHost == true && $0.vantage == "client" })
    }

    /// What is resolved no event names where the loser was merged: with the option the probe does, with the query.
    @Test func mergedLosersAreNamedOnRequest() throws {
      let stage = try Stage(
        clients: 1, backends: 1,
        { lab in
          var rules = Ruleset()
          rules.service("10.96.0.12", to: [lab.backends[0].v4])
          return rules
        }, servers: { lab in try lab.serve(lab.backends[0]) })
      let pod = stage.lab.clients[0]
      try stage.startAgent(Self.options + ["--kernel-probe.resolved", "true"])
      let race = "race --label same --pairs 200 --pace-us 5000 --wait-ms 500 --port-base 20000 --from \(pod.v4) --servers 10.96.0.12"
      try stage.launch(in: pod, .ordinary, race)
      let outcome = try stage.finish(settling: 12)
      try Reported.check("merged", outcome, .quiet)
      #expect(outcome.counters.clashResolve >= 20 && outcome.truth.lost.isEmpty)
      let told = outcome.records.filter { $0.event == "clash_resolved" && $0.dnsID != nil }
      #expect(!told.isEmpty)
      #expect(told.allSatisfy { $0.cpu != nil && $0.name?.hasSuffix(".same.race.test") == true && $0.backend == stage.lab.backends[0].v4 })
    }

    /// Without the rights it says what is missing and ends, or works on where the probe is not required.
    @Test func missingRights() throws {
      let lab = try Lab(clients: 1, backends: 1)
      let bounded = ["ip", "netns", "exec", lab.node, "setpriv", "--bounding-set=-bpf,-perfmon,-sys_admin", "--inh-caps=-bpf,-perfmon,-sys_admin"]
      let refused = try Command.result(bounded + [Executables.racetrack, "agent", "--kernel-probe", "require"], seconds: 20)
      #expect(refused.status == 3)
      let last = refused.errors.split(separator: "\n").last ?? ""
      #expect(last.contains("CAP_BPF and CAP_PERFMON"), "\(refused.errors)")
      let agent = try AgentProcess(in: lab.node, options: ["--kernel-probe", "auto"], wrapper: Array(bounded.dropFirst(4)))
      try agent.waitUntilSeeing()
      #expect(try agent.metrics().sum("racetrack_source_up", ["source": "kernel_probe"]) == 0)
      #expect(try agent.metrics().sum("racetrack_source_up", ["source": "conntrack"]) == 1)
      #expect(try agent.stop() == 0)
      #expect(agent.log.contains("the kernel probe does not run"))
    }
  }
}
