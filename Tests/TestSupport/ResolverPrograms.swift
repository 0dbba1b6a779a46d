import Foundation

/// A program that looks a name up once, with a resolver of its own.
package enum Resolver: String, Sendable {
  /// getaddrinfo of the machine's C library.
  case glibc
  /// The same source, linked statically against musl.
  case musl
  /// ares_getaddrinfo of c-ares.
  case cares
  /// Go's own resolver, in a Debian program that is written in Go.
  case go
  case dig

  /// What the machine must have for all of them, and for the server and the witness.
  package static let programs = ["gcc", "musl-gcc", "promtool", "dig", "dnsmasq", "unbound", "dnsperf", "tcpdump", "unshare"]

  /// Why they cannot run here; empty if they can.
  package static let missing: [String] = {
    var missing = programs.filter { (try? Command.result(["sh", "-c", "command -v \($0)"]).status) != 0 }
    if !FileManager.default.fileExists(atPath: "/usr/include/ares.h") { missing.append("libc-ares-dev") }
    if !missing.isEmpty { print("resolver tests skipped: this machine lacks \(missing.joined(separator: ", "))") }
    return missing
  }()

  private static let sources = (#filePath as NSString).deletingLastPathComponent + "/../resolvers"
  private static let directory = Executables.directory + "/resolvers"

  /// Compiles those that are ours.
  package static func build() throws {
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    let flags = ["-O1", "-Wall", "-Wextra", "-Werror"]
    try Command.run(["gcc"] + flags + ["-o", directory + "/glibc", sources + "/lookup.c"])
    try Command.run(["musl-gcc", "-static"] + flags + ["-o", directory + "/musl", sources + "/lookup.c"])
    try Command.run(["gcc"] + flags + ["-o", directory + "/cares", sources + "/cares.c", "-lcares"])
  }

  /// The command that looks the names up, one after the other; Go's and dig take one.
  func command(_ names: [String]) -> [String] {
    switch self {
    case .glibc, .musl, .cares: [Resolver.directory + "/" + rawValue] + names
    // Connecting to the answer, a loopback address, is refused at once.
    case .go: ["env", "-i", "PATH=/usr/bin", "GODEBUG=netdns=go", "promtool", "query", "instant", "http://\(names[0]):9", "up"]
    case .dig: ["dig", names[0], "AAAA"]
    }
  }

  /// True where the program's own start-up is part of what it takes.
  package var isTimedWhole: Bool { self == .go || self == .dig }
}

/// One run of a resolver in a pod, with a resolv.conf of its own that nothing outside its mount namespace sees.
package final class ResolverRun {
  package struct Lookup: Sendable {
    package var name: String
    package var status: Int
    package var seconds: Double
    package var v4: Int
    package var v6: Int
  }

  private let process: Background
  private let resolver: Resolver
  private let names: [String]
  private let files: [String]

  /// - Parameter configuration: the text of resolv.conf.
  package init(_ resolver: Resolver, in pod: Lab.Pod, names: [String], configuration: String) throws {
    self.resolver = resolver
    self.names = names
    let stem = Lab.scratch + "/\(UUID().uuidString)"
    files = [stem + ".resolv", stem + ".nss"]
    try configuration.write(toFile: files[0], atomically: false, encoding: .utf8)
    try "hosts: dns\n".write(toFile: files[1], atomically: false, encoding: .utf8)
    let script = """
      mount --bind \(files[0]) /etc/resolv.conf && mount --bind \(files[1]) /etc/nsswitch.conf || exit 99
      start=$(date +%s%N); "$@"; echo "took $(( ($(date +%s%N) - start) / 1000 ))"
      """
    process = try Background(
      ["ip", "netns", "exec", pod.namespace, "unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"] + resolver.command(names))
  }

  deinit { for file in files { unlink(file) } }

  /// Waits for its end.
  package func lookups(seconds: Double) throws -> [Lookup] {
    guard process.wait(seconds: seconds) == 0 else { throw LabError("\(resolver) \(names): \(process.output) \(process.errors)") }
    let lines = process.output.split(separator: "\n")
    if resolver.isTimedWhole {
      guard let took = lines.last?.split(separator: " "), took.count == 2, took[0] == "took", let microseconds = Double(took[1]) else {
        throw LabError("\(resolver): \(process.output)")
      }
      return [Lookup(name: names[0], status: 0, seconds: microseconds / 1e6, v4: -1, v6: -1)]
    }
    return lines.compactMap { line in
      let words = line.split(separator: " ")
      guard words.count == 6, words[0] == "lookup" else { return nil }
      let values = words[2...].map { Double($0.drop { $0 != "=" }.dropFirst()) ?? -1 }
      return Lookup(name: String(words[1]), status: Int(values[0]), seconds: values[1], v4: Int(values[2]), v6: Int(values[3]))
    }
  }
}

/// dnsmasq in a backend: every name under lab.test and ask.test has one address of each family, none under cluster.local exists.
package final class Dnsmasq {
  private let process: Background

  package init(in backend: Lab.Pod) throws {
    let zones = ["lab.test", "ask.test"].flatMap { ["--address=/\($0)/127.0.0.1", "--address=/\($0)/::1"] }
    process = try Background(
      [
        "ip", "netns", "exec", backend.namespace, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
        "--user=root", "--group=root", "--pid-file=", "--log-facility=-", "--local=/cluster.local/",
      ] + zones)
    let started = process
    guard Clock.poll(seconds: 10, { started.errors.contains("started") }) else { throw LabError("dnsmasq did not start: \(started.errors)") }
  }
}

/// unbound in a backend: the same zones, and big.test with more addresses than 512 bytes hold.
package final class Unbound {
  private let process: Background
  private let path = Lab.scratch + "/\(UUID().uuidString).unbound"

  package init(in backend: Lab.Pod) throws {
    var lines = [
      "server:", "interface: \(backend.v4)", "interface: \(backend.v6)", "access-control: 0.0.0.0/0 allow", "access-control: ::/0 allow",
      "do-daemonize: no", "chroot: \"\"", "username: \"\"", "pidfile: \"\"", "use-syslog: no", "logfile: \"\"", "verbosity: 1", "num-threads: 1",
      "module-config: \"iterator\"", "local-zone: \"cluster.local.\" static", "local-zone: \"test.\" transparent",
    ]
    for zone in ["lab.test", "ask.test"] {
      lines += ["local-zone: \"\(zone).\" redirect", "local-data: \"\(zone). A 127.0.0.1\"", "local-data: \"\(zone). AAAA ::1\""]
    }
    lines += ["local-zone: \"big.test.\" redirect", "local-data: \"big.test. A 127.0.0.1\""]
    lines += (1...18).map { "local-data: \"big.test. AAAA ::1:\($0)\"" }
    lines += ["remote-control:", "control-enable: no"]
    try lines.joined(separator: "\n").appending("\n").write(toFile: path, atomically: true, encoding: .utf8)
    process = try Background(["ip", "netns", "exec", backend.namespace, "unbound", "-d", "-c", path])
    let started = process
    guard Clock.poll(seconds: 10, { started.errors.contains("start of service") }) else { throw LabError("unbound: \(started.errors)") }
  }

  deinit { unlink(path) }
}

/// A query as tcpdump saw it come from a pod.
package struct CapturedQuery: Sendable {
  package var time: Double
  package var client: String
  package var port: Int
  package var server: String
  package var id: Int
  package var type: String
  package var name: String
  /// The same for every attempt of one query.
  package var identity: String { "\(client):\(port) \(server) \(id) \(type) \(name)" }
}

/// tcpdump in the node: the witness of what the resolvers sent, beside the agent.
package final class QueryCapture {
  private let process: Background

  package init(_ lab: Lab) throws {
    process = try Background(
      [
        "ip", "netns", "exec", lab.node, "tcpdump", "-i", "any", "-Q", "in", "-n", "-tt", "-l", "--immediate-mode", "-s", "256", "-B", "8192", "udp",
        "dst",
        "port",
        "53",
      ])
    let started = process
    guard Clock.poll(seconds: 10, { started.errors.contains("listening on") }) else { throw LabError("tcpdump: \(started.errors)") }
  }

  /// Ends it and returns what it saw.
  package func stop() throws -> [CapturedQuery] {
    process.signal(SIGTERM)
    guard process.wait(seconds: 10) == 0 else { throw LabError("tcpdump: \(process.errors)") }
    guard process.errors.contains("0 packets dropped by kernel") else { throw LabError("tcpdump lost packets: \(process.errors)") }
    return process.output.split(separator: "\n").compactMap(Self.query)
  }

  /// `1795.1 vc1   In  IP 10.40.0.11.4321 > 10.96.0.10.53: 777+ [1au] AAAA? a.lab.test. (28)`, or IP6 and `fd40::11.4321`.
  static func query(_ line: Substring) -> CapturedQuery? {
    let words = line.split(separator: " ")
    guard words.count > 8, words[3] == "IP" || words[3] == "IP6", words[5] == ">", let time = Double(words[0]) else { return nil }
    guard let type = words.firstIndex(where: { $0.hasSuffix("?") }), type + 1 < words.count else { return nil }
    guard let id = Int(words[7].prefix { $0.isNumber }) else { return nil }
    guard let source = endpoint(words[4]), let server = endpoint(words[6].dropLast()) else { return nil }
    return CapturedQuery(
      time: time, client: source.address, port: source.port, server: server.address, id: id, type: String(words[type].dropLast()),
      name: String(words[type + 1].dropLast()))
  }

  /// An address and behind its last dot a port.
  private static func endpoint(_ text: Substring) -> (address: String, port: Int)? {
    guard let dot = text.lastIndex(of: "."), let port = Int(text[text.index(after: dot)...]) else { return nil }
    return (String(text[..<dot]), port)
  }
}
