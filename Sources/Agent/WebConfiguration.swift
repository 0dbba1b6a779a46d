/// `--web.config.file`: the subset of Prometheus exporter-toolkit's web configuration that is served here. Unknown keys are refused, so
/// that nobody believes in a protection that is not there.
package struct WebConfiguration: Equatable, Sendable {
  /// `tls_server_config`. Paths are as given, those that are relative taken from the file's directory.
  package struct TLS: Equatable, Sendable {
    package var certificateFile = ""
    package var keyFile = ""
    package var clientCAFile: String?
    /// One of `clientAuthTypes`.
    package var clientAuthType = "NoClientCert"
    /// `TLS12` or `TLS13`.
    package var minimumVersion = "TLS12"
  }

  package struct User: Equatable, Sendable {
    package var name: String
    /// A bcrypt hash in crypt(5) form.
    package var passwordHash: String
  }

  package var tls: TLS?
  /// Empty: no authentication.
  package var users: [User] = []

  /// Not the exporter-toolkit's three between them: they ask for a certificate and let others in as well.
  package static let clientAuthTypes = ["NoClientCert", "RequireAndVerifyClientCert"]
  package static let minimumVersions = ["TLS12", "TLS13"]
  static let maximumUsers = 256
  /// A hash of cost 14 takes about a second to check, each higher cost twice as long.
  static let bcryptCosts = 4...14

  package static func read(path: String) throws(ConfigurationError) -> WebConfiguration {
    let bytes: [UInt8]
    do throws(FileError) {
      bytes = try BoundedFile.read(path, limit: YAMLDocument.maximumBytes)
    } catch {
      throw ConfigurationError(place: shownPath(path), problem: error.problem)
    }
    return try WebConfiguration(bytes: bytes, path: path)
  }

  package init(bytes: [UInt8], path: String) throws(ConfigurationError) {
    let file = shownPath(path)
    let entries: [YAMLEntry]
    do throws(YAMLError) {
      entries = try YAMLDocument.entries(of: bytes)
    } catch {
      throw ConfigurationError(place: "\(file):\(error.line)", problem: error.problem)
    }
    let directory = path.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(path[...$0]) } ?? ""
    var tls = TLS()
    var tlsLine: Int?
    for entry in entries {
      let place = "\(file):\(entry.line)"
      guard let top = entry.path.first, ["tls_server_config", "basic_auth_users"].contains(top) else {
        throw Self.unknownKey(entry, place: place)
      }
      if entry.path.count == 1 {
        // `basic_auth_users: {}` is allowed there and means no users.
        if top == "basic_auth_users" && entry.content == .emptyMapping { continue }
        throw ConfigurationError(place: "\(place): \(top)", problem: "needs keys of its own")
      }
      guard entry.path.count == 2 else { throw Self.unknownKey(entry, place: place) }
      if top == "tls_server_config" {
        if tlsLine == nil { tlsLine = entry.line }
        try tls.set(entry, place: place, directory: directory)
      } else {
        try addUser(entry, place: place)
      }
    }
    if let tlsLine {
      try tls.validate(place: "\(file):\(tlsLine): tls_server_config")
      self.tls = tls
    }
  }

  private mutating func addUser(_ entry: YAMLEntry, place: String) throws(ConfigurationError) {
    let name = entry.path[1]
    let place = "\(place): basic_auth_users"
    guard name.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7F && $0 != UInt8(ascii: ":") }) else {
      throw ConfigurationError(place: place, problem: "\(quoted(name)) is not a user name: no colon and no control characters (RFC 7617 2)")
    }
    let hash = try Self.text(entry, place: place)
    guard Self.isBcrypt(hash) else {
      throw ConfigurationError(
        place: place,
        problem: "the password of \(quoted(name)) is not a bcrypt hash of cost \(Self.bcryptCosts.lowerBound) to \(Self.bcryptCosts.upperBound); "
          + "make one with: htpasswd -nBC 10 NAME")
    }
    guard users.count < Self.maximumUsers else { throw ConfigurationError(place: place, problem: "more than \(Self.maximumUsers) users") }
    users.append(User(name: name, passwordHash: hash))
  }

  /// `$2y$10$` and 53 characters of crypt's base 64: see crypt(5).
  static func isBcrypt(_ text: String) -> Bool {
    let bytes = Array(text.utf8)
    guard bytes.count == 60, bytes[0] == 0x24, bytes[1] == 0x32, [0x61, 0x62, 0x79].contains(bytes[2]), bytes[3] == 0x24, bytes[6] == 0x24 else {
      return false
    }
    guard (0x30...0x39).contains(bytes[4]), (0x30...0x39).contains(bytes[5]) else { return false }
    guard bcryptCosts.contains(Int(bytes[4] - 0x30) * 10 + Int(bytes[5] - 0x30)) else { return false }
    return bytes[7...].allSatisfy { (0x2E...0x39).contains($0) || (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0) }
  }

  private static func unknownKey(_ entry: YAMLEntry, place: String) -> ConfigurationError {
    ConfigurationError(
      place: place,
      problem: "unsupported key \(quoted(entry.path.joined(separator: "."))); there are tls_server_config.{\(TLS.keys.joined(separator: ", "))} "
        + "and basic_auth_users.NAME")
  }

  fileprivate static func text(_ entry: YAMLEntry, place: String) throws(ConfigurationError) -> String {
    guard case .scalar(let scalar) = entry.content, !scalar.isNull, !scalar.text.isEmpty, !scalar.text.utf8.contains(0) else {
      throw ConfigurationError(place: place, problem: "\(quoted(entry.path[1])) needs one text as its value")
    }
    return scalar.text
  }
}

extension WebConfiguration.TLS {
  static let keys = ["cert_file", "key_file", "client_ca_file", "client_auth_type", "min_version"]

  fileprivate mutating func set(_ entry: YAMLEntry, place: String, directory: String) throws(ConfigurationError) {
    let key = entry.path[1]
    guard Self.keys.contains(key) else {
      throw ConfigurationError(
        place: "\(place): tls_server_config", problem: "unsupported key \(quoted(key)); there are \(Self.keys.joined(separator: ", "))")
    }
    let place = "\(place): \(key)"
    let text = try WebConfiguration.text(entry, place: place)
    let file = text.utf8.first == UInt8(ascii: "/") ? text : directory + text
    switch key {
    case "cert_file": certificateFile = file
    case "key_file": keyFile = file
    case "client_ca_file": clientCAFile = file
    case "client_auth_type": clientAuthType = try Self.word(text, among: WebConfiguration.clientAuthTypes, place: place)
    default: minimumVersion = try Self.word(text, among: WebConfiguration.minimumVersions, place: place)
    }
  }

  private static func word(_ text: String, among words: [String], place: String) throws(ConfigurationError) -> String {
    guard words.contains(text) else {
      throw ConfigurationError(place: place, problem: "\(quoted(text)) is not one of \(words.joined(separator: ", "))")
    }
    return text
  }

  fileprivate func validate(place: String) throws(ConfigurationError) {
    if certificateFile.isEmpty { throw ConfigurationError(place: place, problem: "cert_file is missing") }
    if keyFile.isEmpty { throw ConfigurationError(place: place, problem: "key_file is missing") }
    if clientAuthType == "RequireAndVerifyClientCert" && clientCAFile == nil {
      throw ConfigurationError(place: place, problem: "client_auth_type \(clientAuthType) needs client_ca_file")
    }
    if clientCAFile != nil && clientAuthType == "NoClientCert" {
      throw ConfigurationError(place: place, problem: "client_ca_file does nothing without client_auth_type RequireAndVerifyClientCert")
    }
  }
}
