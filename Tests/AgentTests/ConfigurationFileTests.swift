import Flows
import Testing

@testable import Agent

private func configuration(_ bytes: [UInt8]) -> Result<Configuration, ConfigurationError> {
  Result { () throws(ConfigurationError) in
    var configuration = Configuration()
    let table = AgentOptions.table
    try table.apply(ConfigurationFile.settings(bytes: bytes, path: "f.yaml", table: table), to: &configuration)
    return configuration
  }
}

private func message(_ text: String) -> String { message(Array(text.utf8)) }

private func message(_ bytes: [UInt8]) -> String {
  switch configuration(bytes) {
  case .success: "no error"
  case .failure(let error): error.description
  }
}

private func parsed(_ text: String) throws -> Configuration { try configuration(Array(text.utf8)).get() }

@Suite struct ConfigurationFileTests {
  @Test func nestedAndFlatMeanTheSame() throws {
    let nested = try parsed(
      """
      web:
        listen-address:
          - "[::1]:1"
          - 127.0.0.1:2
        api-address: 127.0.0.1:3
        config: {file: /w}
      incidents: {rate: 5, all: true}
      kernel-probe: off
      dns: {port: [53, 5353], timeout: 2s, names: off}
      """)
    let flat = try parsed(
      """
      web.listen-address: ["[::1]:1", "127.0.0.1:2"]
      web.api-address: "127.0.0.1:3"
      web: {config.file: /w}
      incidents.rate: "5"
      incidents.all: true
      kernel-probe: "off"
      dns.port: 53,5353
      dns: {timeout: 2s}
      dns.names: 'off'
      """)
    #expect(nested == flat)
    #expect(nested.webListenAddresses.map(\.description) == ["[::1]:1", "127.0.0.1:2"])
    #expect(nested.webConfigFile == "/w" && nested.incidentsRate == 5 && nested.incidentsAll)
    #expect(nested.kernelProbe == .off && nested.dnsPorts == [53, 5353] && nested.dnsTimeout == 2_000_000_000 && nested.dnsNames == .off)
  }

  @Test(arguments: ["", "\n", "# nothing\n", "---\n", "{}", "web:\n", "web: {}\n", "web: ~\n", "\u{FEFF}log.level: info\n"])
  func nothingSetIsTheDefaults(_ text: String) throws {
    #expect(try parsed(text) == Configuration())
  }

  static let refused: [(text: String, message: String)] = [
    ("log.level: debug\nlog.levle: info\n", "f.yaml:2: no such option: \"log.levle\"; did you mean log.level?"),
    ("\nweb:\n  listen_address: x\n", "f.yaml:3: no such option: \"web.listen_address\"; did you mean web.listen-address?"),
    ("qqqqqqqq: 1\n", "f.yaml:1: no such option: \"qqqqqqqq\""),
    ("\"a\\nb\": 1\n", "f.yaml:1: no such option: \"a\\nb\""),
    ("zzzz: {}\n", "f.yaml:1: no such option: \"zzzz\""),
    ("config.file: x\n", "f.yaml:1: config.file cannot be set in a configuration file"),
    ("web: 5\n", "f.yaml:1: web is a group of options, not an option"),
    ("log.level: loud\n", "f.yaml:1: log.level: \"loud\" is not one of debug, info, warn, error"),
    ("log:\n  level:\n", "f.yaml:2: log.level: has no value"),
    ("log.level: ~\n", "f.yaml:1: log.level: has no value"),
    ("log.level: \"\"\n", "f.yaml:1: log.level: \"\" is not one of debug, info, warn, error"),
    ("log.level: [info]\n", "f.yaml:1: log.level: takes one value, not a list"),
    ("log.level: {a: b}\n", "f.yaml:1: no such option: \"log.level.a\"; did you mean log.level?"),
    ("log.level: {}\n", "f.yaml:1: log.level: takes a value, not a mapping"),
    ("dns.port: []\n", "f.yaml:1: dns.port: needs at least one value"),
    ("dns.port:\n- 53\n-\n", "f.yaml:3: dns.port: has no value"),
    ("dns.port: [[53]]\n", "f.yaml:1: a list may hold single values only"),
    ("dns.port: [{a: 1}]\n", "f.yaml:1: a list may hold single values only"),
    ("log.level: info\nlog.level: info\n", "f.yaml:2: \"log.level\" is given twice, first on line 1"),
    ("log: {level: info}\nlog.level: info\n", "f.yaml:2: log.level is given twice, first on line 1"),
    ("log:\n  level: info\nlog:\n  format: json\n", "f.yaml:3: \"log\" is given twice, first on line 1"),
    ("capture.outgoing: no\n", "f.yaml:1: capture.outgoing: \"no\" is not one of true, false"),
    ("- log.level\n", "f.yaml:1: the file must be a mapping of keys to values"),
    ("hello\n", "f.yaml:1: the file must be a mapping of keys to values"),
    ("log.level: info\n---\nlog.format: json\n", "f.yaml:2: the file may hold one YAML document only"),
    ("? [a]\n: 1\n", "f.yaml:1: a key must be plain text"),
    ("\"\": 1\n", "f.yaml:1: a key must have 1 to 256 bytes"),
    ("log.level: &a info\n", "f.yaml:1: anchors and aliases are not allowed"),
    ("log.level: *a\n", "f.yaml:1: anchors and aliases are not allowed"),
    ("log.level: !!str info\n", "f.yaml:1: tags are not allowed"),
    ("log:\n\tlevel: info\n", "f.yaml:2: not YAML: found character that cannot start any token"),
    ("log.level: \"info\n", "f.yaml:2: not YAML: found unexpected end of stream"),
    ("a: b: c\n", "f.yaml:1: not YAML: mapping values are not allowed in this context"),
  ]

  @Test(arguments: refused)
  func refuses(_ row: (text: String, message: String)) {
    #expect(message(row.text) == row.message)
  }

  @Test func nestingIsBounded() {
    let deep = (0..<20).map { String(repeating: " ", count: $0) + "a:\n" }.joined()
    #expect(message(deep) == "f.yaml:16: nested deeper than 16 levels")
    #expect(message(String(repeating: "{a: ", count: 200_000)) == "f.yaml:1: nested deeper than 16 levels")
    #expect(message("a: " + String(repeating: "[", count: 200_000)) == "f.yaml:1: a list may hold single values only")
    #expect(message(String(repeating: "[", count: 1 << 20)) == "f.yaml:1: the file must be a mapping of keys to values")
    #expect(message(String(repeating: "- ", count: 1 << 19)) == "f.yaml:1: the file must be a mapping of keys to values")
    #expect(message(String(repeating: "? ", count: 1 << 19)).hasPrefix("f.yaml:1: "))
  }

  @Test func anAliasBombIsRefusedAtItsFirstAnchor() {
    var bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n"
    for (name, previous) in zip("bcdefghi", "abcdefgh") {
      bomb += "\(name): &\(name) [" + Array(repeating: "*\(previous)", count: 9).joined(separator: ",") + "]\n"
    }
    #expect(message(bomb) == "f.yaml:1: anchors and aliases are not allowed")
  }

  @Test func sizesAreBounded() {
    let fits = "# " + String(repeating: "x", count: YAMLDocument.maximumBytes - 3) + "\n"
    #expect(message(fits) == "no error")
    #expect(message(fits + "\n") == "f.yaml:1: the file is larger than 1 MiB")
    let keys = (0..<5000).map { "k\($0): 1\n" }.joined()
    #expect(message(keys) == "f.yaml:4097: more than 4096 keys")
    let items = "dns.port: [" + String(repeating: "1,", count: 5000) + "]\n"
    #expect(message(items) == "f.yaml:1: a list of more than 4096 values")
    #expect(message(String(repeating: "k", count: 300) + ": 1\n") == "f.yaml:1: a key must have 1 to 256 bytes")
    #expect(message("log.level: " + String(repeating: "x", count: 100_000)).utf8.count < 250)
  }

  @Test func aFileThatIsTooLargeIsNotReadWhole() throws {
    let file = try TemporaryFile("")
    try file.write(bytes: [UInt8](repeating: 0x23, count: YAMLDocument.maximumBytes + 1))
    #expect(throws: ConfigurationError(place: file.path, problem: "larger than 1048576 bytes")) {
      try ConfigurationFile.settings(path: file.path, table: AgentOptions.table)
    }
  }

  @Test func bytesThatAreNotTextAreRefused() {
    #expect(message([0x61, 0x3A, 0x20, 0xFF, 0xFE]).hasPrefix("f.yaml:1: not YAML: "))
    #expect(message([0x7F, 0x45, 0x4C, 0x46, 0, 1, 2]).hasPrefix("f.yaml:1: not YAML: "))
    #expect(message([0xFF, 0xFE, 0x61, 0, 0x3A, 0]).hasPrefix("f.yaml:1: not YAML: "))
    #expect(message("path.rootfs: \"/a\\0b\"\n") == "f.yaml:1: path.rootfs: \"/a\\u0000b\" is not an absolute path, like /host/proc")
  }

  @Test func everyPrefixAndEveryFlippedByteEndsInAnAnswer() {
    let file = "web:\n  listen-address: [\"[::1]:1\", '127.0.0.1:2']\n# c\nlog: {level: info}\ndns.timeout: >-\n  2s\n? log.format\n: json\n"
    let text = Array(file.utf8)
    #expect(message(text) == "no error")
    for length in 0...text.count { _ = configuration(Array(text[..<length])) }
    var state: UInt64 = 1
    for _ in 0..<20_000 {
      var mutated = text
      for _ in 0..<3 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        mutated[Int(state >> 33) % mutated.count] = UInt8(truncatingIfNeeded: state >> 20)
      }
      if case .failure(let error) = configuration(mutated) {
        #expect(error.description.hasPrefix("f.yaml:") && !error.description.utf8.contains { $0 < 0x20 })
      }
    }
  }
}

@Suite struct WebConfigurationTests {
  static let hash = "$2y$10$" + String(repeating: "aA0./", count: 10) + "xyz"

  private func web(_ text: String, path: String = "/etc/rt/web.yaml") -> Result<WebConfiguration, ConfigurationError> {
    Result { () throws(ConfigurationError) in try WebConfiguration(bytes: Array(text.utf8), path: path) }
  }

  @Test func readsTheSubset() throws {
    let text = """
      tls_server_config:
        cert_file: tls.crt
        key_file: /run/tls.key
        client_ca_file: ca/ca.crt
        client_auth_type: RequireAndVerifyClientCert
        min_version: TLS13
      basic_auth_users:
        prometheus: \(Self.hash)
        a.b: "\(Self.hash)"
      """
    let web = try web(text).get()
    #expect(
      web.tls
        == WebConfiguration.TLS(
          certificateFile: "/etc/rt/tls.crt", keyFile: "/run/tls.key", clientCAFile: "/etc/rt/ca/ca.crt",
          clientAuthType: "RequireAndVerifyClientCert", minimumVersion: "TLS13"))
    #expect(web.users.map(\.name) == ["prometheus", "a.b"])
    #expect(web.users.allSatisfy { $0.passwordHash == Self.hash })
  }

  @Test func emptyAndRelative() throws {
    let empty = try web("").get()
    #expect(empty.tls == nil && empty.users.isEmpty)
    #expect(try web("basic_auth_users: {}\n").get().users.isEmpty)
    #expect(try web("tls_server_config: {cert_file: c, key_file: k}", path: "w.yaml").get().tls?.certificateFile == "c")
  }

  static let refused: [(text: String, message: String)] = [
    (
      "tls_server_config:\n  cert_file: a\n  key_file: b\n  cipher_suites: [x]\n",
      "/w:4: tls_server_config: unsupported key \"cipher_suites\"; there are cert_file, key_file, client_ca_file, client_auth_type, min_version"
    ),
    (
      "http_server_config:\n  http2: true\n",
      "/w:2: unsupported key \"http_server_config.http2\"; there are tls_server_config.{cert_file, key_file, client_ca_file, client_auth_type, "
        + "min_version} and basic_auth_users.NAME"
    ),
    (
      "tls_server_config.cert_file: a\n",
      "/w:1: unsupported key \"tls_server_config.cert_file\"; there are tls_server_config.{cert_file, key_file, client_ca_file, "
        + "client_auth_type, min_version} and basic_auth_users.NAME"
    ),
    ("tls_server_config:\n", "/w:1: tls_server_config: needs keys of its own"),
    ("tls_server_config: {}\n", "/w:1: tls_server_config: needs keys of its own"),
    ("basic_auth_users: [a]\n", "/w:1: basic_auth_users: needs keys of its own"),
    ("tls_server_config: {key_file: b}\n", "/w:1: tls_server_config: cert_file is missing"),
    ("tls_server_config: {cert_file: b}\n", "/w:1: tls_server_config: key_file is missing"),
    ("tls_server_config: {cert_file: }\n", "/w:1: cert_file: \"cert_file\" needs one text as its value"),
    (
      "tls_server_config: {cert_file: a, key_file: b, min_version: TLS10}\n", "/w:1: min_version: \"TLS10\" is not one of TLS12, TLS13"
    ),
    (
      "tls_server_config: {cert_file: a, key_file: b, client_auth_type: RequireAndVerifyClientCert}\n",
      "/w:1: tls_server_config: client_auth_type RequireAndVerifyClientCert needs client_ca_file"
    ),
    (
      "tls_server_config: {cert_file: a, key_file: b, client_ca_file: c}\n",
      "/w:1: tls_server_config: client_ca_file does nothing without client_auth_type RequireAndVerifyClientCert"
    ),
    (
      "basic_auth_users: {a: secret}\n",
      "/w:1: basic_auth_users: the password of \"a\" is not a bcrypt hash of cost 4 to 14; make one with: htpasswd -nBC 10 NAME"
    ),
    (
      "basic_auth_users: {\"a:b\": x}\n", "/w:1: basic_auth_users: \"a:b\" is not a user name: no colon and no control characters (RFC 7617 2)"
    ),
    ("basic_auth_users: {a: x, a: y}\n", "/w:1: \"a\" is given twice, first on line 1"),
  ]

  @Test(arguments: refused)
  func refuses(_ row: (text: String, message: String)) {
    guard case .failure(let error) = web(row.text, path: "/w") else {
      Issue.record("taken: \(row.text)")
      return
    }
    #expect(error.description == row.message)
  }

  @Test func bcryptForms() {
    #expect(WebConfiguration.isBcrypt(Self.hash))
    let altered = [Self.hash + "a", "$2x" + Self.hash.dropFirst(3), Self.hash.dropLast() + "!", "$2y$15" + Self.hash.dropFirst(6)]
    for wrong in ["", "$2y$10$short"] + altered {
      #expect(!WebConfiguration.isBcrypt(String(wrong)), "\(wrong)")
    }
  }

  /// Names go to nobody who was not named.
  @Test func anAPIAddressThatOthersReachNeedsUsers() throws {
    for (address, isLoopback) in [
      ("127.0.0.1", true), ("127.9.9.9", true), ("[::1]", true), ("0.0.0.0", false), ("[::]", false), ("10.0.0.1", false),
    ] {
      let file = try TemporaryFile("web.api-address: \"\(address):10554\"\n")
      #expect((CheckConfigCommand.run(arguments: [file.path]) == 0) == isLoopback, "\(address)")
      let web = try TemporaryFile("basic_auth_users: {ann: '\(Self.hash)'}\n")
      try file.write("web.api-address: \"\(address):10554\"\nweb.config.file: \(web.path)\n")
      #expect(CheckConfigCommand.run(arguments: [file.path]) == 0, "\(address) with users")
    }
  }

  @Test func checkConfigFollowsTheFilesNamed() throws {
    let certificate = try TemporaryFile("c")
    let web = try TemporaryFile("tls_server_config: {cert_file: \(certificate.path), key_file: \(certificate.path)}\n")
    let file = try TemporaryFile("web.config.file: \(web.path)\ndns.port: [53, 5353]\n")
    #expect(
      try CheckConfigCommand.report(path: file.path)
        == "\(file.path): valid\n  web.config.file: \(web.path)\n  dns.port: 53, 5353\n"
        + "\(web.path): valid: TLS, client certificates NoClientCert, 0 users\n")
    #expect(CheckConfigCommand.run(arguments: [file.path]) == 0)
    try web.write("tls_server_config: {cert_file: /nonexistent, key_file: /nonexistent}\n")
    #expect(throws: ConfigurationError(place: web.path, problem: "/nonexistent: cannot open: No such file or directory")) {
      try CheckConfigCommand.report(path: file.path)
    }
    #expect(CheckConfigCommand.run(arguments: [file.path]) == 2)
  }
}
