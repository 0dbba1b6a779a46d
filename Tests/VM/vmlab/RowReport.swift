import Foundation
import TestSupport

/// One row of the table.
struct RowReport {
  let fields: [String]
  let isFailure: Bool

  /// A row without a run.
  init(_ race: String, _ mode: ServiceMode, _ probe: String, outcome: String) {
    fields = [race, mode.rawValue, probe, "-", "-", "-", "-", "-", "-", outcome]
    isFailure = !outcome.hasPrefix("skipped: ")
  }

  /// A start, in which nothing is asked.
  init(start: String, attached: String, outcome: String) {
    fields = [start, "-", "auto", attached, "-", "-", "-", "-", "-", outcome]
    isFailure = outcome != "ok" && !outcome.hasPrefix("skipped: ")
  }

  init(_ race: String, _ mode: ServiceMode, _ probe: String, reason: String?, _ outcome: Stage.Outcome) throws {
    let judgements = try Judgement.all(outcome.records)
    let score = Score(outcome.truth, judgements)
    let attached = Self.attached(outcome)
    var requirement = attached == "none" ? Score.Requirement.quiet : .probed
    requirement.confidentVerdicts = Score.Requirement.clashDrops.union(["dnat_clash_dropped"])
    // An emulated processor that is taken away makes an insertion seem late, and then the counters prove less: the floor for real processors is held by
    // KernelTests.
    if attached == "none" { requirement.confidentShare = 0.8 }
    var problems = score.problems(requirement)
    if let page = outcome.metrics {
      problems += page.conservationProblems()
      if Int(page.clientTransmissions) != outcome.truth.sent {
        problems.append("\(page.clientTransmissions) transmissions counted, \(outcome.truth.sent) sent")
      }
      if page.sum("racetrack_dns_fates_total", ["fate": "unknown"]) != 0 { problems.append("unknown outside blindness") }
    }
    if probe != "off" && attached == "none" {
      let reason = outcome.agentLog.split(separator: "\n").last { $0.contains("kernel probe") }
      problems.append("the probe did not attach: \(reason ?? "the log does not say why")")
    }
    if let reason {
      // Of the verdicts that have reasons at all: another verdict is what the score is about.
      let others = outcome.records.filter { $0.event == "dns_query_lost" && $0.reason != nil && $0.reason != reason }
      if let first = others.first { problems.append("\(others.count) losses with another reason than \(reason): \(first.reason ?? "-")") }
    }
    if outcome.agentStatus != 0 { problems.append("the agent ended with \(outcome.agentStatus ?? -1): \(outcome.agentLog.suffix(300))") }
    print("\(race) \(mode.rawValue) \(probe): sent \(outcome.truth.sent), kernel \(outcome.counters)")
    print(score.table)
    if !problems.isEmpty || probe != "off" { print(outcome.agentLog.suffix(3000)) }
    if !problems.isEmpty { print(Self.sayings(outcome)) }
    for line in (score.falseAlarms + score.wrong + score.repeated).prefix(5) { print(Self.evidence(outcome, line)) }
    let grades = ["proven", "observed", "inferred"].compactMap { grade in
      let count = judgements.count { $0.grade == grade }
      return count > 0 ? "\(grade) \(count)" : nil
    }
    let lost = outcome.truth.lost.count
    fields = [
      race, mode.rawValue, probe, attached, "\(outcome.truth.sent)", "\(lost)", Self.share(score.right, lost),
      Self.share(score.right, judgements.count),
      grades.isEmpty ? "-" : grades.joined(separator: ", "),
      problems.isEmpty ? "ok" : problems.joined(separator: "; ").replacingOccurrences(of: "\n", with: " "),
    ]
    isFailure = !problems.isEmpty
  }

  /// What was said, by kind.
  static func sayings(_ outcome: Stage.Outcome) -> String {
    let kinds = Dictionary(grouping: outcome.records.filter { $0.event == "dns_query_lost" }) { record in
      "\(record.verdict ?? "-")/\(record.reason ?? "-")/\(record.grade ?? "-") \((record.evidence ?? []).filter { !$0.contains("+") }.joined(separator: ","))"
    }
    return kinds.map { "  \($0.value.count) x \($0.key)" }.sorted().joined(separator: "\n")
  }

  /// All that was written of a query, and what its client saw, with everything on its socket.
  private static func evidence(_ outcome: Stage.Outcome, _ complaint: String) -> String {
    guard let query = outcome.asked.first(where: { complaint.hasPrefix("\($0.key)") }) else { return complaint }
    let socket = outcome.asked.filter { $0.key.client == query.key.client && $0.key.clientPort == query.key.clientPort }
    let said = outcome.recordText.split(separator: "\n").filter { $0.contains("\"\(query.key.name)\"") }
    return ([complaint] + socket.map { "  asked \($0)" } + said.map { "  said \($0)" }).joined(separator: "\n")
  }

  /// Nothing of nothing is no share.
  private static func share(_ part: Int, _ whole: Int) -> String {
    whole == 0 ? "-" : part == whole ? "100 %" : String(format: "%.1f %%", 100 * Double(part) / Double(whole))
  }

  /// How the probe attached, as the agent's log says; `none` where the source is not up.
  private static func attached(_ outcome: Stage.Outcome) -> String {
    guard let page = outcome.metrics, page.sum("racetrack_source_up", ["source": "kernel_probe"]) == 1 else { return "none" }
    return rung(outcome.agentLog) ?? "attached"
  }

  /// The rung that runs, as the agent's log says; nil where it names none.
  static func rung(_ log: String) -> String? {
    for line in log.split(separator: "\n") where line.contains("kernel probe runs") {
      guard let range = line.range(of: "rung\":\"") ?? line.range(of: "rung=") else { continue }
      return String(line[range.upperBound...].prefix { $0 != "\"" && $0 != " " })
    }
    return nil
  }
}
