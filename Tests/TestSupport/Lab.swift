import Foundation
import Glibc

/// A node in a network namespace of its own, with pods and backends as further namespaces on routed veth pairs, like a cluster's node with a
/// routing CNI. Names carry this process's id; everything goes with the object, and what a killed run left goes at the next start.
///
/// Addresses: pod n is 10.40.0.n and fd40::n, backend n is 10.60.0.n and fd60::n. Neighbours are fixed, so that no packet waits for one.
package final class Lab {
  package enum Family: Sendable { case v4, v6 }

  /// A namespace behind the node: a client or a backend.
  package struct Pod: Sendable {
    package let name: String
    package let namespace: String
    package let v4: String
    package let v6: String
    package let device: String
    package func address(_ family: Family) -> String { family == .v4 ? v4 : v6 }
  }

  static let prefix = "rlab"
  /// Where outputs, logs and records lie until their owner goes.
  package static let scratch: String = {
    let path = NSTemporaryDirectory() + "racelab-\(getpid())"
    try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    atexit { rmdir(Lab.scratch) }
    return path
  }()
  private nonisolated(unsafe) static var made = 0
  private static let lock = NSLock()
  private static let stale: Void = removeStale()

  package let name: String
  package var node: String { name + "-n" }
  package private(set) var clients: [Pod] = []
  package private(set) var backends: [Pod] = []
  /// The source address of the node's own packets and of what it masquerades.
  package static let nodeV4 = "10.255.0.1"
  package static let nodeV6 = "fdff::1"
  private var servers: [DNSServer] = []
  private var namespaces: [String] = []

  package init(clients clientCount: Int, backends backendCount: Int) throws {
    name = Lab.takeName()
    for n in 1...clientCount { clients.append(pod("c\(n)", subnet: 40, host: 10 + n, index: n)) }
    for n in 1...backendCount { backends.append(pod("b\(n)", subnet: 60, host: 10 + n, index: 100 + n)) }
    namespaces = [node] + (clients + backends).map(\.namespace)
    try Command.run(["sh", "-eu"], input: script())
  }

  /// A name that no other lab has; what killed runs left is removed before the first.
  static func takeName() -> String {
    _ = Lab.stale
    let number = Lab.lock.withLock {
      Lab.made += 1
      return Lab.made
    }
    return "\(Lab.prefix)\(getpid())x\(number)"
  }

  deinit {
    servers.removeAll()
    Lab.remove(namespaces)
  }

  private func pod(_ short: String, subnet: Int, host: Int, index: Int) -> Pod {
    Pod(name: short, namespace: "\(name)-\(short)", v4: "10.\(subnet).0.\(host)", v6: "fd\(subnet)::\(host)", device: "v\(short)")
  }

  private func script() -> String {
    var lines = [
      "ip netns add \(node)",
      "ip netns exec \(node) sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0 "
        + "net.ipv4.conf.default.rp_filter=0 net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0",
      "ip -n \(node) link set lo up",
    ]
    for (index, pod) in (clients + backends).enumerated() {
      let near = String(format: "02:00:00:00:01:%02x", index)
      let far = String(format: "02:00:00:00:02:%02x", index)
      lines += [
        "ip netns add \(pod.namespace)",
        "ip netns exec \(pod.namespace) sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0",
        "ip -n \(node) link add \(pod.device) address \(near) type veth peer name eth0 netns \(pod.namespace) address \(far)",
        "ip -n \(node) -batch - <<X",
        "link set \(pod.device) up",
        "addr add \(Lab.nodeV4)/32 dev \(pod.device)",
        "addr add \(Lab.nodeV6)/128 dev \(pod.device) nodad",
        "neigh replace \(pod.v4) lladdr \(far) dev \(pod.device) nud permanent",
        "neigh replace \(pod.v6) lladdr \(far) dev \(pod.device) nud permanent",
        "route add \(pod.v4)/32 dev \(pod.device)",
        "route add \(pod.v6)/128 dev \(pod.device)",
        "X",
        "ip -n \(pod.namespace) -batch - <<X",
        "link set lo up",
        "link set eth0 up",
        "addr add \(pod.v4)/32 dev eth0",
        "addr add \(pod.v6)/128 dev eth0 nodad",
        "neigh replace 169.254.1.1 lladdr \(near) dev eth0 nud permanent",
        "neigh replace fe80::1 lladdr \(near) dev eth0 nud permanent",
        "route add 169.254.1.1 dev eth0 scope link",
        "route add default via 169.254.1.1 dev eth0",
        "route add default via fe80::1 dev eth0",
        "X",
      ]
    }
    return lines.joined(separator: "\n") + "\n"
  }

  /// Loads rules into the node's namespace.
  package func load(_ ruleset: Ruleset) throws {
    try Command.run(["ip", "netns", "exec", node, "nft", "-f", "-"], input: ruleset.text)
  }

  /// Starts a DNS server in a backend, on port 53 of both families and on the further UDP ports given.
  @discardableResult
  package func serve(_ backend: Pod, ports: [Int] = [53], delayMilliseconds: Int = 0, mute: Bool = false) throws -> DNSServer {
    let server = try DNSServer(lab: self, backend: backend, ports: ports, delayMilliseconds: delayMilliseconds, mute: mute)
    servers.append(server)
    return server
  }

  /// The command line that runs a racelab client: in a pod, or in the initial namespace where it enters others itself.
  package func racelab(in pod: Pod?, _ arguments: [String]) -> [String] {
    (pod.map { ["ip", "netns", "exec", $0.namespace] } ?? []) + [Executables.racelab] + arguments
  }

  /// Runs a client to its end and returns the queries it sent.
  package func truth(in pod: Pod?, _ arguments: [String]) throws -> [AskedQuery] {
    AskedQuery.parse(try Command.run(racelab(in: pod, arguments)))
  }

  /// Everything the servers received so far. Only whole after they were stopped.
  package func stopServers() throws -> [ReceivedQuery] {
    defer { servers.removeAll() }
    return try servers.flatMap { try $0.stop() }
  }

  static func remove(_ namespaces: [String]) {
    for namespace in namespaces { _ = try? Command.result(["ip", "netns", "del", namespace]) }
  }

  /// Namespaces and files whose process is gone belong to nobody.
  private static func removeStale() {
    for entry in (try? FileManager.default.contentsOfDirectory(atPath: NSTemporaryDirectory())) ?? [] where entry.hasPrefix("racelab-") {
      guard let owner = pid_t(entry.dropFirst("racelab-".count)), kill(owner, 0) != 0 && errno == ESRCH else { continue }
      try? FileManager.default.removeItem(atPath: NSTemporaryDirectory() + "/" + entry)
    }
    guard let listed = try? Command.run(["ip", "netns", "list"]) else { return }
    for line in listed.split(separator: "\n") {
      let namespace = line.prefix { $0 != " " }
      guard namespace.hasPrefix(prefix), let owner = pid_t(namespace.dropFirst(prefix.count).prefix { $0 != "x" }) else { continue }
      guard kill(owner, 0) != 0 && errno == ESRCH else { continue }
      let left = (try? Command.run(["ip", "netns", "pids", String(namespace)])) ?? ""
      for pid in left.split(separator: "\n").compactMap({ pid_t($0) }) { kill(pid, SIGKILL) }
      remove([String(namespace)])
    }
  }
}

/// One `racelab serve`.
package final class DNSServer {
  private let process: Background
  private let log: String

  init(lab: Lab, backend: Lab.Pod, ports: [Int], delayMilliseconds: Int, mute: Bool) throws {
    log = Lab.scratch + "/\(backend.namespace).log"
    let binds = ports.flatMap { ["\(backend.v4):\($0)", "[\(backend.v6)]:\($0)"] }.joined(separator: ",")
    let arguments = ["serve", "--bind", binds, "--delay-ms", "\(delayMilliseconds)", "--log", log] + (mute ? ["--mute"] : [])
    process = try Background(lab.racelab(in: backend, arguments))
    let started = process
    guard Clock.poll(seconds: 10, { started.output.contains("ready") }) else {
      throw LabError("the server in \(backend.name) did not start: \(started.errors)")
    }
  }

  deinit { unlink(log) }

  func stop() throws -> [ReceivedQuery] {
    process.signal(SIGTERM)
    guard process.wait(seconds: 10) == 0 else { throw LabError("a server did not stop: \(process.errors)") }
    return ReceivedQuery.parse(try String(contentsOfFile: log, encoding: .utf8))
  }
}
