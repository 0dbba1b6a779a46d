import Foundation
import Reporting
import Testing

/// docs/metrics.md against the families that exist.
@Suite struct MetricsReferenceTests {
  private static let text = try! String(contentsOf: Oracle.repository.appendingPathComponent("docs/metrics.md"), encoding: .utf8)

  private static let rows: [String] = text.split(separator: "\n").filter { $0.hasPrefix("| `") }.map { line in
    line.split(separator: "|").prefix(3).map { $0.trimmingCharacters(in: .whitespaces) }.joined(separator: " | ")
  }

  private static func row(_ descriptor: MetricDescriptor) -> String {
    let suffix =
      switch descriptor.type {
      case .counter: "_total"
      case .info: "_info"
      case .gauge, .histogram: ""
      }
    let labels = descriptor.labels.isEmpty ? "–" : descriptor.labels.map { "`\($0)`" }.joined(separator: ", ")
    return "`\(descriptor.name)\(suffix)` | \(descriptor.type) | \(labels)"
  }

  @Test func everyFamilyStandsThereWithItsTypeAndLabelsAndNoOther() {
    #expect(Set(Self.rows) == Set(MetricFamily.allCases.map { Self.row($0.descriptor) }))
    #expect(Self.rows.count == MetricFamily.allCases.count)
  }

  @Test func everyHelpTextStandsThere() {
    for family in MetricFamily.allCases { #expect(Self.text.contains("\(family.descriptor.help)"), "\(family)") }
  }
}
