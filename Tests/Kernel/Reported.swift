import TestSupport
import Testing

/// What every run with the agent must show, whatever it did.
enum Reported {
  /// Prints the run's table and checks its score, its sums and the agent's end.
  static func check(_ name: String, _ outcome: Stage.Outcome, _ requirement: Score.Requirement) throws {
    let score = Score(outcome.truth, try Judgement.all(outcome.records))
    print("\(name): sent \(outcome.truth.sent), kernel \(outcome.counters), noise lost \(outcome.noiseLost), events \(events(outcome.records))")
    print(score.table)
    for problem in score.problems(requirement) { Issue.record("\(name): \(problem)") }
    try checkSums(name, outcome)
    #expect(outcome.agentStatus == 0, "\(name): \(outcome.agentLog.suffix(1000))")
    #expect(outcome.records.contains { $0.event == "agent_stopped" })
    if let problem = outcome.recordProblem { Issue.record("\(name): records: \(problem)") }
  }

  /// Transmissions = fates + open at the end, each query counted once, each loss as one record.
  static func checkSums(_ name: String, _ outcome: Stage.Outcome) throws {
    let page = try #require(outcome.metrics, "no agent ran")
    for problem in page.conservationProblems() { Issue.record("\(name): \(problem)") }
    #expect(page.clientTransmissions == Double(outcome.truth.sent))
    #expect(page.sum("racetrack_dns_open") == 0)
    #expect(page.sum("racetrack_dns_fates_total", ["fate": "answered"]) == Double(outcome.truth.answered.count))
    #expect(page.sum("racetrack_dns_fates_total", ["fate": "lost"]) == Double(outcome.truth.lost.count))
    #expect(page.sum("racetrack_dns_fates_total", ["fate": "unknown"]) == 0)
    #expect(page.sum("racetrack_conntrack_insert_failed_total") == Double(outcome.counters.insertFailed))
    #expect(page.sum("racetrack_conntrack_drop_total") == Double(outcome.counters.drop))
  }

  private static func events(_ records: [AgentRecord]) -> String {
    Dictionary(grouping: records, by: \.event).mapValues(\.count).sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
  }
}
