import Glibc
import TestSupport
import Testing

extension KernelTests {
  /// Pods on a bridge, with and without br_netfilter.
  @Suite(.serialized) struct BridgedTopologyTests {
    typealias Saying = TopologyRun.Saying
    static let policy = Saying("dropped_on_node", "policy_or_route")

    /// Services: 10.96.0.10 and .11 share the routed backend, .20 has a backend on the bridge (masqueraded), .21 the same without, .30 on the node,
    /// .40 a slow one.
    @Test(arguments: [false, true]) func everyWayOfABridge(callsIPTables: Bool) throws {
      let topology = try Topology()
      try topology.bridge(callsIPTables: callsIPTables)
      let names = ["ok", "fwd", "post", "brf", "brfs", "ans", "ansbr", "byp", "del"]
      let pods = Dictionary(uniqueKeysWithValues: try names.map { ($0, try topology.bridged($0)) })
      let near = try topology.bridged("near")
      let (far, slow) = (try topology.routed("far"), try topology.routed("slow"))
      try topology.sh("ip -n $T-n addr add 169.254.20.10/32 dev lo")
      try topology.nft(rules(near, far, slow))
      try topology.sh("ip -n $T-n addr add fd99::10/128 dev lo")
      try topology.serve(in: "near", "\(near.v4):53,[\(near.v6)]:53", "--delay-ms 1")
      try topology.serve(in: "far", "\(far.v4):53,[\(far.v6)]:53")
      try topology.serve(in: "slow", "\(slow.v4):53,[\(slow.v6)]:53", "--delay-ms 600")
      try topology.serve(in: "n", "169.254.20.10:53,[fd99::10]:53")
      let run = try TopologyRun(topology, ["--dns.timeout", "3s"])
      for name in names { try run.ask("warm-\(name)", pods[name]!, "10.96.0.10", .answered) }
      for name in ["brfs", "ansbr"] { try run.ask("warm2-\(name)", pods[name]!, "10.96.0.20", .answered) }
      let ok = pods["ok"]!
      try run.ask("six", ok, "fd96::10", .answered, with: "--together --types A,AAAA")
      try run.ask("nearsix", ok, "fd96::20", .answered)
      try run.ask("near", ok, "10.96.0.20", .answered)
      try run.ask("direct", ok, near.v4, .answered)
      try run.ask("directsix", ok, near.v6, .answered)
      try run.ask("localsix", ok, "fd99::10", .answered)
      try run.ask("warm-anssix", pods["ans"]!, "fd96::10", .answered)
      try run.ask("routedsix", far, "fd96::20", .answered)
      try run.ask("directfar", ok, far.v4, .answered)
      try run.ask("local", ok, "169.254.20.10", .answered)
      try run.ask("localvip", ok, "10.96.0.30", .answered)
      try run.ask("routed", far, "10.96.0.20", .answered)
      try run.launch("host", in: "n", .answered, with: "ask --from 10.50.0.1 --server \(near.v4) --count 20 --types A")
      let bypass = Saying("answer_untranslated", "bridge_bypass")
      if callsIPTables {
        try run.ask("unmasked", ok, "10.96.0.21", .answered)
        try run.ask("unmaskedsix", ok, "fd96::21", .answered)
      } else {
        try run.ask("unmasked", pods["byp"]!, "10.96.0.21", .lost, bypass)
        try run.ask("unmaskedsix", pods["byp"]!, "fd96::21", .lost, bypass)
      }
      try run.join()
      try breakSome(topology, pods)
      try run.ask("lost-fwd", pods["fwd"]!, "10.96.0.10", .lost, Self.policy)
      try run.ask("lost-six", pods["fwd"]!, "fd96::10", .lost, Self.policy)
      try run.ask("lost-post", pods["post"]!, "10.96.0.10", .lost, Self.policy)
      try run.ask("lost-brf", pods["brf"]!, "10.96.0.10", .lost, Self.policy)
      try run.ask("lost-brfs", pods["brfs"]!, "10.96.0.20", .lost, Self.policy, Saying("dropped_on_node", "after_insertion"))
      try run.ask("lost-ans", pods["ans"]!, "10.96.0.10", .lost, Saying("answer_dropped_on_node"))
      try run.ask("lost-anssix", pods["ans"]!, "fd96::10", .lost, Saying("answer_dropped_on_node"))
      try run.ask("lost-ansbr", pods["ansbr"]!, "10.96.0.20", .lost, Saying("answer_dropped_on_node"))
      let untranslated = Saying("answer_untranslated", "entry_deleted")
      try run.ask("deleted", pods["del"]!, "10.96.0.40", .lost, untranslated)
      try run.ask("deletedsix", pods["del"]!, "fd96::40", .lost, untranslated)
      usleep(480_000)
      for (family, own) in [("ipv4", pods["del"]!.v4), ("ipv6", pods["del"]!.v6)] {
        try topology.sh("ip netns exec $T-n conntrack -D -f \(family) -p udp --orig-src \(own) >/dev/null 2>&1")
      }
      let page = try run.finish()
      TopologyChecks.check("bridged, br_netfilter \(callsIPTables)", run, page)
    }

    private func rules(_ near: Topology.Pod, _ far: Topology.Pod, _ slow: Topology.Pod) -> String {
      Topology.services([
        ("10.96.0.10", far.v4), ("10.96.0.11", far.v4), ("10.96.0.20", near.v4), ("10.96.0.21", near.v4), ("10.96.0.30", "169.254.20.10"),
        ("10.96.0.40", slow.v4),
      ]) + Topology.services([("fd96::10", far.v6), ("fd96::20", near.v6), ("fd96::21", near.v6), ("fd96::40", slow.v6)], family: "ip6")
        + """
        table ip other {
          chain postrouting { type nat hook postrouting priority 100;
            ct original ip daddr 10.96.0.20 masquerade
          }
        }
        table ip6 other {
          chain postrouting { type nat hook postrouting priority 100;
            ct original ip6 daddr fd96::20 masquerade
          }
        }

        """
    }

    private func breakSome(_ topology: Topology, _ pods: [String: Topology.Pod]) throws {
      let c = pods.mapValues(\.v4)
      try topology.nft(
        """
        table ip faults {
          chain forward { type filter hook forward priority 0;
            ip saddr \(c["fwd"]!) udp dport 53 drop
            ip daddr \(c["ans"]!) udp sport 53 drop
          }
          chain late { type filter hook postrouting priority 200;
            ip saddr \(c["post"]!) udp dport 53 drop
          }
        }
        table ip6 faults {
          chain forward { type filter hook forward priority 0;
            ip6 saddr \(pods["fwd"]!.v6) udp dport 53 drop
            ip6 daddr \(pods["ans"]!.v6) udp sport 53 drop
          }
        }
        table bridge faults {
          chain input { type filter hook prerouting priority 0;
            iifname "vbrf" udp dport 53 drop
            iifname "vbrfs" udp dport 53 drop
          }
          chain output { type filter hook output priority 0;
            oifname "vansbr" udp sport 53 drop
          }
          chain forward { type filter hook forward priority 0;
            oifname "vansbr" udp sport 53 drop
          }
        }
        """)
    }
  }
}
