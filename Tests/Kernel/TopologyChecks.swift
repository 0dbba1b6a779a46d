import TestSupport
import Testing

/// What every run in a topology must show.
enum TopologyChecks {
  /// Prints what was said of each group and holds it against what had to be said; then the sums.
  ///
  /// - Parameters:
  ///   - sums: what is known to be wrong with them.
  ///   - allowsUnknown: true where time was not seen.
  static func check(_ name: String, _ run: TopologyRun, _ page: MetricsPage, sums knownSums: String? = nil, allowsUnknown: Bool = false) {
    for group in run.groups where group.fate != .answered || !group.said.isEmpty || group.void != nil {
      let answered = group.queries.count { $0.answered != nil }
      print("\(name) \(group.label): asked \(group.queries.count) answered \(answered): \(group.table)")
    }
    print("\(name): \(run.groups.count) groups, \(run.expectedTransmissions) transmissions")
    for group in run.groups {
      if let void = group.void { Issue.record("\(name): void: \(void)") }
      known(group.knownIssue) {
        for problem in group.problems { Issue.record("\(name): \(problem)") }
      }
    }
    for problem in page.conservationProblems() { Issue.record("\(name): \(problem)") }
    known(knownSums) {
      let counted = Int(page.clientTransmissions)
      if counted != run.expectedTransmissions { Issue.record("\(name): \(counted) client transmissions, \(run.expectedTransmissions) were sent") }
      if let first = run.strays.first { Issue.record("\(name): \(run.strays.count) records of queries that nobody sent: \(first)") }
      if !allowsUnknown && page.sum("racetrack_dns_fates_total", ["fate": "unknown"]) != 0 { Issue.record("\(name): unknown without a blind window") }
    }
    #expect(page.sum("racetrack_dns_open") == 0)
  }

  private static func known(_ issue: String?, _ body: () -> Void) {
    if let issue {
      withKnownIssue(Comment(rawValue: issue)) { body() }
    } else {
      body()
    }
  }
}
