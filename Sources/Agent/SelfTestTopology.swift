/// Addresses, links and rules of the self-test, as text for `ip -batch`, `nft -f` and `iptables-restore`. Nothing here touches the system.
///
/// The node has a routed veth to each pod. All link-layer addresses are fixed and all neighbours permanent, so that no query waits for ARP.
package struct SelfTestTopology: Sendable {
  package enum RuleProgram: Sendable {
    case nft
    case iptables
  }

  /// Pods in the order of the generator's roles: three clients, two servers.
  package static let podCount = 5
  package static let dnsPort: UInt16 = 53

  /// Rules between source NAT and confirmation that match nothing. Two queries clash when both are in there at once, so they widen the window.
  static let idleRules = 2000

  package init() {}

  /// 10.210.n.2, host order.
  package func podAddress(_ pod: Int) -> UInt32 { 0x0AD2_0002 | UInt32(pod + 1) << 8 }
  package func nodeAddress(_ pod: Int) -> UInt32 { 0x0AD2_0001 | UInt32(pod + 1) << 8 }
  /// 10.96.96.n, host order: the services. 1 and 2 share a server, 3 has two, 4 is masqueraded, 5 is ordinary.
  package func serviceAddress(_ service: Int) -> UInt32 { 0x0A60_6000 | UInt32(service) }
  /// What the A and the AAAA query of a scenario ask.
  package func services(_ scenario: SelfTestScenario) -> (UInt32, UInt32) {
    switch scenario {
    case .lateReply: (serviceAddress(3), serviceAddress(3))
    case .replyClash: (serviceAddress(1), serviceAddress(2))
    case .snatClash: (serviceAddress(4), serviceAddress(4))
    case .ordinary: (serviceAddress(5), serviceAddress(5))
    }
  }

  static func dotted(_ address: UInt32) -> String {
    "\(address >> 24).\(address >> 16 & 255).\(address >> 8 & 255).\(address & 255)"
  }

  private func hardwareAddress(pod: Int, isNode: Bool) -> String { "02:52:54:00:0\(isNode ? 1 : 2):0\(pod + 1)" }

  /// For the node: makes every link and moves its far end into the namespace of the pod's process.
  package func nodeLinks(pods: [Int32]) -> String {
    var text = ""
    for (pod, pid) in pods.enumerated() {
      let name = "selftest\(pod + 1)"
      text += "link add \(name) address \(hardwareAddress(pod: pod, isNode: true)) type veth"
      text += " peer name eth0 address \(hardwareAddress(pod: pod, isNode: false)) netns \(pid)\n"
      text += "address add \(Self.dotted(nodeAddress(pod)))/30 dev \(name)\n"
      text += "link set \(name) up\n"
      text += "neighbour replace \(Self.dotted(podAddress(pod))) lladdr \(hardwareAddress(pod: pod, isNode: false)) dev \(name) nud permanent\n"
    }
    return text
  }

  /// For a pod: its end of the link and the way out.
  package func podLinks(_ pod: Int) -> String {
    let gateway = Self.dotted(nodeAddress(pod))
    return """
      address add \(Self.dotted(podAddress(pod)))/30 dev eth0
      link set eth0 up
      neighbour replace \(gateway) lladdr \(hardwareAddress(pod: pod, isNode: true)) dev eth0 nud permanent
      route add default via \(gateway)

      """
  }

  package func rules(_ program: RuleProgram) -> String {
    switch program {
    case .nft: nftRules
    case .iptables: iptablesRules
    }
  }

  private var nftRules: String {
    let first = Self.dotted(podAddress(3))
    let second = Self.dotted(podAddress(4))
    var text = "table ip racetrack_selftest {\n chain services {\n  type nat hook prerouting priority -100;\n"
    for service in [1, 2, 4, 5] { text += "  ip daddr \(Self.dotted(serviceAddress(service))) udp dport 53 dnat to \(first):53\n" }
    text += "  ip daddr \(Self.dotted(serviceAddress(3))) udp dport 53 dnat to numgen random mod 2 map { 0 : \(first), 1 : \(second) }\n }\n"
    text += " chain sources {\n  type nat hook postrouting priority 100;\n"
    text += "  ct original ip daddr \(Self.dotted(serviceAddress(4))) masquerade\n }\n"
    text += " chain idle {\n  type filter hook postrouting priority 200;\n"
    for _ in 0..<Self.idleRules { text += "  ip daddr 192.0.2.1 counter\n" }
    return text + " }\n}\n"
  }

  private var iptablesRules: String {
    let first = Self.dotted(podAddress(3))
    let second = Self.dotted(podAddress(4))
    let third = Self.dotted(serviceAddress(3))
    var text = "*nat\n"
    for service in [1, 2, 4, 5] {
      text += "-A PREROUTING -d \(Self.dotted(serviceAddress(service))) -p udp --dport 53 -j DNAT --to-destination \(first):53\n"
    }
    text += "-A PREROUTING -d \(third) -p udp --dport 53 -m statistic --mode random --probability 0.5 -j DNAT --to-destination \(first):53\n"
    text += "-A PREROUTING -d \(third) -p udp --dport 53 -j DNAT --to-destination \(second):53\n"
    text += "-A POSTROUTING -m conntrack --ctorigdst \(Self.dotted(serviceAddress(4))) -j MASQUERADE\n"
    text += "COMMIT\n"
    return text
  }
}
