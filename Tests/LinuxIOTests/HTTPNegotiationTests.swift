import Testing

@testable import LinuxIO

@Suite struct HTTPNegotiationTests {
  @Test(arguments: [
    // Prometheus 2.42, then 3.x with and without protobuf.
    ("application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", true),
    (
      "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
        + "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1", true
    ),
    (
      "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,"
        + "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1", true
    ),
    ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", false), ("*/*", false), ("", false), ("text/html,application/xhtml+xml,*/*;q=0.8", false),
    ("application/openmetrics-text", true), ("APPLICATION/OpenMetrics-Text ; Version=\"0.0.1\" ; Q=0.5 , text/plain ;q=0.5", true),
    ("application/openmetrics-text;q=0.4,text/plain;q=0.5", false), ("application/openmetrics-text;q=0.4,text/*;q=0.5", false),
    ("application/openmetrics-text;q=0.4,*/*", false), ("application/openmetrics-text;q=0,*/*;q=0.1", false),
    ("application/openmetrics-text;version=2.0.0", false), ("application/openmetrics-text;q=1.001", false),
    ("application/openmetrics-text;q=9", false), ("application/openmetrics-text;q=", false), ("application/openmetrics-text;q", true),
    (",,;;=,;q=,\"", false), ("application/openmetrics-text;version=\"", false), ("application/openmetrics-textx", false),
  ])
  func choosesByAcceptHeader(accept: String, openMetrics: Bool) {
    let bytes = Array(accept.utf8)
    #expect(HTTPNegotiation.prefersOpenMetrics(bytes.span) == openMetrics)
  }

  @Test func anyBytesAreSafe() {
    var generator = SystemRandomNumberGenerator()
    let alphabet = Array("aq=;,\"/* .019\u{0}".utf8) + Array("application/openmetrics-text".utf8) + [0xFF]
    for _ in 0..<20_000 {
      let bytes = (0..<Int.random(in: 0..<60, using: &generator)).map { _ in alphabet.randomElement(using: &generator)! }
      _ = HTTPNegotiation.prefersOpenMetrics(bytes.span)
    }
  }
}

@Suite struct HTTPListenAddressTests {
  @Test(arguments: [
    ("127.0.0.1:10553", "127.0.0.1:10553"), ("[::1]:0", "[::1]:0"), (":10553", "[::]:10553"), ("[::]:65535", "[::]:65535"),
    ("0.0.0.0:1", "0.0.0.0:1"),
  ])
  func reads(text: String, shown: String) throws {
    #expect(try HTTPListenAddress(parsing: text).description == shown)
  }

  @Test(arguments: [
    "", "10553", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:+1", "::1:80", "[::1]", "[]:80", "[127.0.0.1]:80",
    "node:80",
    "127.0.0:80", "[::1:80",
  ])
  func refuses(text: String) {
    #expect(throws: HTTPListenAddressError.self) { try HTTPListenAddress(parsing: text) }
  }

  @Test func saysWhatIsWrong() {
    #expect(throws: HTTPListenAddressError(text: "::1:80", reason: "an IPv6 address needs brackets, as in [::1]:10553")) {
      try HTTPListenAddress(parsing: "::1:80")
    }
  }
}
