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

    @Test(arguments: Family.allCases) func everyWayOfARoutedNode(_ family: Family) throws {
      let node = try RoutedNode(family)
      let run = try TopologyRun(node.topology, ["--dns.timeout", "3s"])
      try healthy(node, run)
      try run.join()
      try leave(node, run)
      let refused = try node.topology.unreachablesSent(in: "bicmp", family)
      try broken(node, run)
      try deleted(node, run)
      try run.join()
      #expect(try node.topology.unreachablesSent(in: "bicmp", family) - refused == 20, "void: not every query was refused")
      node.relay.signal(SIGTERM)
      _ = node.relay.wait(seconds: 5)
      let upstream = AskedQuery.parse(node.relay.output)
      run.add("fwd", upstream.filter { $0.key.name.contains(".fwd.") }, .answered)
      run.add("fwdlost", upstream.filter { $0.key.name.contains(".fwdlost.") }, .lost, Self.policy)
      let page = try run.finish(settling: 12)
      TopologyChecks.check("routed, \(family)", run, page)
      #expect(run.groups.last?.said.allSatisfy { $0.role == "dns_server" } == true, "a forwarder's own queries")
      for leg in ["sent", "delivered"] { #expect(page.sum("racetrack_path_observable", ["leg": leg]) == 1, "\(leg)") }
      let retried = run.groups.first { $0.label == "retried" }!
      #expect(retried.said.allSatisfy { $0.verdict == "late_answer" }, "\(retried.table)")
      let flushed = run.groups.first { $0.label == "flushed" }!
      #expect(flushed.queries.contains { $0.answered == nil }, "void: nothing was flushed under way")
      #expect(page.sum("racetrack_conntrack_events_lost_total") == 0)
      #expect(page.sum("racetrack_dns_transmissions_total", ["vantage": "server"]) >= 80)
      #expect(page.sum("racetrack_dns_transmissions_total", ["vantage": "transit"]) >= 20)
    }

    private func healthy(_ node: RoutedNode, _ run: TopologyRun) throws {
      let family = node.family
      func ask(_ label: String, _ name: String, _ server: String, _ options: String = "") throws {
        try run.ask(label, node[name], server, .answered, with: options)
      }
      for name in RoutedNode.victims { try ask("warm-\(name)", name, family.service(12)) }
      for (name, server) in [
        ("bh", family.service(40)), ("unr", family.service(41)), ("lin", family.local(10)), ("lno", family.local(10)), ("lvi", family.service(15)),
        ("vx", family.tunnel(2)),
      ] { try ask("warm2-\(name)", name, server) }
      try ask("together", "h1", family.service(12), "--together --types A,AAAA")
      try ask("other", "h1", family.other.service(12), "--together --types A,AAAA")
      try ask("warm-other", "fwd", family.other.service(12))
      try ask("direct", "h1", node.address("b1"))
      try ask("edns", "h1", family.service(12), "--edns --mixed-case")
      try ask("flip", "h1", family.service(20), "--mixed-case")
      try ask("truncated", "h1", family.service(19))
      try ask("fragments", "h1", family.service(21), "--edns")
      try ask("reuse", "h1", family.service(12), "--from-port 33000 --id 7")
      try ask("port5353", "h1", family.service(13))
      try ask("vxlan", "h1", family.service(14))
      try ask("slow", "h1", family.service(18))
      // Answered by what came 1.2 s after the first attempt; the second answer finds nobody.
      try run.ask("retried", node["rt"], family.service(18), .untold, with: "--retry-ms 1000 --timeout-ms 3000")
      run.furtherTransmissions += 20
      try ask("local", "h2", family.local(10))
      try ask("localnotrack", "h2", family.local(11))
      try ask("localvip", "h2", family.service(15))
      try ask("redirect", "h2", family.redirected)
      try ask("hairpin", "hair", family.service(16))
      try ask("notrack", "raw", node.address("b1"))
      try ask("uplinks", "h2", family.beyond(53))
      try ask("masquerade1", "m1", family.uplink(0, 2), "--from-port 34000")
      try ask("masquerade2", "m2", family.uplink(0, 2), "--from-port 34000")
      try ask("fwd", "h1", family.service(17))
      func launch(_ label: String, in short: String, _ from: String, _ server: String, _ fate: TopologyRun.Fate, _ vantage: String = "client") throws
      {
        try run.launch(label, in: short, fate, vantage: vantage, with: "ask --from \(from) --server \(server) --count 20 --types A")
      }
      let (out, out2) = (family.uplink(0, 2), family.uplink(1, 2))
      try launch("host", in: "n", family.node, node.address("b1"), .answered)
      try launch("hostvip", in: "n", family.node, family.service(12), .answered)
      try launch("served", in: "out", out, node.address("b1"), .answered, "server")
      try launch("servedvip", in: "out", out, family.service(12), .answered, "server")
      try launch("served2", in: "out2", out2, node.address("b1"), .answered, "server")
      try launch("transit", in: "out", out, out2, .ignored)
      let one = node.address("h1")
      try run.launch(
        "multicast", in: "h1", .ignored,
        with: "ask --from \(one) --server \(family.multicastDNS) --port 5353 --count 10 --types A --timeout-ms 300")
      try run.launch(
        "overtcp", in: "h1", .ignored,
        with: "race --quiet --tcp --port 53 --from \(one) --servers \(family.service(12)) --pairs 10 --wait-ms 300")
    }

    /// A client that keeps its port keeps its entry: it goes on asking a backend that the service left. Before that the service gave its two backends in
    /// turn: a single client's entries would else look the same where its session affinity ended.
    private func leave(_ node: RoutedNode, _ run: TopologyRun) throws {
      let (service, ip) = (node.family.service(49), node.family.nft)
      try run.ask("in-turn", node["stale"], service, .answered)
      try run.join()
      try run.ask("stayed", node["stale"], service, .answered, with: "--from-port 37000")
      try run.join()
      try node.topology.sh(
        """
        ip netns exec $T-bstale nft 'add table inet x; add chain inet x in { type filter hook input priority 0; policy drop; }'
        ip netns exec $T-n nft 'flush chain \(ip) moving pre; add rule \(ip) moving pre \(ip) daddr \(service) udp dport 53 dnat to \(node.address("b1"))'
        """)
      try run.ask("moved", node["stale"], service, .answered, with: "--count 30")
      try run.join()
      try run.ask(
        "lost-stale", node["stale"], service, .lost, Saying("no_answer", "stale_backend"), with: "--from-port 37000 --count 4 --timeout-ms 300")
    }

    private func broken(_ node: RoutedNode, _ run: TopologyRun) throws {
      try node.breakEverything()
      let family = node.family
      func ask(_ label: String, _ name: String, _ server: String, _ sayings: Saying..., with options: String = "") throws {
        try run.ask("lost-" + label, node[name], server, .lost, sayings, with: options)
      }
      for name in ["fwd", "post", "ipt", "mangle", "tcin"] { try ask(name, name, family.service(12), Self.policy) }
      try ask("other", "fwd", family.other.service(12), Self.policy)
      try ask("raw", "raw", node.address("b1"), Self.policy)
      try ask("masq", "m1", family.uplink(0, 2), Self.policy)
      try ask("hairpin", "hair", family.service(16), Self.policy)
      try ask("tunnel", "vx", family.tunnel(3), Self.silent)
      try ask("blackhole", "bh", family.service(40), Self.policy)
      try ask("unreachable", "unr", family.service(41), Self.policy)
      try ask("egress", "tceg", family.service(42), Self.afterInsertion)
      try ask("neighbour", "arp", family.service(43), Self.afterInsertion)
      try ask("answer", "ans", family.service(12), Saying("answer_dropped_on_node"))
      try ask("closed", "icmp", family.service(44), Saying("no_answer", "icmp_unreachable"))
      try ask("mute", "mute", family.service(45), Self.silent)
      try ask("late", "late", family.service(46), Self.silent, Saying("late_answer"))
      try ask("invalid", "inv", family.service(12), Saying("dropped_on_node", "invalid"), with: "--bad-checksum")
      try ask("input", "lin", family.local(10), Saying("no_answer", "local_server"))
      try ask("nobody", "lno", family.local(14), Saying("no_answer", "icmp_unreachable"))
      try ask("localvip", "lvi", family.service(15), Saying("no_answer", "local_server"))
      try run.ask("fwdlost", node["h1"], family.service(17), .lost, Self.silent)
      func launch(_ label: String, in short: String, _ from: String, _ server: String, _ saying: Saying, _ vantage: String) throws {
        try run.launch(
          label, in: short, .lost, [saying], vantage: vantage,
          with: "ask --from \(from) --server \(server) --count 20 --types A --timeout-ms 1000")
      }
      try launch("lost-host", in: "n", family.node, node.address("bmute"), Self.silent, "client")
      try launch("lost-served", in: "out", family.uplink(0, 2), family.service(45), Self.silent, "server")
      try launch("lost-servedanswer", in: "out", family.uplink(0, 2), node.address("bsv"), Saying("answer_dropped_on_node"), "server")
    }

    /// Entries that go while their answers are on the way.
    private func deleted(_ node: RoutedNode, _ run: TopologyRun) throws {
      let untranslated = Saying("answer_untranslated", "entry_deleted")
      let family = node.family
      try run.ask("deleted", node["del"], family.service(47), .lost, untranslated)
      try run.ask("deletedmasq", node["delm"], family.service(47), .lost, untranslated)
      usleep(480_000)
      for name in ["del", "delm"] {
        try node.topology.sh("ip netns exec $T-n conntrack -D -f \(family.sysctl) -p udp --orig-src \(node.address(name)) >/dev/null 2>&1")
      }
      try run.join()
      try run.launch(
        "flushed", in: "del", .mixed, [untranslated],
        with: "ask --from \(node.address("del")) --server \(family.service(48)) --count 200 --rate 400 --types A --timeout-ms 1000")
      for _ in 0..<4 {
        usleep(100_000)
        try node.topology.sh("ip netns exec $T-n conntrack -F -f \(family.sysctl) >/dev/null 2>&1")
      }
      try run.join()
    }
  }
}
