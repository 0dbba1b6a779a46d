/// A histogram of durations with the buckets that every racetrack histogram has. None lies at 2.5 s or 5 s, where resolvers retry, so that each
/// retry falls inside one bucket.
package struct DurationHistogram: BitwiseCopyable, Sendable {
  /// Upper bounds, inclusive, in nanoseconds; above the last is `+Inf`.
  package static let bounds: InlineArray<13, Int64> = [
    1_000_000, 5_000_000, 20_000_000, 100_000_000, 400_000_000, 750_000_000, 1_500_000_000, 2_250_000_000, 3_000_000_000, 4_500_000_000,
    6_000_000_000, 9_000_000_000, 16_000_000_000,
  ]
  /// `le` as both formats spell it: another spelling would be another series.
  package static let labels: InlineArray<14, StaticString> = [
    "0.001", "0.005", "0.02", "0.1", "0.4", "0.75", "1.5", "2.25", "3.0", "4.5", "6.0", "9.0", "16.0", "+Inf",
  ]

  /// Observations per bucket, not cumulative.
  package var counts: InlineArray<14, UInt64> = .init(repeating: 0)
  /// Nanoseconds.
  package var sum: Int64 = 0

  package init() {}

  /// Negative durations, which only a defect upstream can make, count as 0.
  package mutating func observe(nanoseconds: Int64) {
    let duration = max(0, nanoseconds)
    counts[Self.bucket(of: duration)] &+= 1
    sum = sum.addingReportingOverflow(duration).overflow ? .max : sum + duration
  }

  /// The index of the bucket that counts this duration.
  package static func bucket(of nanoseconds: Int64) -> Int {
    var index = 0
    while index < bounds.count && nanoseconds > bounds[index] { index += 1 }
    return index
  }
}
