import Flows
import Foundation
import Reporting
import Testing

@Suite struct MetricsPageTests {
  @Test func pagesAreTheGoldenOnes() throws {
    let plain = page(fullSnapshot(), .text)
    #expect(try plain == Oracle.golden("metrics.txt", plain))
    let open = page(fullSnapshot(), .openMetrics)
    #expect(try open == Oracle.golden("metrics.openmetrics.txt", open))
    #expect(page(fullSnapshot(), .openMetrics001) == open)
  }

  @Test func theBufferIsReplacedAndItsStorageKept() {
    var bytes = Array("old".utf8)
    bytes.reserveCapacity(1 << 16)
    let capacity = bytes.capacity
    MetricsPage.render(fullSnapshot(), as: .text, into: &bytes)
    #expect(text(bytes) == page(fullSnapshot(), .text))
    #expect(bytes.capacity == capacity)
  }

  @Test func aPageIsMadeQuickly() {
    var bytes: [UInt8] = []
    let snapshot = fullSnapshot()
    MetricsPage.render(snapshot, as: .openMetrics, into: &bytes)
    let elapsed = ContinuousClock().measure { for _ in 0..<50 { MetricsPage.render(snapshot, as: .openMetrics, into: &bytes) } } / 50
    print("metrics page: \(bytes.count) bytes in \(elapsed) (this build)")
    #expect(bytes.count < 64_000)
  }

  @Test(arguments: ExpositionFormat.allCases)
  func everySeriesOnceInOneBlockOfItsFamily(format: ExpositionFormat) {
    var families: [String] = []
    var series: Set<String> = []
    for line in page(fullSnapshot(), format).split(separator: "\n") where line != "# EOF" {
      let words = line.split(separator: " ")
      if line.hasPrefix("# HELP ") {
        families.append(String(words[2]))
      } else if line.hasPrefix("# ") {
        #expect(String(words[2]) == families.last, "\(line)")
      } else {
        let sample = line.split(separator: " # ")[0]
        #expect(series.insert(String(sample.prefix(upTo: sample.lastIndex(of: " ")!))).inserted, "\(line)")
        #expect(line.hasPrefix(families.last ?? "?"), "\(line)")
      }
    }
    #expect(families.count == MetricFamily.allCases.count)
    #expect(Set(families).count == families.count)
  }

  @Test func everyVerdictAndGradeStartsAtZero() {
    let lines = page(MetricsSnapshot(version: "0.1.0"), .text).split(separator: "\n")
    for verdict in Verdict.allCases {
      for grade in Grade.allCases {
        #expect(lines.contains("racetrack_lost_queries_total{verdict=\"\(verdict.name)\",grade=\"\(grade.name)\"} 0"))
      }
    }
  }

  @Test func whatIsNotKnownIsNotShown() {
    let unread = page(MetricsSnapshot(version: "0.1.0"), .text)
    #expect(!unread.contains("racetrack_conntrack_insert_failed") && !unread.contains("racetrack_clashes") && !unread.contains("process_"))
    #expect(!unread.contains("racetrack_conntrack_entries"))
    #expect(unread.contains("racetrack_build_info{version=\"0.1.0\"} 1\n"))
    var old = fullSnapshot()
    old.features = []
    let text = page(old, .text)
    #expect(!text.contains("conntrack_clash_resolve") && !text.contains("chain_too_long") && !text.contains("outcome=\"resolved\""))
    #expect(text.contains("racetrack_clashes_total{outcome=\"dropped\"} 3\n"))
  }

  @Test func histogramIsCumulativeAndSpeltAlikeInBothFormats() {
    let expected = """
      racetrack_dns_query_duration_seconds_bucket{le="0.001"} 1
      racetrack_dns_query_duration_seconds_bucket{le="0.005"} 2
      racetrack_dns_query_duration_seconds_bucket{le="0.02"} 2
      racetrack_dns_query_duration_seconds_bucket{le="0.1"} 2
      racetrack_dns_query_duration_seconds_bucket{le="0.4"} 2
      racetrack_dns_query_duration_seconds_bucket{le="0.75"} 2
      racetrack_dns_query_duration_seconds_bucket{le="1.5"} 2
      racetrack_dns_query_duration_seconds_bucket{le="2.25"} 2
      racetrack_dns_query_duration_seconds_bucket{le="3.0"} 2
      racetrack_dns_query_duration_seconds_bucket{le="4.5"} 2
      racetrack_dns_query_duration_seconds_bucket{le="6.0"} 3
      racetrack_dns_query_duration_seconds_bucket{le="9.0"} 3
      racetrack_dns_query_duration_seconds_bucket{le="16.0"} 3
      racetrack_dns_query_duration_seconds_bucket{le="+Inf"} 4
      racetrack_dns_query_duration_seconds_count 4
      racetrack_dns_query_duration_seconds_sum 35.005217001

      """
    for format in ExpositionFormat.allCases {
      let lines = page(fullSnapshot(), format).split(separator: "\n").map { $0.split(separator: " #")[0] }
      #expect((lines.joined(separator: "\n") + "\n").contains(expected))
    }
  }

  @Test(.enabled(if: Oracle.hasPromtool, "no promtool (Debian package prometheus)"))
  func promtoolFindsNothing() throws {
    for snapshot in [fullSnapshot(), MetricsSnapshot(version: "0.1.0")] {
      let result = try Oracle.run(["promtool", "check", "metrics"], input: Array(page(snapshot, .text).utf8))
      #expect(result.status == 0 && result.output.isEmpty, "\(result.output)")
    }
  }

  @Test(.enabled(if: Oracle.hasOpenMetricsParser, "no Python package prometheus_client (set RACETRACK_PYTHON)"))
  func theStrictParserAcceptsOpenMetrics() throws {
    let script = Oracle.repository.appendingPathComponent("Tests/records/check_page.py").path
    for snapshot in [fullSnapshot(), MetricsSnapshot(version: "0.1.0")] {
      let result = try Oracle.run([Oracle.python, script], input: Array(page(snapshot, .openMetrics).utf8))
      #expect(result.status == 0, "\(result.output)")
    }
    let cut = page(fullSnapshot(), .openMetrics).dropLast(6)
    #expect(try Oracle.run([Oracle.python, script], input: Array(cut.utf8)).status == 1)

    var exemplified = Array(familyPage(.openMetrics).utf8)
    exemplified += Array("# EOF\n".utf8)
    let result = try Oracle.run([Oracle.python, script], input: exemplified)
    #expect(result.status == 0, "\(result.output)")
  }

  /// What a later page writes: labels from outside, and exemplars.
  private func familyPage(_ format: ExpositionFormat) -> String {
    let exemplar = Exemplar(incidentID: 0xAB, time: WallTime(nanoseconds: 1_500_000_000))
    var counter = MetricFamilyWriter(
      MetricDescriptor("x_things", .counter, labels: ["client_namespace", "client_workload"], help: "A \"quoted\" \\ help."), format)
    counter.sample([.text("a\"\\\nb"), .text("é")], 2, exemplar: exemplar)
    counter.sample(["", "only"], 0)
    var histogram = MetricFamilyWriter(MetricDescriptor("x_seconds", .histogram, unit: "seconds", labels: ["kind"], help: "H."), format)
    var durations = DurationHistogram()
    durations.observe(nanoseconds: 5_000_000_000)
    var exemplars: [Exemplar?] = Array(repeating: nil, count: 14)
    exemplars[10] = Exemplar(incidentID: 1, seconds: 5_000_000_000, time: WallTime(nanoseconds: 2_000_000_000))
    histogram.sample(["k"], durations, exemplars: exemplars)
    return text(counter.end() + histogram.end())
  }

  @Test func escapesAndExemplars() {
    let open = familyPage(.openMetrics)
    #expect(
      open.hasPrefix(
        #"""
        # HELP x_things A \"quoted\" \\ help.
        # TYPE x_things counter
        x_things_total{client_namespace="a\"\\\nb",client_workload="é"} 2 # {incident_id="00000000000000ab"} 1 1.5
        x_things_total{client_workload="only"} 0

        """#))
    #expect(open.contains(#"x_seconds_bucket{kind="k",le="6.0"} 1 # {incident_id="0000000000000001"} 5 2"# + "\n"))
    #expect(open.filter { $0 == "#" }.count == 7)
    let plain = familyPage(.text)
    #expect(plain.hasPrefix("# HELP x_things_total A \"quoted\" \\\\ help.\n# TYPE x_things_total counter\n"))
    #expect(!plain.contains("incident_id") && !plain.contains("UNIT"))
  }
}

@Suite struct DurationHistogramTests {
  @Test func boundsAreInclusiveAndTheSumSaturates() {
    var histogram = DurationHistogram()
    histogram.observe(nanoseconds: -5)
    histogram.observe(nanoseconds: 16_000_000_000)
    histogram.observe(nanoseconds: 16_000_000_001)
    histogram.observe(nanoseconds: .max)
    #expect(histogram.counts[0] == 1 && histogram.counts[12] == 1 && histogram.counts[13] == 2)
    #expect(histogram.sum == .max)
  }
}
