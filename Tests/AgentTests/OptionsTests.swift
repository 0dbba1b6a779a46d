import Flows
import Testing

@testable import Agent

private func load(_ arguments: [String], _ environment: [String: String] = [:]) -> Result<Configuration, ConfigurationError> {
  Result { () throws(ConfigurationError) in
    try ConfigurationSources(arguments: arguments, environment: environment).load()
  }
}

private func message(_ arguments: [String], _ environment: [String: String] = [:]) -> String {
  switch load(arguments, environment) {
  case .success: "no error"
  case .failure(let error): error.description
  }
}

private func loaded(_ arguments: [String], _ environment: [String: String] = [:]) throws -> Configuration {
  try load(arguments, environment).get()
}

@Suite struct OptionsTests {
  @Test func defaultsAreTheContract() throws {
    let configuration = try loaded([])
    #expect(configuration == Configuration())
    let shown = AgentOptions.table.options.map { "\($0.name)=\($0.defaultText(of: configuration))" }
    #expect(
      shown == [
        "web.listen-address=[::]:10553", "web.api-address=127.0.0.1:10554", "web.config.file=none", "incidents.output=-", "incidents.rate=1000",
        "incidents.all=false", "dns.port=53", "dns.timeout=10s", "dns.names=full", "dns.names-key-file=a random key per start",
        "kernel-probe=auto", "kernel-probe.rung=each in turn", "kernel-probe.resolved=false", "conntrack.ring=auto", "capture.outgoing=true",
        "capture.interfaces=every interface", "capture.exclude=no interface", "path.procfs=/proc",
        "path.rootfs=/", "node.name=the host's name", "metrics.per-cpu=false", "config.file=none", "log.level=info", "log.format=logfmt",
      ])
  }

  struct Accepted: CustomTestStringConvertible {
    var arguments: [String]
    var check: @Sendable (Configuration) -> Bool
    var testDescription: String { arguments.joined(separator: " ") }
    init(_ arguments: String..., check: @escaping @Sendable (Configuration) -> Bool) {
      self.arguments = arguments
      self.check = check
    }
  }

  static let accepted: [Accepted] = [
    Accepted("--web.listen-address", "127.0.0.1:1") { $0.webListenAddresses == [Endpoint(IPAddress(v4: 0x7F00_0001), 1)] },
    Accepted("--web.listen-address=[::1]:2", "--web.listen-address", ":3") {
      $0.webListenAddresses == [Endpoint(IPAddress(high: 0, low: 1), 2), Endpoint(.unspecified, 3)]
    },
    Accepted("--web.listen-address=0.0.0.0:0,[fe80::1]:65535") {
      $0.webListenAddresses == [Endpoint(IPAddress(v4: 0), 0), Endpoint(IPAddress(high: 0xFE80_0000_0000_0000, low: 1), 65535)]
    },
    Accepted("--web.api-address=10.0.0.1:80") { $0.webAPIAddress == Endpoint(IPAddress(v4: 0x0A00_0001), 80) },
    Accepted("--web.config.file", "/etc/web.yaml") { $0.webConfigFile == "/etc/web.yaml" },
    Accepted("--incidents.output", "-") { $0.incidentsOutput == .standardOutput },
    Accepted("--incidents.output=/var/log/a=b") { $0.incidentsOutput == .file("/var/log/a=b") },
    Accepted("--incidents.rate=1") { $0.incidentsRate == 1 },
    Accepted("--incidents.all") { $0.incidentsAll },
    Accepted("--incidents.all", "true") { $0.incidentsAll },
    Accepted("--incidents.all", "--log.level=warn") { $0.incidentsAll && $0.logLevel == .warn },
    Accepted("--capture.outgoing=false") { !$0.captureOutgoing },
    Accepted("--capture.outgoing", "false", "--dns.names", "hash") { !$0.captureOutgoing && $0.dnsNames == .hash },
    Accepted("--kernel-probe", "require") { $0.kernelProbe == .require },
    Accepted("--kernel-probe.rung", "kfree-skb") { $0.kernelProbeRung == .kfreeSkb },
    Accepted("--kernel-probe.resolved", "true") { $0.kernelProbeResolved },
    Accepted("--conntrack.ring", "off") { $0.conntrackRing == .off },
    Accepted("--dns.port", "53", "--dns.port", "5353,53") { $0.dnsPorts == [53, 5353] },
    Accepted("--dns.timeout=1s") { $0.dnsTimeout == 1_000_000_000 },
    Accepted("--dns.timeout=5m") { $0.dnsTimeout == 300_000_000_000 },
    Accepted("--dns.timeout=1m30s") { $0.dnsTimeout == 90_000_000_000 },
    Accepted("--dns.timeout=2.5s") { $0.dnsTimeout == 2_500_000_000 },
    Accepted("--dns.timeout=1500ms") { $0.dnsTimeout == 1_500_000_000 },
    Accepted("--dns.timeout=0.05h") { $0.dnsTimeout == 180_000_000_000 },
    Accepted("--dns.names-key-file=key") { $0.dnsNamesKeyFile == "key" },
    Accepted("--capture.interfaces=^(veth|eth)[0-9]+$") { $0.captureInterfaces == "^(veth|eth)[0-9]+$" },
    Accepted("--capture.exclude", "lo") { $0.captureExclude == "lo" },
    Accepted("--path.procfs=/host/proc", "--path.rootfs=/host") { $0.procfsPath == "/host/proc" && $0.rootfsPath == "/host" },
    Accepted("--metrics.per-cpu") { $0.metricsPerCPU },
    Accepted("--node.name=n1") { $0.nodeName == "n1" },
    Accepted("--log.format=json") { $0.logFormat == .json },
  ]

  @Test(arguments: accepted)
  func takes(_ row: Accepted) throws {
    let configuration = try loaded(row.arguments)
    #expect(row.check(configuration))
    #expect(configuration.sources.arguments == row.arguments)
  }

  static let refused: [(arguments: [String], message: String)] = [
    (["--web.listen-addres=:1"], "--web.listen-addres: no such option; did you mean --web.listen-address?"),
    (["--listen-address=:1"], "--listen-address: no such option; did you mean --web.listen-address?"),
    (["--log_level=debug"], "--log_level: no such option; did you mean --log.level?"),
    (["--hepl"], "--hepl: no such option; did you mean --help?"),
    (["-v"], "-v: no such option; see \"racetrack agent --help\""),
    (["-log.level=debug"], "-log.level: no such option; did you mean --log.level?"),
    (["--zzzzzzzzzzzz"], "--zzzzzzzzzzzz: no such option; see \"racetrack agent --help\""),
    (["--a\nb"], "\"--a\\nb\": no such option; see \"racetrack agent --help\""),
    (["--log.level"], "--log.level: needs a value: --log.level debug|info|warn|error"),
    (["--dns.names", "--log.level=info"], "--dns.names: needs a value: --dns.names full|hash|off"),
    (["--log.level=loud"], "--log.level: \"loud\" is not one of debug, info, warn, error"),
    (["--log.level="], "--log.level: \"\" is not one of debug, info, warn, error"),
    (["--log.level=info", "--log.level=info"], "--log.level: is given twice"),
    (["--incidents.all=yes"], "--incidents.all: \"yes\" is not one of true, false"),
    (["--incidents.all", "yes"], "\"yes\": unexpected argument; see \"racetrack agent --help\""),
    (["--incidents.rate=0"], "--incidents.rate: \"0\" is not a whole number from 1 to 1000000"),
    (["--incidents.rate=+5"], "--incidents.rate: \"+5\" is not a whole number from 1 to 1000000"),
    (["--incidents.rate=99999999999999999999"], "--incidents.rate: \"99999999999999999999\" is not a whole number from 1 to 1000000"),
    (["--dns.port=65536"], "--dns.port: \"65536\" is not a whole number from 1 to 65535"),
    (["--dns.port=53,"], "--dns.port: \"\" is not a whole number from 1 to 65535"),
    (["--dns.port=1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17"], "--dns.port: takes at most 16 values"),
    (["--dns.timeout=10"], "--dns.timeout: \"10\" is not a duration from 1s to 5m, like 10s, 1m30s or 1500ms"),
    (["--dns.timeout=999ms"], "--dns.timeout: \"999ms\" is not a duration from 1s to 5m, like 10s, 1m30s or 1500ms"),
    (["--dns.timeout=5m1ms"], "--dns.timeout: \"5m1ms\" is not a duration from 1s to 5m, like 10s, 1m30s or 1500ms"),
    (["--dns.timeout=999999999h"], "--dns.timeout: \"999999999h\" is not a duration from 1s to 5m, like 10s, 1m30s or 1500ms"),
    (["--dns.timeout=-1s"], "--dns.timeout: \"-1s\" is not a duration from 1s to 5m, like 10s, 1m30s or 1500ms"),
    (
      ["--web.api-address=localhost:80"],
      "--web.api-address: \"localhost:80\" is not an IP address and a port, like 127.0.0.1:10554 or [::]:10553"
    ),
    (["--web.api-address=::1:80"], "--web.api-address: \"::1:80\" is not an IP address and a port, like 127.0.0.1:10554 or [::]:10553"),
    (["--web.api-address=1.2.3.4"], "--web.api-address: \"1.2.3.4\" is not an IP address and a port, like 127.0.0.1:10554 or [::]:10553"),
    (["--web.api-address=[1.2.3.4]:1"], "--web.api-address: \"[1.2.3.4]:1\" is not an IP address and a port, like 127.0.0.1:10554 or [::]:10553"),
    (["--web.api-address=:65536"], "--web.api-address: \":65536\" is not an IP address and a port, like 127.0.0.1:10554 or [::]:10553"),
    (["--capture.exclude="], "--capture.exclude: \"\" is not a POSIX extended regular expression: it is empty"),
    (["--capture.interfaces=(a"], "--capture.interfaces: \"(a\" is not a POSIX extended regular expression: Unmatched ( or \\("),
    (["--path.procfs=proc"], "--path.procfs: \"proc\" is not an absolute path, like /host/proc"),
    (["--node.name=a b"], "--node.name: \"a b\" is not a name of 1 to 253 printable ASCII characters without spaces"),
    (["--node.name=a\r\nb"], "--node.name: \"a\\r\\nb\" is not a name of 1 to 253 printable ASCII characters without spaces"),
    (["--config.file=/nonexistent/x.yaml"], "/nonexistent/x.yaml: cannot open: No such file or directory"),
    (["--config.file=/dev/zero"], "/dev/zero: not a regular file"),
    (["--config.file=/"], "/: not a regular file"),
    (["agent"], "\"agent\": unexpected argument; see \"racetrack agent --help\""),
    (["--", "--log.level"], "\"--log.level\": unexpected argument; see \"racetrack agent --help\""),
  ]

  @Test(arguments: refused)
  func refuses(_ row: (arguments: [String], message: String)) {
    #expect(message(row.arguments) == row.message)
  }

  @Test func messagesAreOneBoundedLine() {
    let hostile = String(repeating: "\u{2028}\n\u{1B}[2J", count: 1000)
    for name in AgentOptions.table.options.map(\.name) {
      let text = message(["--\(name)=\(hostile)"])
      #expect(text.utf8.count < 6000, "\(name)")
      #expect(!text.utf8.contains(0x0A) && !text.utf8.contains(0x1B), "\(name)")
    }
    #expect(message(["--" + hostile]).utf8.allSatisfy { $0 >= 0x20 })
  }

  @Test func environmentTakesListsAndIgnoresWhatItDoesNotKnow() throws {
    let configuration = try loaded(
      [],
      [
        "RACETRACK_WEB_LISTEN_ADDRESS": "127.0.0.1:1, [::1]:2", "RACETRACK_DNS_PORT": "53,5353", "RACETRACK_INCIDENTS_ALL": "true",
        "RACETRACK_DNS_NAMES_KEY_FILE": "/k", "RACETRACK_METRICS_PER_CPU": "true", "RACETRACK_NODE_NAME": "n2", "RACETRACK_LOG_LEVEL": "",
        "RACETRACK_SERVICE_HOST": "10.0.0.1", "RACETRACK_PORT": "tcp://10.0.0.1:80", "NODE_NAME": "other",
      ])
    #expect(configuration.webListenAddresses.map(\.description) == ["127.0.0.1:1", "[::1]:2"])
    #expect(configuration.dnsPorts == [53, 5353])
    #expect(configuration.incidentsAll && configuration.metricsPerCPU)
    #expect(configuration.dnsNamesKeyFile == "/k" && configuration.nodeName == "n2" && configuration.logLevel == .info)
    #expect(message([], ["RACETRACK_DNS_PORT": "53,x"]) == "RACETRACK_DNS_PORT: \"x\" is not a whole number from 1 to 65535")
  }

  @Test func environmentNamesAreDistinct() {
    let names = AgentOptions.table.options.map(\.environmentName)
    #expect(Set(names).count == names.count)
    #expect(names.contains("RACETRACK_WEB_LISTEN_ADDRESS"))
    #expect(names.allSatisfy { $0.utf8.allSatisfy { (0x41...0x5A).contains($0) || $0 == 0x5F } })
  }

  @Test func commandLineOverEnvironmentOverFileOverDefault() throws {
    let file = try TemporaryFile("log.level: debug\ndns.port: [1, 2]\nincidents.rate: 7\nlog.format: json\n")
    let environment = ["RACETRACK_CONFIG_FILE": file.path, "RACETRACK_INCIDENTS_RATE": "8", "RACETRACK_DNS_PORT": "3", "RACETRACK_LOG_LEVEL": "warn"]
    let configuration = try loaded(["--log.level=error", "--dns.port=4"], environment)
    #expect(configuration.logLevel == .error)
    #expect(configuration.dnsPorts == [4])
    #expect(configuration.incidentsRate == 8)
    #expect(configuration.logFormat == .json)
    #expect(configuration.kernelProbe == .auto)
    let other = try TemporaryFile("incidents.rate: 9\n")
    #expect(try loaded(["--config.file", other.path], ["RACETRACK_CONFIG_FILE": file.path]).incidentsRate == 9)
  }

  @Test func aWrongValueIsAnErrorEvenWhenOverridden() {
    #expect(message(["--log.level=info"], ["RACETRACK_LOG_LEVEL": "x"]).hasPrefix("RACETRACK_LOG_LEVEL: \"x\" is not one of"))
  }

  @Test func everyShownValueParsesBack() throws {
    var configuration = Configuration()
    for option in AgentOptions.table.options {
      let shown = option.show(configuration).filter { !$0.isEmpty }
      guard !shown.isEmpty else { continue }
      try option.assign(&configuration, shown)
    }
    #expect(configuration == Configuration())
  }

  @Test func interfaceSelection() throws {
    func selection(_ capture: String?, _ exclude: String?) throws -> InterfaceSelection {
      var configuration = Configuration()
      configuration.captureInterfaces = capture
      configuration.captureExclude = exclude
      return try InterfaceSelection(configuration)
    }
    #expect(try selection(nil, nil).contains("eth0"))
    #expect(try selection("^eth", nil).contains("eth0") && !selection("^eth", nil).contains("veth0"))
    #expect(try selection("eth", "^veth").contains("eth0") && !selection("eth", "^veth").contains("veth0"))
    #expect(try !selection(nil, "^lo$").contains("lo") && selection(nil, "^lo$").contains("lo0"))
  }

  @Test func reloadTakesWhatCanChangeAndNamesTheRest() throws {
    let file = try TemporaryFile("log.level: debug\n")
    let old = try loaded(["--config.file", file.path])
    try file.write("log.level: warn\nincidents.rate: 5\ndns.port: 5353\nnode.name: n9\n")
    let reload = try Configuration.reload(old).get()
    #expect(reload.changed == ["incidents.rate", "log.level"])
    #expect(reload.needRestart == ["dns.port", "node.name"])
    #expect(reload.configuration.logLevel == .warn && reload.configuration.incidentsRate == 5)
    #expect(reload.configuration.dnsPorts == [53] && reload.configuration.nodeName == nil)
    try file.write("log.level: loud\n")
    guard case .failure(let error) = Configuration.reload(reload.configuration) else {
      Issue.record("a wrong file was taken")
      return
    }
    #expect(error.description == "\(file.path):1: log.level: \"loud\" is not one of debug, info, warn, error")
  }

  @Test func dispatchAnswersWithExitCodes() {
    var seen: Configuration?
    let commands = [
      Subcommand.agent { configuration in
        seen = configuration
        return ExitCode.cannotRun.rawValue
      },
      CheckConfigCommand.subcommand,
    ]
    #expect(Subcommand.dispatch([], among: commands) == 2)
    #expect(Subcommand.dispatch(["agnet"], among: commands) == 2)
    #expect(Subcommand.dispatch(["agent", "--nope"], among: commands) == 2)
    #expect(Subcommand.dispatch(["check-config"], among: commands) == 2)
    #expect(seen == nil)
    let answered = ["--help", "--version", "agent --help", "agent x --help", "agent --version", "check-config --help"]
    for arguments in answered.map({ $0.split(separator: " ").map(String.init) }) {
      #expect(Subcommand.dispatch(arguments, among: commands) == 0, "\(arguments)")
    }
    #expect(seen == nil)
    #expect(Subcommand.dispatch(["agent", "--dns.port=54"], among: commands) == 3)
    #expect(seen?.dnsPorts == [54])
  }
}
