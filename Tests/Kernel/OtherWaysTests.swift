import Foundation
import TestSupport
import Testing

extension KernelTests {
  /// Ways that are rarer, in both families at once: a transparent proxy, processes of the node that race, ports that the kernel changes, answers by
  /// another uplink.
  @Suite(.serialized) struct OtherWaysTests {
    typealias Saying = TopologyRun.Saying
    static let policy = Saying("dropped_on_node", "policy_or_route")

    /// Services: 10 and 11 share a backend, 12 answers with 1,200 bytes, 13 is the hairpin, 14 slow.
    @Test func rarerWaysOfARoutedNode() throws {
      let topology = try Topology()
      var pods: [String: Topology.Pod] = [:]
      for name in ["c1", "c2", "tp", "tpl", "rdl", "ntl", "hair", "vxl", "udl", "b1", "blong", "bslow"] { pods[name] = try topology.routed(name) }
      try build(topology, pods)
      let run = try TopologyRun(topology, ["--dns.timeout", "2s"])
      for family in Family.allCases { try healthy(family, pods, run) }
      try run.join()
      let before = try KernelCounters.read(in: topology.node)
      for family in Family.allCases {
        try run.launch(
          "hostrace" + family.suffix, in: "n", .answered,
          with: "race --pairs 300 --pace-us 1000 --port-base 21000 --wait-ms 300 --from \(family.node) --servers \(Self.pair(family))")
        try run.join()
      }
      let refused = (try KernelCounters.read(in: topology.node) - before).insertFailed
      for family in Family.allCases { try breakSome(topology, family, pods.mapValues(family.of)) }
      // What that race moved counts for a second.
      usleep(1_200_000)
      for family in Family.allCases { try broken(family, pods, run) }
      let page = try run.finish()
      TopologyChecks.check("other ways", run, page)
      let raced = run.groups.filter { $0.label.hasPrefix("hostrace") }.map(\.queries.count)
      print("other ways: of 600 queries of each race of the node's own \(raced) were sent, the kernel refused \(refused)")
      #expect(raced.reduce(0, +) + refused == 1200, "void: what a process of the node loses is refused at once")
      #expect(raced.allSatisfy { $0 <= 580 }, "void: too few races")
      #expect(page.sum("racetrack_conntrack_insert_failed_total") >= Double(refused))
    }

    private static func pair(_ family: Family) -> String { "\(family.service(10)),\(family.service(11))" }

    private func healthy(_ family: Family, _ pods: [String: Topology.Pod], _ run: TopologyRun) throws {
      func ask(_ label: String, _ name: String, _ server: String, _ options: String = "") throws {
        try run.ask(label + family.suffix, pods[name]!, server, .answered, with: options)
      }
      for (name, server) in [
        ("tp", family.proxied), ("tpl", family.proxied), ("rdl", family.redirected), ("ntl", family.local(11)), ("hair", family.service(13)),
        ("vxl", family.tunnel(2)), ("udl", family.tunnel(2)),
      ] { try ask("warm-" + name, name, server) }
      try ask("asymmetric", "c1", family.beyond(54))
      try ask("long", "c1", family.service(12), "--edns")
      // One ID from many ports at once, each waiting 300 ms.
      try ask("equalids", "c1", family.service(14), "--id 9 --rate 100")
      // The second of a pair comes when the first holds the tuple that it would get: it leaves from another port.
      try run.launch(
        "remapped" + family.suffix, in: "c2", .answered,
        with: "race --gap-us 3000 --pairs 50 --pace-us 5000 --wait-ms 300 --from \(family.of(pods["c2"]!)) --servers \(Self.pair(family))")
    }

    private func broken(_ family: Family, _ pods: [String: Topology.Pod], _ run: TopologyRun) throws {
      func ask(_ label: String, _ name: String, _ server: String, _ saying: Saying) throws {
        try run.ask("lost-" + label + family.suffix, pods[name]!, server, .lost, saying)
      }
      // A proxy's way shows no sent leg, not even of what it answers.
      try ask("proxy", "tpl", family.proxied, Saying("dropped_on_node", "policy_or_route", graded: ["inferred"]))
      try ask("redirect", "rdl", family.redirected, Saying("no_answer", "local_server"))
      try ask("notrack", "ntl", family.local(11), Saying("no_answer", "local_server"))
      try ask("hairpin", "hair", family.service(13), Self.policy)
      try ask("tunnel", "vxl", family.tunnel(3), Saying("no_answer", "silent"))
      try ask("underlay", "udl", family.tunnel(2), Saying("no_answer", "silent"))
    }

    private func build(_ topology: Topology, _ pods: [String: Topology.Pod]) throws {
      try topology.namespace("out")
      for number in 0...1 { try topology.uplink("up\(number)", to: "out", near: Family.four.uplink(number, 1), far: Family.four.uplink(number, 2)) }
      try topology.sh(
        """
        ip netns exec $T-out sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.up0.rp_filter=0 net.ipv4.conf.up1.rp_filter=0
        ip netns exec $T-n sysctl -qw net.ipv4.ip_nonlocal_bind=1 net.ipv6.ip_nonlocal_bind=1
        ip -n $T-n link add vx0 type vxlan id 7 remote 192.168.9.2 local 192.168.9.1 dstport 8472 dev up0
        ip -n $T-out link add vx0 type vxlan id 7 remote 192.168.9.1 local 192.168.9.2 dstport 8472 dev up0
        for n in n out; do ip -n $T-$n link set vx0 up; done
        """)
      for number in 0...1 {
        try topology.sh(
          """
          ip -n $T-n addr add \(Family.six.uplink(number, 1))/64 dev up\(number) nodad
          ip -n $T-out addr add \(Family.six.uplink(number, 2))/64 dev up\(number) nodad
          """)
      }
      for family in Family.allCases { try build(topology, family, pods.mapValues(family.of), tunnelled: ["vxl", "udl"]) }
      for (name, options) in [("b1", ""), ("blong", "--bytes 1200"), ("bslow", "--delay-ms 300"), ("hair", "")] {
        try topology.serve(in: name, Family.allCases.map { $0.at($0.of(pods[name]!)) }.joined(separator: ","), options)
      }
      func serve(in short: String, _ options: String = "", _ binds: (Family) -> [String]) throws {
        try topology.serve(in: short, Family.allCases.flatMap(binds).joined(separator: ","), options)
      }
      try serve(in: "out") { [$0.at($0.beyond(54)), $0.at($0.tunnel(2))] }
      try serve(in: "out", "--mute") { [$0.at($0.tunnel(3))] }
      try serve(in: "n") { [$0.at($0.local(11)), $0.at($0.node, 5300)] }
      try serve(in: "n", "--transparent") { [$0.at($0.proxied)] }
    }

    private func build(_ topology: Topology, _ family: Family, _ a: [String: String], tunnelled: [String]) throws {
      let (ip, length, net) = (family.nft, family.host, family.pick("24", "64 nodad"))
      try topology.sh(
        """
        ip -n $T-out addr add \(family.beyond(54))/\(length) dev lo
        ip -n $T-n route add default nexthop via \(family.uplink(0, 2)) dev up0 nexthop via \(family.uplink(1, 2)) dev up1
        ip -n $T-n route add \(family.beyond(54))/\(length) via \(family.uplink(0, 2))
        ip -n $T-out route add \(family.pods) via \(family.uplink(1, 1))
        ip -n $T-n addr add \(family.tunnel(1))/\(net) dev vx0
        for a in \(family.tunnel(2)) \(family.tunnel(3)); do ip -n $T-out addr add $a/\(net) dev vx0; done
        for a in \(tunnelled.map { a[$0]! }.joined(separator: " ")); do ip -n $T-out route add $a/\(length) via \(family.tunnel(1)); done
        ip -n $T-n route add \(family.services) dev lo
        ip -n $T-n addr add \(family.local(11))/\(length) dev lo
        ip -n $T-n -\(family.pick("4", "6")) rule add fwmark 1 lookup 100
        ip -n $T-n route add local \(family.pick("default", "::/0")) dev lo table 100
        """)
      let filler = String(repeating: "    \(ip) daddr \(family.pick("203.0.113.1", "2001:db8::1")) udp dport 9 drop\n", count: 2500)
      try topology.nft(
        Topology.services([10: "b1", 11: "b1", 12: "blong", 13: "hair", 14: "bslow"].map { (family.service($0), a[$1]!) }, family: ip) + """
          table \(ip) other {
            chain prerouting { type nat hook prerouting priority -100;
              \(ip) daddr \(family.redirected) udp dport 53 redirect to :5300
            }
            chain mangle { type filter hook prerouting priority mangle;
              \(ip) daddr \(family.proxied) udp dport 53 tproxy to \(family.at(family.proxied)) meta mark set 1 accept
            }
            chain postrouting { type nat hook postrouting priority 100;
              \(ip) saddr \(a["hair"]!) \(ip) daddr \(a["hair"]!) masquerade
            }
            chain raw { type filter hook prerouting priority raw;
              \(ip) daddr \(family.local(11)) udp dport 53 notrack
            }
            chain rawout { type filter hook output priority raw;
              \(ip) saddr \(family.local(11)) udp sport 53 notrack
            }
            chain late { type filter hook postrouting priority 200;
              oifname != "vb1" accept
          \(filler)  }
          }

          """)
    }

    private func breakSome(_ topology: Topology, _ family: Family, _ c: [String: String]) throws {
      let ip = family.nft
      try topology.nft(
        """
        table \(ip) faults {
          chain input { type filter hook input priority 0;
            \(ip) saddr { \(c["tpl"]!), \(c["rdl"]!), \(c["ntl"]!) } udp dport { 53, 5300 } drop
          }
          chain forward { type filter hook forward priority 0;
            \(ip) saddr \(c["hair"]!) udp dport 53 drop
          }
        }
        """)
      // What the tunnel carries is lost on the wire behind it: the last four bytes of the source address in the inner header, 42 bytes or 50 behind the
      // start of the outer UDP header and, of IPv6, at that address's end.
      let (last, address) = family == .four ? (336, Self.word(c["udl"]!)) : (400, Self.lastWord(c["udl"]!))
      try topology.nft(
        "table ip x\(family) { chain in { type filter hook prerouting priority raw; udp dport 8472 @th,\(last),32 \(address) drop\n }\n }", in: "out")
    }

    /// An address as nft's raw expressions take it.
    private static func word(_ address: String) -> UInt32 { address.split(separator: ".").reduce(0) { $0 << 8 | (UInt32($1) ?? 0) } }
    /// The end of one that is written with `::` and one group behind it.
    private static func lastWord(_ address: String) -> UInt32 { address.split(separator: ":").last.flatMap { UInt32($0, radix: 16) } ?? 0 }
  }
}
