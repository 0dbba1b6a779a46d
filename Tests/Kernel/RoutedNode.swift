import TestSupport

/// A node with routed pods, services of every kind, two uplinks and a tunnel, asked in one address family.
///
/// Services: 12 ordinary, 13 on port 5353, 14 behind the tunnel, 15 on the node itself, 16 the hairpin, 17 a forwarder, 18 slow, 19 truncating,
/// 20 answering in another case, 21 in fragments; 40 to 49 break later.
struct RoutedNode {
  /// Clients of which each suffers another fault.
  static let victims = [
    "fwd", "post", "ipt", "mangle", "tcin", "bh", "unr", "tceg", "arp", "ans", "icmp", "mute", "late", "inv", "lin", "lno", "lvi", "rt", "vx", "del",
    "delm",
  ]
  private static let services = [
    (12, "b1"), (16, "hair"), (17, "cdns"), (18, "bslow"), (19, "btc"), (20, "bfl"), (21, "bfr"), (40, "bbh"), (41, "bunr"), (42, "beg"),
    (44, "bicmp"), (45, "bmute"), (46, "blate"), (47, "bdel"), (48, "bfast"),
  ]
  let topology: Topology
  let family: Family
  let relay: Background
  private var pods: [String: Topology.Pod] = [:]

  subscript(name: String) -> Topology.Pod { pods[name]! }
  /// Its address in the node's family.
  func address(_ name: String) -> String { family.of(pods[name]!) }

  init(_ family: Family) throws {
    self.family = family
    topology = try Topology()
    let healthy = ["h1", "h2", "hair", "raw", "m1", "m2", "cdns", "stale"]
    let backends = Set(Self.services.map(\.1)).subtracting(["hair", "cdns"]).sorted() + ["b53", "barp", "bsv", "bstale"]
    for name in healthy + Self.victims + backends { pods[name] = try topology.routed(name) }
    try Self.uplinks(topology, family)
    let a = pods.mapValues(family.of)
    let lines = Self.services.map { (family.service($0.0), a[$0.1]!) }
    let others = [
      (family.service(13), family.at(a["b53"]!, 5353)), (family.service(14), family.tunnel(2)), (family.service(15), family.local(12)),
      (family.service(43), family.nobody),
    ]
    try topology.nft(
      Topology.services(lines + others, family: family.nft)
        + Topology.services([(family.other.service(12), family.other.of(pods["b1"]!))], family: family.other.nft)
        + Self.rules(family.nft, family, a))
    try Self.serve(topology, family, pods)
    let own = a["cdns"]!
    let started = try Background(
      topology.command(in: "cdns", "relay --bind \(family.at(own)) --upstream \(family.at(family.uplink(0, 2))) --from \(own)"))
    relay = started
    guard Clock.poll(seconds: 10, every: 0.005, { started.errors.contains("ready") }) else { throw LabError("no forwarder: \(started.errors)") }
  }

  private static func uplinks(_ topology: Topology, _ family: Family) throws {
    for (number, name) in ["out", "out2"].enumerated() {
      try topology.namespace(name)
      try topology.uplink("up\(number)", to: name, near: Family.four.uplink(number, 1), far: Family.four.uplink(number, 2))
      try topology.sh(
        """
        ip -n $T-n addr add \(Family.six.uplink(number, 1))/64 dev up\(number) nodad
        ip -n $T-\(name) addr add \(Family.six.uplink(number, 2))/64 dev up\(number) nodad
        ip -n $T-\(name) route add default via \(family.uplink(number, 1))
        ip -n $T-\(name) addr add \(family.beyond(53))/\(family.host) dev lo
        """)
    }
    try topology.sh(
      """
      ip netns exec $T-n sysctl -qw net.\(family.sysctl).fib_multipath_hash_policy=1
      ip -n $T-n route add default nexthop via \(family.uplink(0, 2)) dev up0 nexthop via \(family.uplink(1, 2)) dev up1
      ip -n $T-n link add vx0 type vxlan id 7 remote \(family.uplink(0, 2)) local \(family.uplink(0, 1)) dstport 8472 dev up0
      ip -n $T-out link add vx0 type vxlan id 7 remote \(family.uplink(0, 1)) local \(family.uplink(0, 2)) dstport 8472 dev up0
      ip -n $T-n addr add \(family.tunnel(1))/\(family.pick("24", "64 nodad")) dev vx0
      for a in \(family.tunnel(2)) \(family.tunnel(3)); do ip -n $T-out addr add $a/\(family.pick("24", "64 nodad")) dev vx0; done
      ip -n $T-n link set vx0 up
      ip -n $T-out link set vx0 up
      ip -n $T-out route add \(family.pods) via \(family.tunnel(1))
      ip -n $T-n route add \(family.services) dev lo
      for a in \([10, 11, 12, 14].map(family.local).joined(separator: " ")); do ip -n $T-n addr add $a/\(family.host) dev lo; done
      ip -n $T-n route add \(family.nobody)/\(family.host) dev vbarp
      """)
  }

  private static func rules(_ ip: String, _ family: Family, _ a: [String: String]) -> String {
    """
    table \(ip) moving { chain pre { type nat hook prerouting priority -101;
        \(ip) daddr \(family.service(49)) udp sport 37000 udp dport 53 dnat to \(a["bstale"]!)
        \(ip) daddr \(family.service(49)) udp dport 53 dnat to numgen inc mod 2 map { 0 : \(a["bstale"]!), 1 : \(a["b1"]!) }
      }
    }
    table \(ip) other {
      chain prerouting { type nat hook prerouting priority -100;
        \(ip) daddr \(family.redirected) udp dport 53 redirect to :5300
      }
      chain postrouting { type nat hook postrouting priority 100;
        \(ip) saddr { \(a["m1"]!), \(a["m2"]!), \(a["cdns"]!) } oifname "up*" masquerade
        \(ip) saddr \(a["delm"]!) masquerade
        \(ip) saddr \(a["hair"]!) \(ip) daddr \(a["hair"]!) masquerade
      }
      chain raw { type filter hook prerouting priority raw;
        \(ip) daddr \(family.local(11)) udp dport 53 notrack
        \(ip) saddr \(a["raw"]!) udp dport 53 notrack
        \(ip) daddr \(a["raw"]!) udp sport 53 notrack
      }
      chain rawout { type filter hook output priority raw;
        \(ip) saddr \(family.local(11)) udp sport 53 notrack
      }
    }

    """
  }

  private static func serve(_ topology: Topology, _ family: Family, _ pods: [String: Topology.Pod]) throws {
    func serve(_ name: String, port: Int = 53, _ options: String = "") throws {
      let binds = Family.allCases.map { $0.at($0.of(pods[name]!), port) }
      try topology.serve(in: name, binds.joined(separator: ","), options)
    }
    for name in ["b1", "hair", "bbh", "bunr", "beg", "bsv", "bstale"] { try serve(name) }
    try serve("b53", port: 5353)
    try serve("bslow", "--delay-ms 1200")
    try serve("btc", "--truncate")
    try serve("bfl", "--flip-case")
    try serve("bfr", "--bytes 2500")
    try serve("bmute", "--mute")
    try serve("blate", "--delay-ms 4000")
    try serve("bdel", "--delay-ms 600")
    try serve("bfast", "--delay-ms 10")
    func all(_ addresses: String...) -> String { addresses.map { family.at($0) }.joined(separator: ",") }
    try topology.serve(in: "out", all(family.uplink(0, 2), family.tunnel(2), family.beyond(53)))
    try topology.serve(in: "out", all(family.tunnel(3)), "--mute")
    try topology.serve(in: "out2", all(family.uplink(1, 2), family.beyond(53)))
    try topology.serve(in: "n", all(family.local(10), family.local(11), family.local(12)) + "," + family.at(family.node, 5300))
  }

  /// A fault for each victim.
  func breakEverything() throws {
    // Where nobody listens it is said each time, and not once a second.
    for short in ["bicmp", "n"] {
      try topology.sh("ip netns exec $T-\(short) sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0")
    }
    let (c, ip, other) = (pods.mapValues(family.of), family.nft, family.other)
    try topology.nft(
      """
      table \(ip) faults {
        chain forward { type filter hook forward priority 0;
          \(ip) saddr { \(c["fwd"]!), \(c["raw"]!), \(c["m1"]!), \(c["hair"]!), \(c["cdns"]!) } udp dport 53 drop
          \(ip) daddr \(c["ans"]!) udp sport 53 drop
          \(ip) saddr \(c["bsv"]!) udp sport 53 drop
          ct state invalid drop
        }
        chain late { type filter hook postrouting priority 200;
          \(ip) saddr \(c["post"]!) udp dport 53 drop
        }
        chain input { type filter hook input priority 0;
          \(ip) saddr { \(c["lin"]!), \(c["lvi"]!) } udp dport 53 drop
        }
      }
      table \(other.nft) faults {
        chain forward { type filter hook forward priority 0;
          \(other.nft) saddr \(other.of(pods["fwd"]!)) udp dport 53 drop
        }
      }
      """)
    try topology.sh(
      """
      ip netns exec $T-n \(family.iptables) -A FORWARD -s \(c["ipt"]!) -p udp --dport 53 -j DROP
      ip netns exec $T-n \(family.iptables) -t mangle -A POSTROUTING -s \(c["mangle"]!) -p udp --dport 53 -j DROP
      tc -n $T-n qdisc add dev vtcin clsact
      tc -n $T-n filter add dev vtcin ingress protocol \(family.ethertype) bpf bytecode '1,6 0 0 2' da
      tc -n $T-n qdisc add dev vbeg clsact
      tc -n $T-n filter add dev vbeg egress protocol \(family.ethertype) bpf bytecode '1,6 0 0 2' da
      ip -n $T-n route del \(c["bbh"]!)/\(family.host) dev vbbh
      ip -n $T-n route del \(c["bunr"]!)/\(family.host) dev vbunr
      ip -n $T-n route add blackhole \(c["bbh"]!)/\(family.host)
      ip -n $T-n route add unreachable \(c["bunr"]!)/\(family.host)
      """)
  }
}
