import Foundation
import Testing

@testable import LinuxIO

/// A CA, a server's and a client's certificate, made by openssl in a directory of their own.
private struct TestCertificates: ~Copyable {
  let directory: String

  init() throws {
    directory = NSTemporaryDirectory() + "racetrack-http-\(getpid())-\(UInt32.random(in: 0 ... .max))"
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    try make("ca", ["-x509"])
    try make("server", ["-x509", "-CA", path("ca.pem"), "-CAkey", path("ca.key"), "-addext", "subjectAltName=IP:127.0.0.1"])
    try make("client", ["-x509", "-CA", path("ca.pem"), "-CAkey", path("ca.key"), "-addext", "extendedKeyUsage=clientAuth"])
    try make("stranger", ["-x509"])
  }

  deinit { try? FileManager.default.removeItem(atPath: directory) }

  private func make(_ name: String, _ arguments: [String]) throws {
    let result = try HTTPTest.run(
      "/usr/bin/openssl",
      [
        "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=\(name)", "-keyout", path("\(name).key"),
        "-out", path("\(name).pem"),
      ] + arguments)
    try #require(result.status == 0, "\(result.output)")
  }

  func path(_ name: String) -> String { directory + "/" + name }
  func text(_ name: String) throws -> String { try String(contentsOfFile: path(name), encoding: .utf8) }
}

@Suite(
  .enabled(
    if: FileManager.default.isExecutableFile(atPath: "/usr/bin/openssl") && FileManager.default.isExecutableFile(atPath: "/usr/bin/curl"),
    "needs /usr/bin/openssl and /usr/bin/curl"))
struct HTTPSecurityTests {
  /// Of "test", cost 12.
  static let user = HTTPSecurity.User(name: "admin", hash: "$2b$12$hNf2lSsxfm0.i4a.1kVpSOVyBCfIB51VRjgBUyv6kdnyTlgWj81Ay")

  private func curl(_ arguments: [String]) throws -> (status: Int32, output: String) {
    try HTTPTest.run("/usr/bin/curl", ["-sS", "--max-time", "10", "-w", " %{http_code}"] + arguments)
  }

  @Test func tlsServesAndKeepsItsMinimum() throws {
    let certificates = try TestCertificates()
    for minimum in [HTTPSecurity.TLS.Version.tls12, .tls13] {
      let tls = HTTPSecurity.TLS(certificate: try certificates.text("server.pem"), key: try certificates.text("server.key"), minimum: minimum)
      let server = try HTTPTest.server(security: HTTPSecurity(tls: tls))
      let page = String(repeating: "a", count: 300_000)
      server.publish("/metrics", page)
      let url = "https://127.0.0.1:\(server.port)/metrics"
      #expect(try curl(["--cacert", certificates.path("ca.pem"), url]).output == page + " 200")
      let old = try curl(["-k", "--tls-max", "1.2", url])
      #expect((old.status == 0) == (minimum == .tls12))
      // Plain HTTP on a TLS port, a reset in the handshake: nothing falls over.
      #expect(HTTPTest.get(server.port, "/metrics") == nil)
      for _ in 0..<20 { HTTPTestClient(port: server.port)?.reset() }
      #expect(try curl(["-k", url]).status == 0)
    }
  }

  @Test func clientCertificatesAreVerified() throws {
    let certificates = try TestCertificates()
    let tls = HTTPSecurity.TLS(
      certificate: try certificates.text("server.pem"), key: try certificates.text("server.key"), clientCA: try certificates.text("ca.pem"),
      clientAuthentication: .requireAndVerify)
    let server = try HTTPTest.server(security: HTTPSecurity(tls: tls))
    server.publish("/metrics", "up 1\n")
    let url = "https://127.0.0.1:\(server.port)/metrics"
    for version in ["1.2", "1.3"] {
      let with = ["-k", "--tls-max", version]
      #expect(try curl(with + [url]).status != 0, "no certificate, TLS \(version)")
      let stranger = ["--cert", certificates.path("stranger.pem"), "--key", certificates.path("stranger.key")]
      #expect(try curl(with + stranger + [url]).status != 0, "a stranger's, TLS \(version)")
      let client = ["--cert", certificates.path("client.pem"), "--key", certificates.path("client.key")]
      #expect(try curl(with + client + [url]).output == "up 1\n 200", "TLS \(version)")
    }
  }

  @Test func certificatesThatDoNotFitAreNamed() throws {
    let certificates = try TestCertificates()
    let other = HTTPSecurity.TLS(certificate: try certificates.text("server.pem"), key: try certificates.text("client.key"))
    #expect(throws: SetupError.self) { _ = try HTTPTest.server(security: HTTPSecurity(tls: other)).port }
    do {
      _ = try HTTPTest.server(security: HTTPSecurity(tls: HTTPSecurity.TLS(certificate: "x", key: "y")))
      Issue.record("no certificate was needed")
    } catch let error as SetupError {
      #expect("\(error)".hasPrefix("cannot secure the web pages: certificate and key: "))
    }
  }

  @Test func aNewCertificateTakesOverAndABadOneDoesNot() throws {
    let certificates = try TestCertificates()
    let tls = HTTPSecurity.TLS(certificate: try certificates.text("server.pem"), key: try certificates.text("server.key"))
    let server = try HTTPTest.server()
    server.publish("/metrics", "up 1\n")
    let port = server.port
    #expect(HTTPTest.get(port, "/metrics")?.status == 200)
    #expect(throws: SetupError.self) { try server.reload(HTTPSecurity(tls: HTTPSecurity.TLS(certificate: "x", key: "y"))) }
    #expect(HTTPTest.get(port, "/metrics")?.status == 200)
    try server.reload(HTTPSecurity(tls: tls))
    #expect(try curl(["-k", "--retry", "3", "--retry-all-errors", "https://127.0.0.1:\(port)/metrics"]).output.hasSuffix("up 1\n 200"))
  }

  @Test func basicAuthenticationGuardsEveryPathButTheProbes() throws {
    let server = try HTTPTest.server(security: HTTPSecurity(users: [Self.user]))
    server.publish("/metrics", "up 1\n")
    server.publish("/api/v1/incidents", "[]")
    let port = server.port
    let none = try #require(HTTPTest.get(port, "/metrics"))
    #expect(none.status == 401 && none.headers["www-authenticate"]?.hasPrefix("Basic ") == true)
    #expect(HTTPTest.get(port, "/nothing")?.status == 401)
    #expect(HTTPTest.get(port, "/-/healthy")?.status == 200)
    func header(_ text: String) -> String { "Authorization: Basic " + Data(text.utf8).base64EncodedString() }
    #expect(HTTPTest.get(port, "/metrics", headers: [header("admin:test")])?.status == 200)
    // With users, every listener serves every path.
    #expect(HTTPTest.get(port, "/api/v1/incidents", headers: [header("admin:test")])?.text == "[]")
    #expect(HTTPTest.get(port, "/metrics", headers: [header("admin:wrong")])?.status == 401)
    // The peer just failed: no bcrypt for it now, but the right password is remembered.
    #expect(HTTPTest.get(port, "/metrics", headers: [header("nobody:test")])?.status == 429)
    #expect(HTTPTest.get(port, "/metrics", headers: [header("admin:test")])?.status == 200)
    for bad in ["Basic", "Basic ", "Basic !!!!", "Bearer x", header("admin").replacingOccurrences(of: "Authorization: ", with: ""), "Basic YQBi"] {
      #expect(HTTPTest.get(port, "/metrics", headers: ["Authorization: " + bad])?.status == 401, "\(bad)")
    }
  }

  @Test func wrongPasswordsDoNotHoldUpScrapes() throws {
    let server = try HTTPTest.server(security: HTTPSecurity(users: [Self.user]))
    server.publish("/metrics", "up 1\n")
    let good = "Authorization: Basic " + Data("admin:test".utf8).base64EncodedString()
    #expect(HTTPTest.get(server.port, "/metrics", headers: [good])?.status == 200)
    var statuses: [Int: Int] = [:]
    let began = HTTPTest.milliseconds()
    for index in 0..<100 {
      let client = try #require(HTTPTestClient(port: server.port, from: 0x7F00_0100 + UInt32(index)))
      let bad = "Authorization: Basic " + Data("admin:\(index)".utf8).base64EncodedString()
      statuses[client.request("/metrics", headers: [bad])?.status ?? 0, default: 0] += 1
    }
    print("100 wrong passwords from 100 addresses: \(statuses), \(HTTPTest.milliseconds() - began) ms")
    #expect((statuses[401] ?? 0) + (statuses[429] ?? 0) == 100 && (statuses[429] ?? 0) >= 80)
    #expect(HTTPTest.get(server.port, "/metrics", headers: [good])?.status == 200)
  }

  @Test(arguments: ["", "$1$abc$def", "$2b$12$short", "$2b$31$hNf2lSsxfm0.i4a.1kVpSOVyBCfIB51VRjgBUyv6kdnyTlgWj81Ay"])
  func hashesThatCannotServeAreRefused(hash: String) {
    #expect(throws: SetupError.self) { try HTTPSecurity(users: [HTTPSecurity.User(name: "a", hash: hash)]).check() }
  }
}
