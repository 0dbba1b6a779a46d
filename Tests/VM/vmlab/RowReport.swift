import Foundation
import TestSupport

/// One row of the table.
struct RowReport {
  let fields: [String]
  let isFailure: Bool

  /// A row without a run.
  init(_ race: Race, _ mode: ServiceMode, _ probe: String, outcome: String) {
    fields = [race.rawValue, mode.rawValue, probe, "-", "-", "-", "-", "-", "-", outcome]
    isFailure = !outcome.hasPrefix("skipped: ")
  }

  init(_ race: Race, _ mode: ServiceMode, _ probe: String, _ kernel: Kernel, _ outcome: Stage.Outcome) throws {
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
    if outcome.agentStatus != 0 { problems.append("the agent ended with \(outcome.agentStatus ?? -1): \(outcome.agentLog.suffix(300))") }
    print("\(race.rawValue) \(mode.rawValue) \(probe): sent \(outcome.truth.sent), kernel \(outcome.counters)")
    print(score.table)
    if !problems.isEmpty || probe != "off" { print(outcome.agentLog.suffix(3000)) }
    if !problems.isEmpty { print(Self.sayings(outcome)) }
    let grades = ["proven", "observed", "inferred"].compactMap { grade in
      let count = judgements.count { $0.grade == grade }
      return count > 0 ? "\(grade) \(count)" : nil
    }
    let lost = outcome.truth.lost.count
    fields = [
      race.rawValue, mode.rawValue, probe, attached, "\(outcome.truth.sent)", "\(lost)", Self.share(score.right, lost),
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

  /// Nothing of nothing is no share.
  private static func share(_ part: Int, _ whole: Int) -> String {
    whole == 0 ? "-" : part == whole ? "100 %" : String(format: "%.1f %%", 100 * Double(part) / Double(whole))
  }

  /// How the probe attached, as the agent's log says; `none` where the source is not up.
  private static func attached(_ outcome: Stage.Outcome) -> String {
    guard let page = outcome.metrics, page.sum("racetrack_source_up", ["source": "kernel_probe"]) == 1 else { return "none" }
    for line in outcome.agentLog.split(separator: "\n") where line.contains("kernel probe runs") {
      guard let range = line.range(of: "rung\":\"") ?? line.range(of: "rung=") else { continue }
      return String(line[range.upperBound...].prefix { $0 != "\"" && $0 != " " })
    }
    return "attached"
  }
}
