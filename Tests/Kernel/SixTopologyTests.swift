import Foundation
import TestSupport
import Testing

extension KernelTests {
  /// What `RoutedTopologyTests` asks of IPv4, of IPv6 where the kernel has code of its own for it.
  @Suite(.serialized) struct SixTopologyTests {
    typealias Saying = TopologyRun.Saying
    static let policy = Saying("dropped_on_node", "policy_or_route")
    static let afterInsertion = Saying("dropped_on_node", "after_insertion")
    static let untranslated = Saying("answer_untranslated", "entry_deleted")

    @Test func everyWayOfARoutedNode() throws {
      let node = try SixNode()
      let run = try TopologyRun(node.topology, ["--dns.timeout", "3s"])
      try healthy(node, run)
      try run.join()
      try broken(node, run)
      try deleted(node, run)
      node.relay.signal(SIGTERM)
      _ = node.relay.wait(seconds: 5)
      let upstream = AskedQuery.parse(node.relay.output)
      run.add("fwded", upstream.filter { $0.key.name.contains(".fwded.") }, .answered)
      run.add("fwdedlost", upstream.filter { $0.key.name.contains(".fwdedlost.") }, .lost, Self.policy)
      let page = try run.finish(settling: 10)
      TopologyChecks.check("six", run, page)
      #expect(run.groups.last?.said.allSatisfy { $0.role == "dns_server" } == true, "a forwarder's own queries")
      for leg in ["sent", "delivered"] { #expect(page.sum("racetrack_path_observable", ["leg": leg]) == 1, "\(leg)") }
      #expect(page.sum("racetrack_dns_transmissions_total", ["vantage": "server"]) >= 40)
    }

    private func healthy(_ node: SixNode, _ run: TopologyRun) throws {
      func ask(_ label: String, _ name: String, _ server: String, _ options: String = "") throws {
        try run.ask(label, node[name], server, .answered, with: options)
      }
      for name in SixNode.victims { try ask("warm-\(name)", name, "fd96::12") }
      for (name, server) in [("bh", "fd96::40"), ("unr", "fd96::41"), ("lin", "fd99::10")] { try ask("warm2-\(name)", name, server) }
      try ask("together", "h1", "fd96::12", "--together --types A,AAAA")
      try ask("direct", "h1", node["b1"].v6)
      try ask("edns", "h1", "fd96::12", "--edns --mixed-case")
      try ask("fragments", "h1", "fd96::21", "--edns")
      try ask("reuse", "h1", "fd96::12", "--from-port 33000 --id 7")
      try ask("port5353", "h1", "fd96::13")
      try ask("vxlan", "h1", "fd96::14")
      try ask("slow", "h1", "fd96::18")
      try ask("local", "h2", "fd99::10")
      try ask("localnotrack", "h2", "fd99::11")
      try ask("localvip", "h2", "fd96::15")
      try ask("redirect", "h2", "fd98::1")
      try ask("hairpin", "hair", "fd96::16")
      try ask("fwded", "h1", "fd96::17")
      try ask("warm2-vx", "vx", "fd77::2")
      try ask("masquerade1", "m1", "fd09::2", "--from-port 34000")
      try ask("masquerade2", "m2", "fd09::2", "--from-port 34000")
      try run.launch("host", in: "n", .answered, with: "ask --from \(Lab.nodeV6) --server \(node["b1"].v6) --count 20 --types A")
      try run.launch("hostvip", in: "n", .answered, with: "ask --from \(Lab.nodeV6) --server fd96::12 --count 20 --types A")
      try run.launch("served", in: "out", .answered, vantage: "server", with: "ask --from fd09::2 --server \(node["b1"].v6) --count 20 --types A")
      try run.launch("servedvip", in: "out", .answered, vantage: "server", with: "ask --from fd09::2 --server fd96::12 --count 20 --types A")
      try run.launch("transit", in: "out", .ignored, with: "ask --from fd09::2 --server fd09::9 --count 5 --types A --timeout-ms 300")
    }

    private func broken(_ node: SixNode, _ run: TopologyRun) throws {
      try node.breakEverything()
      for name in ["fwd", "ipt"] { try run.ask("lost-\(name)", node[name], "fd96::12", .lost, Self.policy) }
      try run.ask("lost-masq", node["m1"], "fd09::2", .lost, Self.policy)
      try run.ask("lost-hairpin", node["hair"], "fd96::16", .lost, Self.policy)
      try run.ask("lost-tunnel", node["vx"], "fd77::3", .lost, Saying("no_answer", "silent"))
      try run.ask("fwdedlost", node["h1"], "fd96::17", .lost, Saying("no_answer", "silent"))
      try run.ask("lost-blackhole", node["bh"], "fd96::40", .lost, Self.policy)
      try run.ask("lost-unreachable", node["unr"], "fd96::41", .lost, Self.policy)
      try run.ask("lost-egress", node["tceg"], "fd96::42", .lost, Self.afterInsertion)
      try run.ask("lost-neighbour", node["arp"], "fd96::43", .lost, Self.afterInsertion)
      try run.ask("lost-answer", node["ans"], "fd96::12", .lost, Saying("answer_dropped_on_node"))
      try run.ask("lost-closed", node["icmp"], "fd96::44", .lost, Saying("no_answer", "silent", "icmp_unreachable"))
      try run.ask("lost-mute", node["mute"], "fd96::45", .lost, Saying("no_answer", "silent"))
      try run.ask("lost-input", node["lin"], "fd99::10", .lost, Saying("no_answer", "local_server"))
      try run.launch(
        "lost-host", in: "n", .lost, [Saying("no_answer", "silent")],
        with: "ask --from \(Lab.nodeV6) --server \(node["bmute"].v6) --count 20 --types A --timeout-ms 1000")
    }

    /// Entries that go while their answers are on the way.
    private func deleted(_ node: SixNode, _ run: TopologyRun) throws {
      for name in ["del", "delm"] { try run.ask("deleted-\(name)", node[name], "fd96::47", .lost, Self.untranslated) }
      usleep(480_000)
      for name in ["del", "delm"] {
        try node.topology.sh("ip netns exec $T-n conntrack -D -f ipv6 -p udp --orig-src \(node[name].v6) >/dev/null 2>&1")
      }
      try run.join()
    }
  }
}
