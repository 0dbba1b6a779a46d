import Foundation
import TestSupport
import Testing

extension KernelTests {
  /// Ways that are rarer: a transparent proxy, processes of the node that race, ports that the kernel changes, answers by another uplink.
  @Suite(.serialized) struct OtherWaysTests {
    typealias Saying = TopologyRun.Saying
    static let policy = Saying("dropped_on_node", "policy_or_route")

    /// Services 10.96.0.N: .10 and .11 share a backend, .12 answers with 1,200 bytes, .13 is the hairpin, .14 slow, .15 mute behind the tunnel.
    @Test func rarerWaysOfARoutedNode() throws {
      let topology = try Topology()
      var pods: [String: Topology.Pod] = [:]
      for name in ["c1", "c2", "tp", "tpl", "rdl", "ntl", "hair", "vxl", "udl", "b1", "blong", "bslow"] { pods[name] = try topology.routed(name) }
      try build(topology, pods)
      let run = try TopologyRun(topology, ["--dns.timeout", "2s"])
      for (name, server) in [
        ("tp", "10.97.0.1"), ("tpl", "10.97.0.1"), ("rdl", "10.99.0.1"), ("ntl", "169.254.20.11"), ("hair", "10.96.0.13"), ("vxl", "10.77.0.2"),
        ("udl", "10.77.0.2"),
      ] { try run.ask("warm-\(name)", pods[name]!, server, .answered) }
      let one = pods["c1"]!
      try run.ask("asymmetric", one, "192.0.2.54", .answered)
      try run.ask("long", one, "10.96.0.12", .answered, with: "--edns")
      // One ID from many ports at once, each waiting 300 ms.
      try run.ask("equalids", one, "10.96.0.14", .answered, with: "--id 9 --rate 100")
      // The second of a pair comes when the first holds the tuple that it would get: it leaves from another port.
      try run.launch(
        "remapped", in: "c2", .answered,
        with: "race --gap-us 3000 --pairs 50 --pace-us 5000 --wait-ms 300 --from \(pods["c2"]!.v4) --servers 10.96.0.10,10.96.0.11")
      try run.join()
      let before = try KernelCounters.read(in: topology.node)
      for (label, own, servers) in [("hostrace", Lab.nodeV4, "10.96.0.10,10.96.0.11"), ("hostracesix", Lab.nodeV6, "fd96::10,fd96::11")] {
        try run.launch(
          label, in: "n", .answered, with: "race --pairs 300 --pace-us 1000 --port-base 21000 --wait-ms 300 --from \(own) --servers \(servers)")
        try run.join()
      }
      let refused = (try KernelCounters.read(in: topology.node) - before).insertFailed
      try breakSome(topology, pods)
      // What that race moved counts for a second.
      usleep(1_200_000)
      // A proxy's way shows no sent leg, not even of what it answers.
      try run.ask("lost-proxy", pods["tpl"]!, "10.97.0.1", .lost, Saying("dropped_on_node", "policy_or_route", graded: ["inferred"]))
      try run.ask("lost-redirect", pods["rdl"]!, "10.99.0.1", .lost, Saying("no_answer", "local_server"))
      try run.ask("lost-notrack", pods["ntl"]!, "169.254.20.11", .lost, Saying("no_answer", "local_server"))
      try run.ask("lost-hairpin", pods["hair"]!, "10.96.0.13", .lost, Self.policy)
      try run.ask("lost-tunnel", pods["vxl"]!, "10.77.0.3", .lost, Saying("no_answer", "silent"))
      try run.ask("lost-underlay", pods["udl"]!, "10.77.0.2", .lost, Saying("no_answer", "silent"))
      let page = try run.finish()
      TopologyChecks.check("other ways", run, page)
      let raced = run.groups.filter { $0.label.hasPrefix("hostrace") }.map(\.queries.count)
      print("other ways: of 600 queries of each race of the node's own \(raced) were sent, the kernel refused \(refused)")
      #expect(raced.reduce(0, +) + refused == 1200, "void: what a process of the node loses is refused at once")
      #expect(raced.allSatisfy { $0 <= 580 }, "void: too few races")
      #expect(page.sum("racetrack_conntrack_insert_failed_total") >= Double(refused))
    }

    private func build(_ topology: Topology, _ pods: [String: Topology.Pod]) throws {
      try topology.namespace("out")
      try topology.uplink("up0", to: "out", near: "192.168.9.1", far: "192.168.9.2")
      try topology.uplink("up1", to: "out", near: "192.168.10.1", far: "192.168.10.2")
      try topology.sh(
        """
        ip -n $T-out addr add 192.0.2.54/32 dev lo
        ip netns exec $T-out sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.up0.rp_filter=0 net.ipv4.conf.up1.rp_filter=0
        ip -n $T-n route add default nexthop via 192.168.9.2 dev up0 nexthop via 192.168.10.2 dev up1
        ip -n $T-n route add 192.0.2.54/32 via 192.168.9.2
        ip -n $T-out route add 10.40.0.0/24 via 192.168.10.1
        ip -n $T-n link add vx0 type vxlan id 7 remote 192.168.9.2 local 192.168.9.1 dstport 8472 dev up0
        ip -n $T-out link add vx0 type vxlan id 7 remote 192.168.9.1 local 192.168.9.2 dstport 8472 dev up0
        for n in n out; do ip -n $T-$n link set vx0 up; done
        ip -n $T-n addr add 10.77.0.1/24 dev vx0
        for a in 2 3; do ip -n $T-out addr add 10.77.0.$a/24 dev vx0; done
        for s in vxl udl; do ip -n $T-out route add $(ip -n $T-n -4 -o route show dev v$s | cut -d' ' -f1) via 10.77.0.1; done
        ip -n $T-n route add 10.96.0.0/24 dev lo
        ip -n $T-n route add fd96::/64 dev lo
        for a in 11 14; do ip -n $T-n addr add 169.254.20.$a/32 dev lo; done
        ip netns exec $T-n sysctl -qw net.ipv4.ip_nonlocal_bind=1
        ip -n $T-n rule add fwmark 1 lookup 100
        ip -n $T-n route add local default dev lo table 100
        """)
      let b = pods.mapValues(\.v4)
      let filler = String(repeating: "    ip daddr 203.0.113.1 udp dport 9 drop\n", count: 2500)
      try topology.nft(
        Topology.services([
          ("10.96.0.10", b["b1"]!), ("10.96.0.11", b["b1"]!), ("10.96.0.12", b["blong"]!), ("10.96.0.13", b["hair"]!), ("10.96.0.14", b["bslow"]!),
        ])
          + Topology.services([("fd96::10", pods["b1"]!.v6), ("fd96::11", pods["b1"]!.v6)], family: "ip6") + """
            table ip6 other {
              chain late { type filter hook postrouting priority 200;
                oifname != "vb1" accept
            \(filler.replacing("ip daddr 203.0.113.1", with: "ip6 daddr 2001:db8::1"))  }
            }
            table ip other {
              chain prerouting { type nat hook prerouting priority -100;
                ip daddr 10.99.0.1 udp dport 53 redirect to :5300
              }
              chain mangle { type filter hook prerouting priority mangle;
                ip daddr 10.97.0.1 udp dport 53 tproxy to 10.97.0.1:53 meta mark set 1 accept
              }
              chain postrouting { type nat hook postrouting priority 100;
                ip saddr \(b["hair"]!) ip daddr \(b["hair"]!) masquerade
              }
              chain raw { type filter hook prerouting priority raw;
                ip daddr 169.254.20.11 udp dport 53 notrack
              }
              chain rawout { type filter hook output priority raw;
                ip saddr 169.254.20.11 udp sport 53 notrack
              }
              chain late { type filter hook postrouting priority 200;
                oifname != "vb1" accept
            \(filler)  }
            }

            """)
      try topology.serve(in: "b1", "\(b["b1"]!):53,[\(pods["b1"]!.v6)]:53")
      try topology.serve(in: "blong", "\(b["blong"]!):53", "--bytes 1200")
      try topology.serve(in: "bslow", "\(b["bslow"]!):53", "--delay-ms 300")
      try topology.serve(in: "hair", "\(b["hair"]!):53")
      try topology.serve(in: "out", "192.0.2.54:53,10.77.0.2:53")
      try topology.serve(in: "out", "10.77.0.3:53", "--mute")
      try topology.serve(in: "n", "169.254.20.11:53,\(Lab.nodeV4):5300")
      try topology.serve(in: "n", "10.97.0.1:53", "--transparent")
    }

    private func breakSome(_ topology: Topology, _ pods: [String: Topology.Pod]) throws {
      let c = pods.mapValues(\.v4)
      try topology.nft(
        """
        table ip faults {
          chain input { type filter hook input priority 0;
            ip saddr { \(c["tpl"]!), \(c["rdl"]!), \(c["ntl"]!) } udp dport { 53, 5300 } drop
          }
          chain forward { type filter hook forward priority 0;
            ip saddr \(c["hair"]!) udp dport 53 drop
          }
        }
        """)
      // What the tunnel carries is lost on the wire behind it.
      try topology.nft(
        "table ip x { chain in { type filter hook prerouting priority raw; udp dport 8472 @th,336,32 \(Self.word(c["udl"]!)) drop\n }\n }", in: "out")
    }

    /// An address as nft's raw expressions take it. The source address of the inner header stands 42 bytes behind the outer UDP header's start.
    private static func word(_ address: String) -> UInt32 { address.split(separator: ".").reduce(0) { $0 << 8 | (UInt32($1) ?? 0) } }
  }
}
