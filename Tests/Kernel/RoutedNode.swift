import TestSupport

/// A node with routed pods, services of every kind, two uplinks and a tunnel.
///
/// Services 10.96.0.N: .12 ordinary, .13 on port 5353, .14 behind the tunnel, .15 on the node itself, .16 the hairpin, .17 a forwarder, .18 slow,
/// .19 truncating, .20 answering in another case, .21 in fragments; .40 to .48 break later.
struct RoutedNode {
  /// Clients of which each suffers another fault.
  static let victims = [
    "fwd", "post", "ipt", "mangle", "tcin", "bh", "unr", "tceg", "arp", "ans", "icmp", "mute", "late", "inv", "lin", "lno", "lvi", "rt", "del",
    "delm",
  ]
  let topology: Topology
  let relay: Background
  private var pods: [String: Topology.Pod] = [:]

  subscript(name: String) -> Topology.Pod { pods[name]! }

  init() throws {
    topology = try Topology()
    let healthy = ["h1", "h2", "hair", "raw", "m1", "m2", "cdns", "stale"]
    let backends = [
      "b1", "b53", "bslow", "btc", "bfl", "bfr", "bbh", "bunr", "beg", "barp", "bicmp", "bmute", "blate", "bdel", "bfast", "bsv", "bstale",
    ]
    for name in healthy + Self.victims + backends { pods[name] = try topology.routed(name) }
    try topology.namespace("out")
    try topology.namespace("out2")
    try topology.uplink("up0", to: "out", near: "192.168.9.1", far: "192.168.9.2")
    try topology.uplink("up1", to: "out2", near: "192.168.10.1", far: "192.168.10.2")
    try topology.sh(
      """
      ip netns exec $T-n sysctl -qw net.ipv4.fib_multipath_hash_policy=1
      ip -n $T-n route add default nexthop via 192.168.9.2 dev up0 nexthop via 192.168.10.2 dev up1
      ip -n $T-out route add default via 192.168.9.1
      ip -n $T-out2 route add default via 192.168.10.1
      for x in out out2; do ip -n $T-$x addr add 192.0.2.53/32 dev lo; done
      ip -n $T-n link add vx0 type vxlan id 7 remote 192.168.9.2 local 192.168.9.1 dstport 8472 dev up0
      ip -n $T-out link add vx0 type vxlan id 7 remote 192.168.9.1 local 192.168.9.2 dstport 8472 dev up0
      ip -n $T-n addr add 10.77.0.1/24 dev vx0
      ip -n $T-out addr add 10.77.0.2/24 dev vx0
      ip -n $T-n link set vx0 up
      ip -n $T-out link set vx0 up
      ip -n $T-out route add 10.40.0.0/24 via 10.77.0.1
      ip -n $T-n route add 10.96.0.0/24 dev lo
      for a in 10 11 12 14; do ip -n $T-n addr add 169.254.20.$a/32 dev lo; done
      ip -n $T-n route add 10.60.0.250/32 dev vbarp
      """)
    let b = pods.mapValues(\.v4)
    try topology.nft(
      Topology.services([
        ("10.96.0.12", b["b1"]!), ("10.96.0.13", b["b53"]! + ":5353"), ("10.96.0.14", "10.77.0.2"), ("10.96.0.15", "169.254.20.12"),
        ("10.96.0.16", b["hair"]!), ("10.96.0.17", b["cdns"]!), ("10.96.0.18", b["bslow"]!), ("10.96.0.19", b["btc"]!), ("10.96.0.20", b["bfl"]!),
        ("10.96.0.21", b["bfr"]!), ("10.96.0.40", b["bbh"]!), ("10.96.0.41", b["bunr"]!), ("10.96.0.42", b["beg"]!), ("10.96.0.43", "10.60.0.250"),
        ("10.96.0.44", b["bicmp"]!), ("10.96.0.45", b["bmute"]!), ("10.96.0.46", b["blate"]!), ("10.96.0.47", b["bdel"]!),
        ("10.96.0.48", b["bfast"]!),
      ]) + Topology.services([("fd96::12", pods["b1"]!.v6)], family: "ip6")
        + """
        table ip moving { chain pre { type nat hook prerouting priority -101;
            ip daddr 10.96.0.49 udp sport 37000 udp dport 53 dnat to \(b["bstale"]!)
            ip daddr 10.96.0.49 udp dport 53 dnat to numgen inc mod 2 map { 0 : \(b["bstale"]!), 1 : \(b["b1"]!) }
          }
        }
        table ip other {
          chain prerouting { type nat hook prerouting priority -100;
            ip daddr 10.99.0.1 udp dport 53 redirect to :5300
          }
          chain postrouting { type nat hook postrouting priority 100;
            ip saddr { \(b["m1"]!), \(b["m2"]!), \(b["cdns"]!) } oifname "up*" masquerade
            ip saddr \(b["delm"]!) masquerade
            ip saddr \(b["hair"]!) ip daddr \(b["hair"]!) masquerade
          }
          chain raw { type filter hook prerouting priority raw;
            ip daddr 169.254.20.11 udp dport 53 notrack
            ip saddr \(b["raw"]!) udp dport 53 notrack
            ip daddr \(b["raw"]!) udp sport 53 notrack
          }
          chain rawout { type filter hook output priority raw;
            ip saddr 169.254.20.11 udp sport 53 notrack
          }
        }

        """)
    let (place, all) = (topology, pods)
    func serve(_ name: String, port: Int = 53, _ options: String = "") throws {
      try place.serve(in: name, "\(all[name]!.v4):\(port),[\(all[name]!.v6)]:\(port)", options)
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
    try topology.serve(in: "out", "192.168.9.2:53,10.77.0.2:53,192.0.2.53:53")
    try topology.serve(in: "out2", "192.168.10.2:53,192.0.2.53:53")
    try topology.serve(in: "n", "169.254.20.10:53,169.254.20.11:53,169.254.20.12:53,10.255.0.1:5300")
    let own = pods["cdns"]!.v4
    let started = try Background(topology.command(in: "cdns", "relay --bind \(own):53 --upstream 192.168.9.2:53 --from \(own)"))
    relay = started
    guard Clock.poll(seconds: 10, every: 0.005, { started.errors.contains("ready") }) else { throw LabError("no forwarder: \(started.errors)") }
  }

  /// A fault for each victim. The host where nobody listens says so each time, and not once a second.
  func breakEverything() throws {
    try topology.sh("ip netns exec $T-bicmp sysctl -qw net.ipv4.icmp_ratelimit=0")
    let c = pods.mapValues(\.v4)
    try topology.nft(
      """
      table ip faults {
        chain forward { type filter hook forward priority 0;
          ip saddr { \(c["fwd"]!), \(c["raw"]!), \(c["m1"]!), \(c["cdns"]!) } udp dport 53 drop
          ip daddr \(c["ans"]!) udp sport 53 drop
          ip saddr \(c["bsv"]!) udp sport 53 drop
          ct state invalid drop
        }
        chain late { type filter hook postrouting priority 200;
          ip saddr \(c["post"]!) udp dport 53 drop
        }
        chain input { type filter hook input priority 0;
          ip saddr { \(c["lin"]!), \(c["lvi"]!) } udp dport 53 drop
        }
      }
      table ip6 faults {
        chain forward { type filter hook forward priority 0;
          ip6 saddr \(pods["fwd"]!.v6) udp dport 53 drop
        }
      }
      """)
    try topology.sh(
      """
      ip netns exec $T-n iptables-legacy -A FORWARD -s \(c["ipt"]!) -p udp --dport 53 -j DROP
      ip netns exec $T-n iptables-legacy -t mangle -A POSTROUTING -s \(c["mangle"]!) -p udp --dport 53 -j DROP
      tc -n $T-n qdisc add dev vtcin clsact
      tc -n $T-n filter add dev vtcin ingress protocol ip bpf bytecode '1,6 0 0 2' da
      tc -n $T-n qdisc add dev vbeg clsact
      tc -n $T-n filter add dev vbeg egress protocol ip bpf bytecode '1,6 0 0 2' da
      ip -n $T-n route replace blackhole \(c["bbh"]!)/32
      ip -n $T-n route replace unreachable \(c["bunr"]!)/32
      """)
  }
}
