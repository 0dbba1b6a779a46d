package import Flows

/// The latest incident behind each series that carries exemplars.
package struct IncidentExemplars: Sendable {
  /// Index: `EngineTotals.lostByVerdict`.
  package private(set) var lost: [Exemplar?] = Array(repeating: nil, count: Verdict.allCases.count * Grade.allCases.count)
  /// Index: `DurationHistogram.bucket(of:)`.
  package private(set) var durations: [Exemplar?] = Array(repeating: nil, count: DurationHistogram.bounds.count + 1)

  package init() {}

  /// A lost transmission of a local client. It is dated when its verdict fell, so that the times of one series only rise.
  package mutating func note(_ query: LostQuery) {
    guard query.vantage == .client else { return }
    lost[Int(query.verdict.rawValue) * Grade.allCases.count + Int(query.grade.rawValue)] =
      Exemplar(incidentID: query.incidentID, time: query.observedTime)
  }

  /// A query that was answered late, by the duration that the histogram counted. Where attempts from another port were joined it counted another.
  package mutating func note(_ query: ClosedQuery) {
    guard query.impact == .delayed, query.impactObserved else { return }
    let duration = max(0, query.delay)
    durations[DurationHistogram.bucket(of: duration)] =
      Exemplar(incidentID: query.incidentID, seconds: duration, time: query.observedTime)
  }
}
