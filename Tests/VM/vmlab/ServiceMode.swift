import TestSupport

/// What makes the node's services: kube-proxy's three ways.
enum ServiceMode: String, CaseIterable {
  case nftables, iptables, ipvs

  private static let podsV4 = "10.40.0.0/24"
  private static let podsV6 = "fd40::/64"
  private static func socket(_ address: String) -> String { address.contains(":") ? "[\(address)]:53" : "\(address):53" }

  struct Service {
    var address: String
    var backends: [String]
    var isV6: Bool { address.contains(":") }
  }

  /// The rules that nft loads, whatever makes the services: those between address translation and insertion that give a race its time.
  func ruleset(_ services: [Service], racing: String, masquerading: Bool) -> Ruleset {
    let isV6 = racing.contains(":")
    var rules = Ruleset()
    // An emulated processor may be taken away for milliseconds: only what lasts longer overlaps. Nobody else has to go through it.
    rules.fillerRules = 3000
    rules.nestsFiller = true
    rules.fillerMatch = "ip saddr { \(isV6 ? "203.0.113.1" : racing) } udp dport 53"
    rules.fillerMatchV6 = "ip6 saddr { \(isV6 ? racing : "2001:db8::1") } udp dport 53"
    rules.hooksNAT = self == .nftables
    guard self == .nftables else { return rules }
    for service in services { rules.service(service.address, to: service.backends) }
    if masquerading { rules.masquerade(isV6 ? Self.podsV6 : Self.podsV4) }
    return rules
  }

  /// What other programs load.
  func load(_ services: [Service], masquerading: Bool, into lab: Lab) throws {
    switch self {
    case .nftables: break
    case .iptables:
      let program = services.contains { $0.isV6 } ? "ip6tables-legacy-restore" : "iptables-legacy-restore"
      try Command.run(["ip", "netns", "exec", lab.node, program], input: iptables(services, masquerading))
    case .ipvs: try Command.run(["env", "NODE=\(lab.node)", "sh", "-eu"], input: ipvs(services))
    }
  }

  private func iptables(_ services: [Service], _ masquerading: Bool) -> String {
    var lines = ["*nat"]
    for service in services {
      for (index, backend) in service.backends.enumerated() {
        let left = service.backends.count - index
        let chance = left > 1 ? "-m statistic --mode random --probability \(1 / Double(left))" : ""
        lines.append("-A PREROUTING -d \(service.address) -p udp --dport 53 \(chance) -j DNAT --to-destination \(Self.socket(backend))")
      }
    }
    if masquerading { lines.append("-A POSTROUTING -s \(services.contains { $0.isV6 } ? Self.podsV6 : Self.podsV4) -j MASQUERADE") }
    return (lines + ["COMMIT", ""]).joined(separator: "\n")
  }

  /// Round robin and masquerading, the addresses on a dummy device as kube-proxy has them, conntrack on. Without a rule that needs it conntrack is idle,
  /// so there is one that matches nothing.
  private func ipvs(_ services: [Service]) -> String {
    let isV6 = services.contains { $0.isV6 }
    var lines = [
      "ip -n $NODE link add kube-ipvs0 type dummy",
      "ip netns exec $NODE sysctl -qw net.ipv4.vs.conntrack=1",
      "ip netns exec $NODE \(isV6 ? "ip6tables-legacy" : "iptables-legacy") -t nat -A POSTROUTING -s \(isV6 ? "2001:db8::1" : "203.0.113.1") -j MASQUERADE",
    ]
    for service in services {
      lines.append("ip -n $NODE addr add \(service.address)/\(isV6 ? "128 dev kube-ipvs0 nodad" : "32 dev kube-ipvs0")")
      lines.append("ip netns exec $NODE ipvsadm -A -u \(Self.socket(service.address)) -s rr")
      lines += service.backends.map { "ip netns exec $NODE ipvsadm -a -u \(Self.socket(service.address)) -r \(Self.socket($0)) -m" }
    }
    return lines.joined(separator: "\n") + "\n"
  }
}
