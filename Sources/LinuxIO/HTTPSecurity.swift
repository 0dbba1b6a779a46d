internal import CMicroHTTPD

/// Who may read the pages, and how: the part of the exporter-toolkit's web configuration that is kept. Values only; files are read by the caller.
package struct HTTPSecurity: Sendable {
  /// PEM texts, not paths.
  package struct TLS: Sendable {
    package enum Version: String, Sendable {
      case tls12 = "TLS12"
      case tls13 = "TLS13"
    }

    package enum ClientAuthentication: String, Sendable {
      case none = "NoClientCert"
      case requireAndVerify = "RequireAndVerifyClientCert"
    }

    package let certificate: String
    package let key: String
    /// Needed by, and only used with, `requireAndVerify`.
    package let clientCA: String?
    package let clientAuthentication: ClientAuthentication
    package let minimum: Version

    package init(
      certificate: String, key: String, clientCA: String? = nil, clientAuthentication: ClientAuthentication = .none, minimum: Version = .tls12
    ) {
      self.certificate = certificate
      self.key = key
      self.clientCA = clientCA
      self.clientAuthentication = clientAuthentication
      self.minimum = minimum
    }
  }

  /// A name and the bcrypt hash (`$2y$`, `$2b$`) of a password.
  package struct User: Sendable {
    package let name: String
    package let hash: String

    package init(name: String, hash: String) {
      self.name = name
      self.hash = hash
    }
  }

  package let tls: TLS?
  /// With any, every path needs one of them except /-/healthy and /-/ready, and every listener serves every path.
  package let users: [User]

  package init(tls: TLS? = nil, users: [User] = []) {
    self.tls = tls
    self.users = users
  }

  /// Nobody reads a page whom the web configuration does not know.
  package var identifiesClients: Bool { !users.isEmpty || tls?.clientAuthentication == .requireAndVerify }

  package static var open: HTTPSecurity { HTTPSecurity() }

  /// The work factor above which one wrong password would hold up every scrape for seconds.
  static var highestCost: Int { 14 }

  func check() throws(SetupError) {
    if let tls {
      guard tls.clientAuthentication == .none || tls.clientCA != nil else {
        throw Self.error("RequireAndVerifyClientCert without client_ca_file", remedy: "name the CA that signs the clients' certificates")
      }
      guard tls.clientAuthentication != .none || tls.clientCA == nil else {
        throw Self.error("client_ca_file without client_auth_type", remedy: "set client_auth_type: RequireAndVerifyClientCert")
      }
    }
    for user in users {
      guard !user.name.utf8.contains(UInt8(ascii: ":")), !user.name.utf8.contains(0) else {
        throw Self.error("user \"\(user.name)\": a name has no colon and no zero byte (RFC 7617 2)", remedy: "rename the user")
      }
      let cost = user.hash.split(separator: "$", maxSplits: 2).dropFirst().first.flatMap { Int($0) }
      guard let cost, user.hash.hasPrefix("$2"), user.hash.utf8.count == 60 else {
        throw Self.error("user \"\(user.name)\": not a bcrypt hash", remedy: "make one with htpasswd -nBC 10 NAME")
      }
      guard cost <= Self.highestCost else {
        throw Self.error("user \"\(user.name)\": bcrypt cost \(cost) is above \(Self.highestCost)", remedy: "make one with htpasswd -nBC 10 NAME")
      }
    }
  }

  static func error(_ cause: String, code: Int32 = 0, remedy: String = "see the file given with --web.config.file") -> SetupError {
    SetupError("cannot secure the web pages", code: code, cause: cause, remedy: remedy)
  }
}
