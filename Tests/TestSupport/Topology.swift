import Foundation
import Glibc

/// A node in a network namespace of its own with whatever a test puts around it: routed and bridged pods, backends, uplinks. Like `Lab` it goes
/// with the object. Scripts find its name in `$T`: the node's namespace is `$T-n`, a pod's `$T-NAME`.
///
/// Addresses: routed pod i is 10.40.0.i and fd40::i, bridged pod i is 10.50.0.i and fd50::i, counted over both.
package final class Topology {
  /// A namespace behind the node.
  package struct Pod: Sendable {
    package let name: String
    package let namespace: String
    package let v4: String
    package let v6: String
    /// Its device on the node's side.
    package var device: String { "v\(name)" }
  }

  package static let bridgeV4 = "10.50.0.1"
  package let name = Lab.takeName()
  package var node: String { name + "-n" }
  private var namespaces: [String] = []
  private var programs: [Background] = []
  private var count = 10

  package init() throws {
    try namespace("n")
    try sh(
      "ip netns exec $T-n sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0 "
        + "net.ipv4.conf.default.rp_filter=0 net.ipv4.conf.default.send_redirects=0 net.ipv4.conf.all.send_redirects=0")
  }

  deinit {
    programs.removeAll()
    Lab.remove(namespaces)
  }

  /// Makes a namespace with nothing but loopback.
  package func namespace(_ short: String) throws {
    namespaces.append("\(name)-\(short)")
    try sh(
      """
      ip netns add $T-\(short)
      ip -n $T-\(short) link set lo up
      ip netns exec $T-\(short) sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0
      """)
  }

  /// A pod whose veth is routed: the node knows its address behind the device and answers for everything else. Neighbours are fixed.
  package func routed(_ short: String, v4: String? = nil, v6: String? = nil) throws -> Pod {
    let pod = try take(short, "40", v4, v6)
    let (near, far) = macs()
    try sh(
      """
      ip -n $T-n link add v\(short) address \(near) type veth peer name eth0 netns $T-\(short) address \(far)
      ip -n $T-n -batch - <<X
      link set v\(short) up
      addr add \(Lab.nodeV4)/32 dev v\(short)
      addr add \(Lab.nodeV6)/128 dev v\(short) nodad
      neigh replace \(pod.v4) lladdr \(far) dev v\(short) nud permanent
      neigh replace \(pod.v6) lladdr \(far) dev v\(short) nud permanent
      route add \(pod.v4)/32 dev v\(short)
      route add \(pod.v6)/128 dev v\(short)
      X
      ip -n $T-\(short) -batch - <<X
      link set eth0 up
      addr add \(pod.v4)/32 dev eth0
      addr add \(pod.v6)/128 dev eth0 nodad
      neigh replace 169.254.1.1 lladdr \(near) dev eth0 nud permanent
      neigh replace fe80::1 lladdr \(near) dev eth0 nud permanent
      route add 169.254.1.1 dev eth0 scope link
      route add default via 169.254.1.1 dev eth0
      route add default via fe80::1 dev eth0
      X
      """)
    return pod
  }

  /// The bridge `br0` of the node.
  package func bridge(callsIPTables: Bool) throws {
    let calls = callsIPTables ? 1 : 0
    try sh(
      """
      ip -n $T-n link add br0 address 02:00:00:00:50:01 type bridge
      ip -n $T-n addr add \(Topology.bridgeV4)/24 dev br0
      ip -n $T-n addr add fd50::1/64 dev br0 nodad
      ip -n $T-n link set br0 up
      ip netns exec $T-n sysctl -qw net.bridge.bridge-nf-call-iptables=\(calls) net.bridge.bridge-nf-call-ip6tables=\(calls)
      """)
  }

  /// A pod on the bridge.
  package func bridged(_ short: String) throws -> Pod {
    let pod = try take(short, "50", nil, nil)
    try sh(
      """
      ip -n $T-n link add v\(short) type veth peer name eth0 netns $T-\(short)
      ip -n $T-n link set v\(short) up master br0
      ip -n $T-\(short) -batch - <<X
      link set eth0 up
      addr add \(pod.v4)/24 dev eth0
      addr add \(pod.v6)/64 dev eth0 nodad
      route add default via \(Topology.bridgeV4)
      route add default via fd50::1
      X
      """)
    return pod
  }

  /// A link between the node and a namespace further out, which has `far` and routes everything to the node. Without addresses in fd.
  package func uplink(_ device: String, to short: String, near: String, far: String) throws {
    try sh(
      """
      ip -n $T-n link add \(device) type veth peer name \(device) netns $T-\(short)
      ip -n $T-n addr add \(near)/24 dev \(device)
      ip -n $T-\(short) addr add \(far)/24 dev \(device)
      ip -n $T-n link set \(device) up
      ip -n $T-\(short) link set \(device) up
      """)
  }

  private func take(_ short: String, _ subnet: String, _ v4: String?, _ v6: String?) throws -> Pod {
    try namespace(short)
    count += 1
    return Pod(name: short, namespace: "\(name)-\(short)", v4: v4 ?? "10.\(subnet).0.\(count)", v6: v6 ?? "fd\(subnet)::\(count)")
  }

  private func macs() -> (near: String, far: String) {
    (String(format: "02:00:00:00:01:%02x", count), String(format: "02:00:00:00:02:%02x", count))
  }

  // MARK: What runs in it

  package func sh(_ script: String) throws {
    let result = try Command.result(["env", "T=\(name)", "sh", "-eu"], input: script)
    guard result.status == 0 else { throw LabError("\(script.prefix(300)): \(result.errors.prefix(1000))") }
  }

  /// Loads nft rules into the node's namespace, or another.
  package func nft(_ rules: String, in short: String = "n") throws {
    try Command.run(["ip", "netns", "exec", "\(name)-\(short)", "nft", "-f", "-"], input: rules)
  }

  /// The errors "destination unreachable" that a namespace's kernel sent so far.
  package func unreachablesSent(in short: String, _ family: Family) throws -> Int {
    let words = try Command.run(["ip", "netns", "exec", "\(name)-\(short)", "cat", "/proc/net/\(family.pick("snmp", "snmp6"))"])
      .split(separator: "\n").map { $0.split(separator: " ").flatMap { $0.split(separator: "\t") }.map(String.init) }
    // IPv6 has a line for each counter; IPv4 a line of names and one of values.
    let name = family.pick("OutDestUnreachs", "Icmp6OutDestUnreachs")
    guard let line = words.firstIndex(where: { $0.contains(name) }), let column = words[line].firstIndex(of: name) else { return -1 }
    return Int(family == .six ? words[line][column + 1] : words[line + 1][column]) ?? -1
  }

  package func command(in short: String, _ arguments: String) -> [String] {
    ["ip", "netns", "exec", "\(name)-\(short)", Executables.racelab] + arguments.split(separator: " ").map(String.init)
  }

  /// Starts `racelab serve` in a namespace and waits for it.
  @discardableResult
  package func serve(in short: String, _ binds: String, _ options: String = "") throws -> Background {
    let server = try Background(command(in: short, "serve --bind \(binds) \(options)"))
    guard Clock.poll(seconds: 10, every: 0.005, { server.output.contains("ready") }) else {
      throw LabError("no server in \(short): \(server.errors)")
    }
    programs.append(server)
    return server
  }

  /// The rule that sends an address to a backend; for a chain of `services`.
  package static func services(_ lines: [(address: String, backend: String)], family: String = "ip") -> String {
    let rules = lines.map { "\(family) daddr \($0.address) udp dport 53 dnat to \($0.backend)" }.joined(separator: "\n")
    return """
      table \(family) services {
        chain prerouting { type nat hook prerouting priority -100;
          \(rules)
        }
        chain output { type nat hook output priority -100;
          \(rules)
        }
      }

      """
  }
}
