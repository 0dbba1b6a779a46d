import Reporting
import Testing

@Suite struct ExpositionFormatTests {
  @Test(arguments: [
    // Prometheus 2.42, as it was recorded.
    (
      "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
      ExpositionFormat.openMetrics
    ),
    // Prometheus 2.3x.
    ("application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", .openMetrics001),
    // Prometheus 3.x.
    (
      """
      application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,\
      text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2
      """, .openMetrics
    ),
    // With native histograms it asks for protobuf first.
    (
      """
      application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
      application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2
      """, .openMetrics
    ),
    // scrape_protocols: [PrometheusText0.0.4]
    ("text/plain;version=0.0.4;q=0.6,*/*;q=0.5", .text),
    ("", .text), ("*/*", .text), ("text/html,application/xhtml+xml,*/*;q=0.8", .text), ("image/png", .text),
    ("text/plain;q=0.4,application/openmetrics-text;q=0.5", .openMetrics), ("text/plain;q=0.5,application/openmetrics-text;q=0.4", .text),
    ("application/openmetrics-text,text/plain", .openMetrics), ("text/plain,application/openmetrics-text", .text),
    ("*/*,application/openmetrics-text", .openMetrics), ("application/openmetrics-text;q=0", .text),
    ("application/openmetrics-text;version=2.0.0,text/plain;q=0.1", .text), ("application/openmetrics-text;version=\"1.0.0\"", .openMetrics),
    (" Application/OpenMetrics-Text ; Version=1.0.0 ; Q=0.9 , text/plain;q=0.8", .openMetrics),
    ("application/openmetrics-text;q=x,text/plain;q=0.1", .text), ("application/openmetrics-text;q=1.001", .text),
    (",,;;=,;q=,application/openmetrics-text", .openMetrics), ("application/openmetrics-text;q=0.0001", .text),
  ])
  func chosen(accept: String, expected: ExpositionFormat) {
    #expect(ExpositionFormat.negotiate(accept: Array(accept.utf8)) == expected)
  }

  @Test func anyBytesAreAnswered() {
    #expect(ExpositionFormat.negotiate(accept: Array(repeating: UInt8(ascii: ","), count: 100_000)) == .text)
    #expect(ExpositionFormat.negotiate(accept: (0...255).map { $0 }) == .text)
    var generator = SystemRandomNumberGenerator()
    let alphabet = Array("application/openmetrics-text;version=1.0.0,text/plain;q=0.5,*/*\" \t\0\u{FF}".utf8)
    for _ in 0..<2_000 {
      let header = (0..<40).map { _ in alphabet.randomElement(using: &generator) ?? 0 }
      _ = ExpositionFormat.negotiate(accept: header)
    }
  }

  @Test func contentTypes() {
    #expect("\(ExpositionFormat.text.contentType)" == "text/plain; version=0.0.4; charset=utf-8")
    #expect("\(ExpositionFormat.openMetrics.contentType)" == "application/openmetrics-text; version=1.0.0; charset=utf-8")
    #expect("\(ExpositionFormat.openMetrics001.contentType)" == "application/openmetrics-text; version=0.0.1; charset=utf-8")
  }
}
