internal import Flows

/// The table that `racetrack selftest` ends with. Makes text only.
package enum SelfTestTable {
  static let heading = [
    "race", "pairs", "lost", "named", "missed", "false", "proven", "observed", "inferred", "insert_failed", "drop", "clash_resolve", "seconds",
  ]

  /// Heading, one line a scenario, and the books, each ending in a newline. The first column is flush left, numbers flush right.
  package static func render(_ score: SelfTestScore) -> String {
    let lines = [heading] + score.rows.map(cells)
    let widths = heading.indices.map { column in lines.map { $0[column].utf8.count }.max() ?? 0 }
    var text = ""
    for line in lines {
      for (column, cell) in line.enumerated() {
        let space = String(repeating: " ", count: widths[column] - cell.utf8.count)
        text += column == 0 ? cell + space : "  " + space + cell
      }
      text += "\n"
    }
    let totals = score.totals
    text +=
      "\nqueries sent \(score.sent), seen \(totals.transmissions[Int(Vantage.client.rawValue)]) = answered \(totals.answered) + lost \(totals.lost)"
    text += " + unknown \(totals.unknown) + evicted \(totals.evicted) + open \(totals.open)\n"
    return text
  }

  private static func cells(_ row: SelfTestRow) -> [String] {
    let counters = row.truth.counters
    let isRaced = row.truth.scenario != .ordinary
    func grade(_ grade: Grade) -> String { isRaced ? "\(row.grades[Int(grade.rawValue)])" : "-" }
    return [
      row.truth.scenario.title, "\(row.truth.pairs)", "\(row.truth.lost)", "\(row.named)", "\(row.missed)", "\(row.wrong)",
      grade(.proven), grade(.observed), grade(.inferred),
      "\(counters.insertFailed)", "\(counters.drop)", counters.clashResolve.map { "\($0)" } ?? "-", tenths(row.truth.seconds),
    ]
  }

  /// Seconds with one decimal, rounded.
  package static func tenths(_ seconds: Double) -> String {
    let tenths = Int((seconds * 10).rounded())
    return "\(tenths / 10).\(tenths % 10)"
  }

  /// What the outcome means, in one line without its newline, with the first thing that is wrong.
  package static func conclusion(_ score: SelfTestScore, _ outcome: SelfTestScore.Outcome) -> String {
    switch outcome {
    case .proved:
      let lost = score.rows.reduce(0) { $0 + $1.truth.lost }
      return "PROVED: all \(lost) lost queries were named with their cause, and nothing else was."
    case .void(let reason):
      return "CANNOT TELL: this run is void: \(reason)."
    case .failed:
      var text = "FAILED: "
      if let query = score.firstMissed {
        text += "not named: ID \(query.dnsID), \(QueryType.name(query.type)), \(query.client) to \(query.server). "
      }
      if let record = score.firstFalse {
        text +=
          "wrongly named \(record.verdict.name): ID \(record.dnsID), \(QueryType.name(record.queryType)), \(record.client) to \(record.server). "
      }
      if !score.isConserved { text += "The fates do not add up to the transmissions." }
      return text
    }
  }
}
