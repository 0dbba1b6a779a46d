import Foundation
import TestSupport
import Testing

extension KernelTests {
  /// Every way that a lookup can take through a node with routed pods, first healthy, then with something broken on each.
  @Suite(.serialized) struct RoutedTopologyTests {
    typealias Saying = TopologyRun.Saying
    static let policy = Saying("dropped_on_node", "policy_or_route")
    static let afterInsertion = Saying("dropped_on_node", "after_insertion")
    static let silent = Saying("no_answer", "silent")

    @Test func everyWayOfARoutedNode() throws {
      let node = try RoutedNode()
      let run = try TopologyRun(node.topology, ["--dns.timeout", "3s"])
      try healthy(node, run)
      try run.join()
      try leave(node, run)
      try broken(node, run)
      try deleted(node, run)
      try run.join()
      node.relay.signal(SIGTERM)
      _ = node.relay.wait(seconds: 5)
      let upstream = AskedQuery.parse(node.relay.output)
      run.add("fwd", upstream.filter { $0.key.name.contains(".fwd.") }, .answered)
      run.add("fwdlost", upstream.filter { $0.key.name.contains(".fwdlost.") }, .lost, Self.policy)
      let page = try run.finish(settling: 12)
      TopologyChecks.check("routed", run, page)
      #expect(run.groups.last?.said.allSatisfy { $0.role == "dns_server" } == true, "a forwarder's own queries")
      for leg in ["sent", "delivered"] { #expect(page.sum("racetrack_path_observable", ["leg": leg]) == 1, "\(leg)") }
      let retried = run.groups.first { $0.label == "retried" }!
      #expect(retried.said.allSatisfy { $0.verdict == "late_answer" }, "\(retried.table)")
      #expect(page.sum("racetrack_conntrack_events_lost_total") == 0)
      #expect(page.sum("racetrack_dns_transmissions_total", ["vantage": "server"]) >= 80)
      #expect(page.sum("racetrack_dns_transmissions_total", ["vantage": "transit"]) >= 20)
    }

    private func healthy(_ node: RoutedNode, _ run: TopologyRun) throws {
      for name in RoutedNode.victims { try run.ask("warm-\(name)", node[name], "10.96.0.12", .answered) }
      for (name, server) in [("bh", "10.96.0.40"), ("unr", "10.96.0.41"), ("lin", "169.254.20.10"), ("lno", "169.254.20.10"), ("lvi", "10.96.0.15")] {
        try run.ask("warm2-\(name)", node[name], server, .answered)
      }
      let (one, two) = (node["h1"], node["h2"])
      try run.ask("four", one, "10.96.0.12", .answered, with: "--together --types A,AAAA")
      try run.ask("six", one, "fd96::12", .answered, with: "--together --types A,AAAA")
      try run.ask("warm-p6", node["fwd"], "fd96::12", .answered)
      try run.ask("direct", one, node["b1"].v4, .answered)
      try run.ask("edns", one, "10.96.0.12", .answered, with: "--edns --mixed-case")
      try run.ask("flip", one, "10.96.0.20", .answered, with: "--mixed-case")
      try run.ask("truncated", one, "10.96.0.19", .answered)
      try run.ask("fragments", one, "10.96.0.21", .answered, with: "--edns")
      try run.ask("reuse", one, "10.96.0.12", .answered, with: "--from-port 33000 --id 7")
      try run.ask("port5353", one, "10.96.0.13", .answered)
      try run.ask("vxlan", one, "10.96.0.14", .answered)
      try run.ask("slow", one, "10.96.0.18", .answered)
      // Answered by what came 1.2 s after the first attempt; the second answer finds nobody.
      try run.ask("retried", node["rt"], "10.96.0.18", .untold, with: "--retry-ms 1000 --timeout-ms 3000")
      run.furtherTransmissions += 20
      try run.ask("local", two, "169.254.20.10", .answered)
      try run.ask("localnotrack", two, "169.254.20.11", .answered)
      try run.ask("localvip", two, "10.96.0.15", .answered)
      try run.ask("redirect", two, "10.99.0.1", .answered)
      try run.ask("hairpin", node["hair"], "10.96.0.16", .answered)
      try run.ask("notrack", node["raw"], node["b1"].v4, .answered)
      try run.ask("uplinks", two, "192.0.2.53", .answered)
      try run.ask("masquerade1", node["m1"], "192.168.9.2", .answered, with: "--from-port 34000")
      try run.ask("masquerade2", node["m2"], "192.168.9.2", .answered, with: "--from-port 34000")
      try run.ask("fwd", one, "10.96.0.17", .answered)
      try run.launch("host", in: "n", .answered, with: "ask --from 10.255.0.1 --server \(node["b1"].v4) --count 20 --types A")
      try run.launch("hostvip", in: "n", .answered, with: "ask --from 10.255.0.1 --server 10.96.0.12 --count 20 --types A")
      try run.launch("served", in: "out", .answered, vantage: "server", with: "ask --from 192.168.9.2 --server \(node["b1"].v4) --count 20 --types A")
      try run.launch("servedvip", in: "out", .answered, vantage: "server", with: "ask --from 192.168.9.2 --server 10.96.0.12 --count 20 --types A")
      try run.launch(
        "served2", in: "out2", .answered, vantage: "server", with: "ask --from 192.168.10.2 --server \(node["b1"].v4) --count 20 --types A")
      try run.launch("transit", in: "out", .ignored, with: "ask --from 192.168.9.2 --server 192.168.10.2 --count 20 --types A")
      try run.launch(
        "multicast", in: "h1", .ignored, with: "ask --from \(one.v4) --server 224.0.0.251 --port 5353 --count 10 --types A --timeout-ms 300")
      try run.launch(
        "overtcp", in: "h1", .ignored, with: "race --quiet --tcp --port 53 --from \(one.v4) --servers 10.96.0.12 --pairs 10 --wait-ms 300")
    }

    /// A client that keeps its port keeps its entry: it goes on asking a backend that the service left. Before that the service gave its two backends in
    /// turn: a single client's entries would else look the same where its session affinity ended.
    private func leave(_ node: RoutedNode, _ run: TopologyRun) throws {
      try run.ask("in-turn", node["stale"], "10.96.0.49", .answered)
      try run.join()
      try run.ask("stayed", node["stale"], "10.96.0.49", .answered, with: "--from-port 37000")
      try run.join()
      try node.topology.sh(
        """
        ip netns exec $T-bstale nft 'add table ip x; add chain ip x in { type filter hook input priority 0; policy drop; }'
        ip netns exec $T-n nft 'flush chain ip moving pre; add rule ip moving pre ip daddr 10.96.0.49 udp dport 53 dnat to \(node["b1"].v4)'
        """)
      try run.ask("moved", node["stale"], "10.96.0.49", .answered, with: "--count 30")
      try run.join()
      try run.ask(
        "lost-stale", node["stale"], "10.96.0.49", .lost, Saying("no_answer", "stale_backend"),
        with: "--from-port 37000 --count 4 --timeout-ms 300")
    }

    private func broken(_ node: RoutedNode, _ run: TopologyRun) throws {
      try node.breakEverything()
      for name in ["fwd", "post", "ipt", "mangle", "tcin"] { try run.ask("lost-\(name)", node[name], "10.96.0.12", .lost, Self.policy) }
      try run.ask("lost-six", node["fwd"], "fd96::12", .lost, Self.policy)
      try run.ask("lost-raw", node["raw"], node["b1"].v4, .lost, Self.policy)
      try run.ask("lost-masq", node["m1"], "192.168.9.2", .lost, Self.policy)
      try run.ask("lost-blackhole", node["bh"], "10.96.0.40", .lost, Self.policy)
      try run.ask("lost-unreachable", node["unr"], "10.96.0.41", .lost, Self.policy)
      try run.ask("lost-egress", node["tceg"], "10.96.0.42", .lost, Self.afterInsertion)
      try run.ask("lost-neighbour", node["arp"], "10.96.0.43", .lost, Self.afterInsertion)
      try run.ask("lost-answer", node["ans"], "10.96.0.12", .lost, Saying("answer_dropped_on_node"))
      try run.ask("lost-closed", node["icmp"], "10.96.0.44", .lost, Saying("no_answer", "icmp_unreachable"))
      try run.ask("lost-mute", node["mute"], "10.96.0.45", .lost, Self.silent)
      try run.ask("lost-late", node["late"], "10.96.0.46", .lost, Self.silent, Saying("late_answer"))
      try run.ask("lost-invalid", node["inv"], "10.96.0.12", .lost, Saying("dropped_on_node", "invalid"), with: "--bad-checksum")
      try run.ask("lost-input", node["lin"], "169.254.20.10", .lost, Saying("no_answer", "local_server"))
      try run.ask("lost-nobody", node["lno"], "169.254.20.14", .lost, Saying("no_answer", "local_server", "icmp_unreachable"))
      try run.ask("lost-localvip", node["lvi"], "10.96.0.15", .lost, Saying("no_answer", "local_server"))
      try run.ask("fwdlost", node["h1"], "10.96.0.17", .lost, Self.silent)
      try run.launch(
        "lost-host", in: "n", .lost, [Self.silent], with: "ask --from 10.255.0.1 --server \(node["bmute"].v4) --count 20 --types A --timeout-ms 1000")
      try run.launch(
        "lost-served", in: "out", .lost, [Self.silent], vantage: "server",
        with: "ask --from 192.168.9.2 --server 10.96.0.45 --count 20 --types A --timeout-ms 1000")
      try run.launch(
        "lost-servedanswer", in: "out", .lost, [Saying("answer_dropped_on_node")], vantage: "server",
        with: "ask --from 192.168.9.2 --server \(node["bsv"].v4) --count 20 --types A --timeout-ms 1000")
    }

    /// Entries that go while their answers are on the way.
    private func deleted(_ node: RoutedNode, _ run: TopologyRun) throws {
      let untranslated = Saying("answer_untranslated", "entry_deleted")
      try run.ask("deleted", node["del"], "10.96.0.47", .lost, untranslated)
      try run.ask("deletedmasq", node["delm"], "10.96.0.47", .lost, untranslated)
      usleep(480_000)
      for name in ["del", "delm"] { try node.topology.sh("ip netns exec $T-n conntrack -D -p udp --orig-src \(node[name].v4) >/dev/null 2>&1") }
      try run.join()
      try run.launch(
        "flushed", in: "del", .mixed, [untranslated],
        with: "ask --from \(node["del"].v4) --server 10.96.0.48 --count 200 --rate 400 --types A --timeout-ms 1000")
      for _ in 0..<4 {
        usleep(100_000)
        try node.topology.sh("ip netns exec $T-n conntrack -F >/dev/null 2>&1")
      }
      try run.join()
    }
  }
}
