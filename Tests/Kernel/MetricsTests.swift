import Foundation
import TestSupport
import Testing

extension KernelTests {
  /// The agent's pages while it runs, as the tools that read them see them.
  @Suite(.serialized) struct MetricsTests {
    static let openMetrics = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"

    /// A node whose clients raced for a shared backend, with the agent still running.
    private final class RacedNode {
      let lab: Lab
      let agent: AgentProcess
      private(set) var asked: [AskedQuery] = []

      init(options: [String] = []) throws {
        lab = try Lab(clients: 1, backends: 1)
        var rules = Ruleset()
        rules.fillerRules = 1
        for address in ["10.96.0.10", "10.96.0.11"] { rules.service(address, to: [lab.backends[0].v4]) }
        try lab.load(rules)
        try lab.serve(lab.backends[0])
        agent = try AgentProcess(lab, options: ["--dns.timeout", "2s"] + options)
        try agent.waitUntilSeeing()
      }

      /// Races until there are losses to show.
      func race() throws {
        let pod = lab.clients[0]
        for server in ["10.96.0.10", "10.96.0.11"] {
          asked += try lab.truth(
            in: pod, ["ask", "--label", "w" + server.suffix(2), "--count", "20", "--rate", "100", "--from", pod.v4, "--server", server])
        }
        for batch in 0..<8 where lost.count < 20 {
          asked += try lab.truth(
            in: pod,
            [
              "race", "--label", "batch\(batch)", "--port-base", "\(20000 + batch * 1000)", "--pairs", "300", "--wait-ms", "300", "--from", pod.v4,
              "--servers", "10.96.0.10,10.96.0.11",
            ])
        }
        guard lost.count >= 20 else { throw LabError("only \(lost.count) losses") }
      }

      var lost: [AskedQuery] { asked.filter { $0.answered == nil } }
      /// Lookups, told apart by socket and name, of which something was lost.
      var stalledLookups: Int { Set(lost.map { "\($0.key.clientPort) \($0.key.name)" }).count }

      /// The page once every loss is closed.
      func settled() throws -> MetricsPage {
        var page = try agent.settle(transmissions: asked.count, seconds: 10)
        _ = try Clock.poll(seconds: 10, every: 0.2) {
          page = try agent.metrics()
          return page.sum("racetrack_client_stalled_lookups_total") >= Double(stalledLookups)
        }
        return page
      }
    }

    @Test func pagesAreRightAsEveryToolReadsThem() throws {
      let node = try RacedNode()
      try node.race()
      let page = try node.settled()
      let lost = Double(node.lost.count)
      for problem in page.conservationProblems() { Issue.record("\(problem)") }
      #expect(page.sum("racetrack_lost_queries_total", ["verdict": "reply_clash_dropped"]) == lost)
      #expect(page.sum("racetrack_client_lost_queries_total", ["client_workload": "unattributed"]) == lost)
      #expect(page.sum("racetrack_client_stalled_lookups_total", ["impact": "failed"]) == Double(node.stalledLookups))
      #expect(page.sum("racetrack_clashes_total", ["outcome": "dropped"]) == lost)
      #expect(page.sum("racetrack_client_last_loss_timestamp_seconds") > 1.6e9)
      #expect(page.sum("racetrack_alerts_firing") == 1)
      try checkReference(page)

      let text = try node.agent.get("/metrics").output
      let lint = try Command.result(["promtool", "check", "metrics"], input: text)
      #expect(lint.status == 0 && lint.output.isEmpty && lint.errors.isEmpty, "\(lint.output)\(lint.errors)")
      let open = try node.agent.get("/metrics", accept: Self.openMetrics).output
      #expect(open.hasSuffix("# EOF\n") && open.contains(" # {incident_id=\""))
      let strict = try Command.result([RecordSchema.python, Repository.path("Tests/records/check_page.py")], input: open)
      #expect(strict.status == 0 || strict.status == 2, "\(strict.output)\(strict.errors)")
      for address in ["10.40.0", "10.96.0", "10.60.0", "race.test"] { #expect(!text.contains(address) && !open.contains(address)) }

      try checkPeoplePages(node)
      #expect(try node.agent.stop() == 0)
      try checkAlerts(node)
    }

    /// docs/metrics.md has every family of the page, and the page every family that can be known here.
    private func checkReference(_ page: MetricsPage) throws {
      let text = try String(contentsOfFile: Repository.path("docs/metrics.md"), encoding: .utf8)
      let named = Set(
        text.split(separator: "\n").filter { $0.hasPrefix("| `") }.compactMap { $0.split(separator: "`").dropFirst().first.map(String.init) })
      let shown = Set(
        page.all.map { sample in
          ["_bucket", "_count", "_sum"].reduce(sample.name) { name, suffix in
            name == "racetrack_dns_query_duration_seconds" + suffix ? "racetrack_dns_query_duration_seconds" : name
          }
        })
      #expect(shown.subtracting(named).isEmpty)
      #expect(named.subtracting(shown).isSubset(of: ["racetrack_conntrack_clash_resolve_total", "racetrack_conntrack_chain_too_long_total"]))
    }

    /// Names are shown on the API address and nowhere else.
    private func checkPeoplePages(_ node: RacedNode) throws {
      for path in ["/", "/api/v1/incidents"] { #expect(try node.agent.get(path).status == 3, "\(path) on the metrics address") }
      let html = try node.agent.get("/", from: AgentProcess.apiAddress)
      #expect(html.status == 0 && html.output.contains(node.lab.clients[0].v4) && html.output.contains("reply_clash_dropped"))
      #expect(html.output.contains("race.test") && html.output.contains("One socket asked two service addresses"))
      let json = try node.agent.get("/api/v1/incidents", from: AgentProcess.apiAddress)
      let array = try #require(try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [[String: Any]])
      #expect(array.count == min(1000, 2 * node.lost.count + 1))
      #expect(Set(array.compactMap { $0["event"] as? String }).isSubset(of: ["dns_query_lost", "dns_query_closed", "alert_firing"]))
      // The very objects of the output, the newest first.
      let written = try node.agent.text().split(separator: "\n").map(String.init)
      let shown = json.output.split(separator: "\n").dropFirst().dropLast().map { $0.hasSuffix(",") ? String($0.dropLast()) : String($0) }
      #expect(
        shown
          == written.filter { line in ["lost", "closed"].contains { line.contains("\"dns_query_\($0)\"") } || line.contains("\"alert_") }.reversed())
    }

    private func checkAlerts(_ node: RacedNode) throws {
      if let problem = try node.agent.recordProblem() { Issue.record("\(problem)") }
      let alerts = try node.agent.text().split(separator: "\n").filter { $0.contains("\"event\":\"alert_") }.map {
        try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
      }
      // One when the first lookup stalled, and at the end one for those that stalled since.
      #expect(alerts.count == 2 && Set(alerts.compactMap { $0["alert.id"] as? String }).count == 1)
      #expect(alerts.first?["stalled_lookups"] as? Int == 1 && alerts.last?["stalled_lookups"] as? Int == node.stalledLookups)
      #expect(alerts.allSatisfy { $0["client.address"] as? String == node.lab.clients[0].v4 && $0["verdict"] as? String == "reply_clash_dropped" })
      #expect((alerts.last?["examples"] as? [[String: Any]])?.count == 3)
    }

    @Test func countersPerCPUSumUpToTheKernels() throws {
      let node = try RacedNode(options: ["--metrics.per-cpu"])
      try node.race()
      let page = try node.settled()
      #expect(page.samples("racetrack_conntrack_insert_failed_total").count >= 2)
      #expect(page.samples("racetrack_conntrack_insert_failed_total").allSatisfy { $0.labels["cpu"] != nil })
      #expect(page.sum("racetrack_conntrack_insert_failed_total") == Double(node.lost.count))
      #expect(page.sum("racetrack_clashes_total", ["outcome": "dropped"]) == Double(node.lost.count))
      #expect(try node.agent.stop() == 0)
    }

    /// A and AAAA of one socket, both lost: two queries, one lookup, one alert.
    @Test func aLookupCountsOnceThoughBothItsQueriesAreLost() throws {
      let lab = try Lab(clients: 1, backends: 2)
      var rules = Ruleset()
      rules.fillerRules = 1
      rules.service("10.96.0.10", to: [lab.backends[0].v4])
      rules.service("10.96.0.30", to: [lab.backends[1].v4])
      try lab.load(rules)
      try lab.serve(lab.backends[0])
      try lab.serve(lab.backends[1], mute: true)
      let agent = try AgentProcess(lab, options: ["--dns.timeout", "2s"])
      try agent.waitUntilSeeing()
      let pod = lab.clients[0]
      var asked: [AskedQuery] = []
      for (server, count) in [("10.96.0.10", "20"), ("10.96.0.30", "30")] {
        asked += try lab.truth(
          in: pod,
          [
            "ask", "--label", "s" + server.suffix(2), "--together", "--count", count, "--rate", "100", "--timeout-ms", "500", "--from", pod.v4,
            "--server", server,
          ])
      }
      #expect(asked.count { $0.answered == nil } == 60)
      var page = try agent.settle(transmissions: asked.count, seconds: 10)
      _ = try Clock.poll(seconds: 10, every: 0.2) {
        page = try agent.metrics()
        return page.sum("racetrack_records_total", ["event": "dns_query_closed"]) == 60
      }
      #expect(page.sum("racetrack_client_lost_queries_total", ["verdict": "no_answer"]) == 60)
      #expect(page.sum("racetrack_client_stalled_lookups_total", ["verdict": "no_answer", "impact": "failed"]) == 30)
      #expect(page.sum("racetrack_client_stalled_lookups_total") == 30 && page.sum("racetrack_alerts_firing") == 1)
      for problem in page.conservationProblems() { Issue.record("\(problem)") }
      #expect(try agent.stop() == 0)
      if let problem = try agent.recordProblem() { Issue.record("\(problem)") }
    }

    /// Debian's Prometheus scrapes the agent in its namespace: the target is up, the sums are those of the page, exemplars lead to incidents.
    @Test(.enabled(if: Prometheus.isThere, "no /usr/bin/prometheus (Debian package prometheus)"))
    func prometheusScrapesIt() throws {
      let node = try RacedNode()
      let prometheus = try Prometheus(node.lab, target: AgentProcess.listenAddress)
      try prometheus.waitUntilUp()
      try node.race()
      let page = try node.settled()
      let stalled = Double(node.stalledLookups)
      let caughtUp = try Clock.poll(seconds: 15, every: 0.3) {
        try prometheus.value("sum(racetrack_client_stalled_lookups_total)") == stalled
      }
      #expect(caughtUp, "\(prometheus.log.suffix(1000))")
      #expect(try prometheus.value("sum(racetrack_lost_queries_total)") == Double(node.lost.count))
      // At every scrape, not only at the last one.
      let fates = "sum(racetrack_dns_fates_total) + sum(racetrack_dns_open)"
      let unbalanced = "abs(sum(racetrack_dns_transmissions_total{vantage=\"client\"}) - (\(fates)))"
      #expect(try prometheus.value("max_over_time((\(unbalanced))[1m:100ms])") == 0)
      #expect(try prometheus.value("max_over_time((\(fates))[1m:100ms])") == Double(node.asked.count))
      // The series were there at zero before the first loss, so the increase is whole.
      #expect(try prometheus.value("min(min_over_time(racetrack_lost_queries_total{verdict=\"reply_clash_dropped\",grade=\"observed\"}[5m]))") == 0)
      #expect(try prometheus.value("scrape_samples_scraped") == Double(page.all.count))
      #expect(try prometheus.value("histogram_quantile(0.5, sum by (le) (rate(racetrack_dns_query_duration_seconds_bucket[1m])))") != nil)

      let incidents = Set(
        try node.agent.text().split(separator: "\n").compactMap { line in
          (try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])?["incident.id"] as? String
        })
      let exemplars = try prometheus.exemplars("racetrack_lost_queries_total")
      #expect(!exemplars.isEmpty && exemplars.allSatisfy { $0.count == 1 && incidents.contains($0["incident_id"] ?? "") }, "\(exemplars)")
      #expect(try prometheus.stop() == 0)
      #expect(try node.agent.stop() == 0)
    }

    /// A thousand slow clients, each from an address of its own, who come back when they are closed: scrapes go on, and nothing is lost.
    @Test func aThousandSlowClientsStopNothing() throws {
      let node = try RacedNode()
      let before = try node.agent.metrics()
      let slow = try Background(
        ["ip", "netns", "exec", node.lab.node, Executables.racelab, "slow", AgentProcess.listenAddress, "/metrics", "1000", "120"])
      guard Clock.poll(seconds: 60, { slow.output.contains("ready") || slow.exitStatus != nil }) else {
        throw LabError("the slow clients did not start")
      }
      let pod = node.lab.clients[0]
      let load = try Background(
        node.lab.racelab(in: pod, ["ask", "--count", "5000", "--rate", "1000", "--from", pod.v4, "--server", "10.96.0.10"]))
      var waits: [Double] = []
      var unanswered = 0
      // As long as the load lasts, and on a busy machine until there are scrapes enough to say something.
      while slow.exitStatus == nil, load.exitStatus == nil || waits.count < 24 {
        let began = Clock.now
        if try node.agent.get("/metrics").status != 0 { unanswered += 1 }
        waits.append(Clock.now - began)
        usleep(100_000)
      }
      // They end with 0 when their time is over, too.
      #expect(slow.exitStatus == nil, "the slow clients went before the scrapes were done")
      slow.signal(SIGTERM)
      #expect(slow.wait(seconds: 30) == 0, "\(slow.errors)")
      #expect(load.wait(seconds: 30) == 0, "\(load.errors)")
      let asked = AskedQuery.parse(load.output)
      let page = try node.agent.settle(transmissions: asked.count, seconds: 10)
      waits.sort()
      let turn = page.sum("racetrack_longest_turn_seconds")
      let evicted = page.sum("racetrack_http_connections_closed_total", ["reason": "evicted"])
      print(
        "1,000 slow clients: \(slow.output.split(separator: "\n").last ?? ""), \(waits.count) scrapes, \(unanswered) unanswered, median "
          + "\(Int(waits[waits.count / 2] * 1e3)) ms, worst \(Int((waits.last ?? 0) * 1e3)) ms, \(Int(evicted)) evicted, longest turn \(turn) s")
      #expect(unanswered == 0 && waits.count >= 20 && waits[waits.count / 2] < 1)
      #expect(page.sum("racetrack_http_connections_accepted_total") > 1000 && evicted > 900)
      #expect(page.sum("racetrack_http_connections") <= 64)
      // The ring: every query was seen, none lost, no time blind, and the loop was never away for long.
      #expect(asked.count == 10_000 && asked.allSatisfy { $0.answered != nil })
      #expect(page.sum("racetrack_dns_fates_total", ["fate": "answered"]) == 10_000)
      #expect(page.sum("racetrack_packets_lost_total") == 0 && page.sum("racetrack_conntrack_events_lost_total") == 0)
      #expect(page.sum("racetrack_blind_seconds_total", ["source": "any"]) == before.sum("racetrack_blind_seconds_total", ["source": "any"]))
      #expect(turn < 0.5)
      for problem in page.conservationProblems() { Issue.record("\(problem)") }
      #expect(try node.agent.stop() == 0)
    }
  }
}
