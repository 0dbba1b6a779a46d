import Glibc
import TestSupport
import Testing

extension KernelTests {
  /// Pods on a bridge, with and without br_netfilter.
  @Suite(.serialized) struct BridgedTopologyTests {
    typealias Saying = TopologyRun.Saying
    static let policy = Saying("dropped_on_node", "policy_or_route")

    /// Services: 10.96.0.10 and .11 share the routed backend, .20 has a backend on the bridge (masqueraded), .21 the same without, .30 on the node.
    @Test(arguments: [false, true]) func everyWayOfABridge(callsIPTables: Bool) throws {
      let topology = try Topology()
      try topology.bridge(callsIPTables: callsIPTables)
      let names = ["ok", "fwd", "post", "brf", "brfs", "ans", "ansbr", "byp", "del"]
      let pods = Dictionary(uniqueKeysWithValues: try names.map { ($0, try topology.bridged($0)) })
      let near = try topology.bridged("near")
      let far = try topology.routed("far")
      try topology.sh("ip -n $T-n addr add 169.254.20.10/32 dev lo")
      try topology.nft(rules(near, far))
      try topology.serve(in: "near", "\(near.v4):53,[\(near.v6)]:53", "--delay-ms 1")
      try topology.serve(in: "far", "\(far.v4):53,[\(far.v6)]:53")
      try topology.serve(in: "n", "169.254.20.10:53")
      let run = try TopologyRun(topology, ["--dns.timeout", "3s"])
      for name in names { try run.ask("warm-\(name)", pods[name]!, "10.96.0.10", .answered) }
      for name in ["brfs", "ansbr"] { try run.ask("warm2-\(name)", pods[name]!, "10.96.0.20", .answered) }
      let ok = pods["ok"]!
      try run.ask("six", ok, "fd96::10", .answered, with: "--together --types A,AAAA")
      try run.ask("nearsix", ok, "fd96::20", .answered)
      try run.ask("near", ok, "10.96.0.20", .answered)
      try run.ask("direct", ok, near.v4, .answered)
      try run.ask("directfar", ok, far.v4, .answered)
      try run.ask("local", ok, "169.254.20.10", .answered)
      try run.ask("localvip", ok, "10.96.0.30", .answered)
      try run.ask("routed", far, "10.96.0.20", .answered)
      try run.launch("host", in: "n", .answered, with: "ask --from 10.50.0.1 --server \(near.v4) --count 20 --types A")
      let bypass = Saying("answer_untranslated", "bridge_bypass")
      if callsIPTables {
        try run.ask("unmasked", ok, "10.96.0.21", .answered)
      } else {
        try run.ask("unmasked", pods["byp"]!, "10.96.0.21", .lost, bypass)
      }
      try run.join()
      try breakSome(topology, pods)
      try run.ask("lost-fwd", pods["fwd"]!, "10.96.0.10", .lost, Self.policy)
      try run.ask("lost-six", pods["fwd"]!, "fd96::10", .lost, Self.policy)
      try run.ask("lost-post", pods["post"]!, "10.96.0.10", .lost, Self.policy)
      try run.ask("lost-brf", pods["brf"]!, "10.96.0.10", .lost, Self.policy)
      try run.ask("lost-brfs", pods["brfs"]!, "10.96.0.20", .lost, Self.policy, Saying("dropped_on_node", "after_insertion"))
      try run.ask("lost-ans", pods["ans"]!, "10.96.0.10", .lost, Saying("answer_dropped_on_node"))
      try run.ask("lost-ansbr", pods["ansbr"]!, "10.96.0.20", .lost, Saying("answer_dropped_on_node"))
      let page = try run.finish()
      TopologyChecks.check("bridged, br_netfilter \(callsIPTables)", run, page)
    }

    private func rules(_ near: Topology.Pod, _ far: Topology.Pod) -> String {
      Topology.services([
        ("10.96.0.10", far.v4), ("10.96.0.11", far.v4), ("10.96.0.20", near.v4), ("10.96.0.21", near.v4), ("10.96.0.30", "169.254.20.10"),
      ]) + Topology.services([("fd96::10", far.v6), ("fd96::20", near.v6)], family: "ip6")
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
