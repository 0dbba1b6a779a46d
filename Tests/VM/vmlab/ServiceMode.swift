import TestSupport

/// What makes the node's services: kube-proxy's three ways.
enum ServiceMode: String, CaseIterable {
  case nftables, iptables, ipvs

  struct Service {
    var address: String
    var backends: [String]
  }

  /// The rules that nft loads, whatever makes the services: those between address translation and insertion that give a race its time.
  func ruleset(_ services: [Service], racing: String, masquerading: Bool) -> Ruleset {
    var rules = Ruleset()
    // An emulated processor may be taken away for milliseconds: only what lasts longer overlaps. Nobody else has to go through it.
    rules.fillerRules = 3000
    rules.nestsFiller = true
    rules.fillerMatch = "ip saddr { \(racing) } udp dport 53"
    rules.hooksNAT = self == .nftables
    guard self == .nftables else { return rules }
    for service in services { rules.service(service.address, to: service.backends) }
    if masquerading { rules.masquerade("10.40.0.0/24") }
    return rules
  }

  /// What other programs load.
  func load(_ services: [Service], masquerading: Bool, into lab: Lab) throws {
    switch self {
    case .nftables: break
    case .iptables: try Command.run(["ip", "netns", "exec", lab.node, "iptables-legacy-restore"], input: iptables(services, masquerading))
    case .ipvs: try Command.run(["env", "NODE=\(lab.node)", "sh", "-eu"], input: ipvs(services))
    }
  }

  private func iptables(_ services: [Service], _ masquerading: Bool) -> String {
    var lines = ["*nat"]
    for service in services {
      for (index, backend) in service.backends.enumerated() {
        let left = service.backends.count - index
        let chance = left > 1 ? "-m statistic --mode random --probability \(1 / Double(left))" : ""
        lines.append("-A PREROUTING -d \(service.address) -p udp --dport 53 \(chance) -j DNAT --to-destination \(backend):53")
      }
    }
    if masquerading { lines.append("-A POSTROUTING -s 10.40.0.0/24 -j MASQUERADE") }
    return (lines + ["COMMIT", ""]).joined(separator: "\n")
  }

  /// Round robin and masquerading, the addresses on a dummy device as kube-proxy has them, conntrack on. Without a rule that needs it conntrack is idle,
  /// so there is one that matches nothing.
  private func ipvs(_ services: [Service]) -> String {
    var lines = [
      "ip -n $NODE link add kube-ipvs0 type dummy",
      "ip netns exec $NODE sysctl -qw net.ipv4.vs.conntrack=1",
      "ip netns exec $NODE iptables-legacy -t nat -A POSTROUTING -s 203.0.113.1 -j MASQUERADE",
    ]
    for service in services {
      lines.append("ip -n $NODE addr add \(service.address)/32 dev kube-ipvs0")
      lines.append("ip netns exec $NODE ipvsadm -A -u \(service.address):53 -s rr")
      lines += service.backends.map { "ip netns exec $NODE ipvsadm -a -u \(service.address):53 -r \($0):53 -m" }
    }
    return lines.joined(separator: "\n") + "\n"
  }
}
