import TestSupport

/// A node with routed pods that speak IPv6 alone.
///
/// Services fd96::N: 12 ordinary, 13 on port 5353, 14 behind the tunnel, 15 on the node itself, 16 the hairpin, 17 a forwarder, 18 slow, 21 in
/// fragments; 40 to 47 break later.
struct SixNode {
  /// Clients of which each suffers another fault.
  static let victims = ["fwd", "ipt", "bh", "unr", "tceg", "arp", "ans", "icmp", "mute", "lin", "vx", "del", "delm"]
  private static let services = [
    (12, "b1"), (13, "b53"), (16, "hair"), (17, "cdns"), (18, "bslow"), (21, "bfr"), (40, "bbh"), (41, "bunr"), (42, "beg"), (44, "bicmp"),
    (45, "bmute"),
    (47, "bdel"),
  ]
  let topology: Topology
  let relay: Background
  private var pods: [String: Topology.Pod] = [:]

  subscript(name: String) -> Topology.Pod { pods[name]! }

  init() throws {
    topology = try Topology()
    let backends = Set(Self.services.map(\.1)).subtracting(["hair", "cdns"]).sorted() + ["barp"]
    for name in ["h1", "h2", "hair", "cdns", "m1", "m2"] + Self.victims + backends { pods[name] = try topology.routed(name) }
    try topology.namespace("out")
    try topology.uplink("up0", to: "out", near: "192.168.9.1", far: "192.168.9.2")
    try topology.sh(
      """
      ip -n $T-n addr add fd09::1/64 dev up0 nodad
      ip -n $T-out addr add fd09::2/64 dev up0 nodad
      ip -n $T-n link add vx0 type vxlan id 7 remote fd09::2 local fd09::1 dstport 8472 dev up0
      ip -n $T-out link add vx0 type vxlan id 7 remote fd09::1 local fd09::2 dstport 8472 dev up0
      ip -n $T-n addr add fd77::1/64 dev vx0 nodad
      for a in 2 3; do ip -n $T-out addr add fd77::$a/64 dev vx0 nodad; done
      ip -n $T-n link set vx0 up
      ip -n $T-out link set vx0 up
      ip -n $T-out route add fd40::/64 via fd77::1
      ip -n $T-out route add default via fd09::1
      ip -n $T-n route add default via fd09::2
      ip -n $T-n route add fd96::/64 dev lo
      for a in 10 11 12; do ip -n $T-n addr add fd99::$a/128 dev lo; done
      ip -n $T-n route add fd60::250/128 dev vbarp
      """)
    let all = pods
    var lines = Self.services.map { ("fd96::\($0.0)", $0.1 == "b53" ? "[\(all[$0.1]!.v6)]:5353" : all[$0.1]!.v6) }
    lines += [("fd96::14", "fd77::2"), ("fd96::15", "fd99::12"), ("fd96::43", "fd60::250")]
    try topology.nft(
      Topology.services(lines, family: "ip6") + """
        table ip6 other {
          chain prerouting { type nat hook prerouting priority -100;
            ip6 daddr fd98::1 udp dport 53 redirect to :5300
          }
          chain postrouting { type nat hook postrouting priority 100;
            ip6 saddr { \(all["m1"]!.v6), \(all["m2"]!.v6), \(all["cdns"]!.v6) } oifname "up*" masquerade
            ip6 saddr \(all["delm"]!.v6) masquerade
            ip6 saddr \(all["hair"]!.v6) ip6 daddr \(all["hair"]!.v6) masquerade
          }
          chain raw { type filter hook prerouting priority raw;
            ip6 daddr fd99::11 udp dport 53 notrack
          }
          chain rawout { type filter hook output priority raw;
            ip6 saddr fd99::11 udp sport 53 notrack
          }
        }

        """)
    let place = topology
    func serve(_ name: String, port: Int = 53, _ options: String = "") throws { try place.serve(in: name, "[\(all[name]!.v6)]:\(port)", options) }
    for name in ["b1", "hair", "bbh", "bunr", "beg"] { try serve(name) }
    try serve("b53", port: 5353)
    try serve("bslow", "--delay-ms 1200")
    try serve("bfr", "--bytes 2500")
    try serve("bmute", "--mute")
    try serve("bdel", "--delay-ms 600")
    try topology.serve(in: "out", "[fd09::2]:53,[fd77::2]:53")
    try topology.serve(in: "out", "[fd77::3]:53", "--mute")
    try topology.serve(in: "n", "[fd99::10]:53,[fd99::11]:53,[fd99::12]:53,[\(Lab.nodeV6)]:5300")
    let own = pods["cdns"]!.v6
    let started = try Background(topology.command(in: "cdns", "relay --bind [\(own)]:53 --upstream [fd09::2]:53 --from \(own)"))
    relay = started
    guard Clock.poll(seconds: 10, every: 0.005, { started.errors.contains("ready") }) else { throw LabError("no forwarder: \(started.errors)") }
  }

  /// A fault for each victim.
  func breakEverything() throws {
    let c = pods.mapValues(\.v6)
    try topology.nft(
      """
      table ip6 faults {
        chain forward { type filter hook forward priority 0;
          ip6 saddr { \(c["fwd"]!), \(c["m1"]!), \(c["hair"]!), \(c["cdns"]!) } udp dport 53 drop
          ip6 daddr \(c["ans"]!) udp sport 53 drop
        }
        chain input { type filter hook input priority 0;
          ip6 saddr \(c["lin"]!) udp dport 53 drop
        }
      }
      """)
    try topology.sh(
      """
      ip netns exec $T-n ip6tables-legacy -A FORWARD -s \(c["ipt"]!) -p udp --dport 53 -j DROP
      tc -n $T-n qdisc add dev vbeg clsact
      tc -n $T-n filter add dev vbeg egress protocol ipv6 bpf bytecode '1,6 0 0 2' da
      ip -n $T-n route del \(c["bbh"]!)/128 dev vbbh
      ip -n $T-n route del \(c["bunr"]!)/128 dev vbunr
      ip -n $T-n route add blackhole \(c["bbh"]!)/128
      ip -n $T-n route add unreachable \(c["bunr"]!)/128
      """)
  }
}
