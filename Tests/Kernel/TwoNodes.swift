import Foundation
import TestSupport

/// Two nodes with an agent each and a router between them that can lose packets without either noticing. The client's pod is behind node A, the
/// backends behind node B; node A translates the service addresses.
final class TwoNodes {
  static let agentPort = 10554
  let a: Topology
  let b: Topology
  let client: Topology.Pod
  let agentA: AgentProcess
  let agentB: AgentProcess
  private let userFile: String
  private let webFile: String

  private static let user = "trace:trace"
  /// Of that password, at the lowest cost of bcrypt: a node's own limit on wrong passwords is not what is tested here.
  private static let hash = "$2b$04$b.FuxOeHtiKbomABNzE3c.eHwIPab9ZD.hLDIA0AiN8FWpTlxU/32"

  static let urlA = "http://192.168.9.1:\(agentPort)"
  static let urlB = "http://192.168.19.1:\(agentPort)"

  init(timeout: String = "2s") throws {
    a = try Topology()
    b = try Topology()
    client = try a.routed("client")
    try a.namespace("mid")
    try a.uplink("up0", to: "mid", near: "192.168.9.1", far: "192.168.9.2")
    let ordinary = try b.routed("ordinary", v4: "10.60.0.11", v6: "fd60::11")
    let mute = try b.routed("mute", v4: "10.60.0.12", v6: "fd60::12")
    let slow = try b.routed("slow", v4: "10.60.0.13", v6: "fd60::13")
    try a.sh(
      """
      ip -n \(b.node) link add up0 type veth peer name up1 netns $T-mid
      ip -n \(b.node) addr add 192.168.19.1/24 dev up0
      ip -n $T-mid addr add 192.168.19.2/24 dev up1
      ip -n \(b.node) link set up0 up
      ip -n $T-mid link set up1 up
      ip netns exec $T-mid sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
      ip -n $T-mid route add 10.40.0.0/24 via 192.168.9.1
      ip -n $T-mid route add 10.60.0.0/24 via 192.168.19.1
      ip -n $T-n route add default via 192.168.9.2
      ip -n \(b.node) route add default via 192.168.19.2
      """)
    try a.nft(Topology.services([("10.96.0.10", ordinary.v4), ("10.96.0.11", mute.v4), ("10.96.0.12", slow.v4)]))
    try b.serve(in: "ordinary", "\(ordinary.v4):53")
    try b.serve(in: "mute", "\(mute.v4):53", "--mute")
    try b.serve(in: "slow", "\(slow.v4):53", "--delay-ms 400")
    // Names are served beyond loopback to users only.
    userFile = Lab.scratch + "/\(UUID().uuidString).user"
    webFile = Lab.scratch + "/\(UUID().uuidString).yaml"
    try Self.user.write(toFile: userFile, atomically: true, encoding: .utf8)
    try "basic_auth_users:\n  trace: \(Self.hash)\n".write(toFile: webFile, atomically: true, encoding: .utf8)
    let options = ["--dns.timeout", timeout, "--web.config.file", webFile, "--node.name"]
    agentA = try AgentProcess(in: a.node, apiAddress: "192.168.9.1:\(Self.agentPort)", user: Self.user, options: options + ["node-a"])
    agentB = try AgentProcess(in: b.node, apiAddress: "192.168.19.1:\(Self.agentPort)", user: Self.user, options: options + ["node-b"])
    try agentA.waitUntilSeeing()
    try agentB.waitUntilSeeing()
  }

  deinit {
    for path in [userFile, webFile] { try? FileManager.default.removeItem(atPath: path) }
  }

  /// One query from a fixed port with a fixed ID.
  func ask(_ label: String, server: String, port: Int) throws -> AskedQuery {
    let output = try Command.run(
      a.command(
        in: "client",
        "ask --from \(client.v4) --server \(server) --count 1 --types A --timeout-ms 500 --from-port \(port) --id \(port) --label \(label)"))
    guard let query = AskedQuery.parse(output).first else { throw LabError("\(label): nothing was asked: \(output)") }
    return query
  }

  /// Loses, in the router, what matches.
  func lose(_ match: String, _ body: () throws -> String) throws -> String { try drop(match, in: a, "mid", body) }

  /// Runs `body` while a namespace drops what it should forward and what matches.
  func drop(_ match: String, in topology: Topology, _ short: String = "n", _ body: () throws -> String) throws -> String {
    try topology.nft("table ip x {\n chain f {\n type filter hook forward priority 0\n \(match) drop\n }\n }\n", in: short)
    defer { try? topology.nft("delete table ip x\n", in: short) }
    return try body()
  }

  /// Runs the real `racetrack trace` where both agents can be reached.
  func trace(_ id: String, agents: [String] = [urlA, urlB], json: Bool = false) throws -> CommandResult {
    try Command.result(
      ["ip", "netns", "exec", "\(a.name)-mid", Executables.racetrack, "trace", id, "--web.user-file", userFile] + agents.flatMap { ["--agent", $0] }
        + (json ? ["--json"] : []))
  }
}
