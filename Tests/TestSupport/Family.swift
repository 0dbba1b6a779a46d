/// An address family, with the addresses of everything in a topology: what is asked of one is asked of the other.
package enum Family: String, CaseIterable, Sendable {
  case four, six

  package var other: Family { self == .four ? .six : .four }
  /// As nft and iproute2's `tc` call it.
  package var nft: String { pick("ip", "ip6") }
  package var ethertype: String { pick("ip", "ipv6") }
  /// As conntrack(8) calls it, and the directory below net in /proc/sys.
  package var sysctl: String { pick("ipv4", "ipv6") }
  package var iptables: String { pick("iptables-legacy", "ip6tables-legacy") }
  /// The length of a prefix that is one address.
  package var host: String { pick("32", "128") }
  /// Tells the groups of the families apart where both run at once.
  package var suffix: String { pick("", "six") }

  package func pick(_ four: String, _ six: String) -> String { self == .four ? four : six }
  package func of(_ pod: Topology.Pod) -> String { pick(pod.v4, pod.v6) }
  /// The node's own address, on every pod's device.
  package var node: String { pick(Lab.nodeV4, Lab.nodeV6) }
  package var pods: String { pick("10.40.0.0/24", "fd40::/64") }
  package func service(_ number: Int) -> String { pick("10.96.0.\(number)", "fd96::\(number)") }
  package var services: String { pick("10.96.0.0/24", "fd96::/64") }
  /// Ends of an uplink: 1 the node's, 2 the far one.
  package func uplink(_ number: Int, _ end: Int) -> String { pick("192.168.\(9 + number).\(end)", "fd\(["09", "10"][number])::\(end)") }
  package func tunnel(_ end: Int) -> String { pick("10.77.0.\(end)", "fd77::\(end)") }
  /// Addresses that only the node has, for a server there.
  package func local(_ number: Int) -> String { pick("169.254.20.\(number)", "fd99::\(number)") }
  /// Behind the uplinks.
  package func beyond(_ number: Int) -> String { pick("192.0.2.\(number)", "fd53::\(number)") }
  /// What a rule redirects to the node's port 5300.
  package var redirected: String { pick("10.99.0.1", "fd98::1") }
  /// What a transparent proxy takes.
  package var proxied: String { pick("10.97.0.1", "fd97::1") }
  /// In the pods' network, where nobody has it.
  package var nobody: String { pick("10.60.0.250", "fd60::250") }
  package var multicastDNS: String { pick("224.0.0.251", "ff02::fb") }

  /// `address:port`, with brackets where the address has colons.
  package func at(_ address: String, _ port: Int = 53) -> String { pick("\(address):\(port)", "[\(address)]:\(port)") }
}
