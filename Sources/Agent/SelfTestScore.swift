package import Flows

/// One row of the table: what the agent made of one scenario.
package struct SelfTestRow: Sendable {
  package var truth: SelfTestTruth
  /// Lost queries with exactly one record of the right verdict.
  package var named = 0
  /// Lost queries without one.
  package var missed = 0
  /// Records that are wrong: of an answered query, of a wrong verdict, or a second one.
  package var wrong = 0
  /// Grades of the named (index: `Grade.rawValue`).
  package var grades = [0, 0, 0]
}

/// Compares the truth with what the agent recorded. Records are matched by client, server, ID, type and name; only `dns_query_lost` says that a query was lost.
package struct SelfTestScore: Sendable {
  package private(set) var rows: [SelfTestRow]
  /// Records of queries that nobody sent.
  package private(set) var strangers = 0
  package private(set) var totals: EngineTotals
  /// The first wrong records, for what is printed below the table.
  package private(set) var wrong: [LostQuery] = []
  package var firstFalse: LostQuery? { wrong.first }
  package private(set) var firstMissed: SelfTestQuery?

  private static let wrongKept = 5

  private struct Key: Hashable {
    var client: Endpoint
    var server: Endpoint
    var dnsID: UInt16
    var type: UInt16
    var name: [UInt8]
  }

  private struct Place {
    var row: Int
    var query: Int
    var records = 0
    var right = 0
  }

  package init(truths: [SelfTestTruth], records: [Record], totals: EngineTotals) {
    self.totals = totals
    rows = truths.map { SelfTestRow(truth: $0) }
    var places: [Key: Place] = [:]
    for (row, truth) in truths.enumerated() {
      for (index, query) in truth.queries.enumerated() where query.wasSent {
        let name = SelfTestScore.wireName(truth.scenario, pair: query.pair)
        places[Key(client: query.client, server: query.server, dnsID: query.dnsID, type: query.type, name: name)] = Place(row: row, query: index)
      }
    }
    for case .lost(let record) in records {
      let key = Key(client: record.client, server: record.server, dnsID: record.dnsID, type: record.queryType, name: record.name)
      guard var place = places[key] else {
        strangers += 1
        if wrong.count < Self.wrongKept { wrong.append(record) }
        continue
      }
      let truth = truths[place.row]
      let query = truth.queries[place.query]
      place.records += 1
      if query.isLost && record.verdict == truth.expectedVerdict(of: query) && place.records == 1 {
        place.right = 1
        rows[place.row].named += 1
        rows[place.row].grades[Int(record.grade.rawValue)] += 1
      } else {
        rows[place.row].wrong += 1
        if wrong.count < Self.wrongKept { wrong.append(record) }
      }
      places[key] = place
    }
    var named: [Key: Bool] = [:]
    for (key, place) in places where place.right == 1 { named[key] = true }
    for (row, truth) in truths.enumerated() {
      rows[row].missed = truth.lost - rows[row].named
      guard firstMissed == nil, rows[row].missed > 0 else { continue }
      firstMissed = truth.queries.first { query in
        let name = SelfTestScore.wireName(truth.scenario, pair: query.pair)
        return query.isLost && named[Key(client: query.client, server: query.server, dnsID: query.dnsID, type: query.type, name: name)] == nil
      }
    }
  }

  /// The name of a pair's queries in wire form with its root label (RFC 1035 3.1), as records hold it.
  package static func wireName(_ scenario: SelfTestScenario, pair: Int) -> [UInt8] {
    var wire: [UInt8] = []
    for label in ["\(scenario.label)-\(pair)", "racetrack", "test"] {
      wire.append(UInt8(truncatingIfNeeded: label.utf8.count))
      wire.append(contentsOf: label.utf8)
    }
    wire.append(0)
    return wire
  }

  /// Transmissions that clients sent, by the truth.
  package var sent: Int { rows.reduce(0) { $0 + $1.truth.sent } }

  /// Every client transmission has exactly one fate, and there are as many as were sent.
  package var isConserved: Bool {
    let fates = totals.answered + totals.lost + totals.unknown + totals.evicted + totals.open
    let seen = totals.transmissions[Int(Vantage.client.rawValue)]
    return seen == fates && seen == UInt64(sent)
  }

  package enum Outcome: Equatable, Sendable {
    /// Every loss was named and nothing else was.
    case proved
    /// A loss was missed or misnamed, something else was named, or transmissions are missing from the books.
    case failed
    /// The race or the kernel did not do what the test needs, for this reason.
    case void(String)
  }

  /// - Parameter lossesWanted: what each race has to lose for the result to mean something.
  package func outcome(lossesWanted: Int) -> Outcome {
    for row in rows {
      if let reason = row.truth.contradiction { return .void("\(row.truth.scenario.title): \(reason)") }
      if row.truth.scenario != .ordinary && row.truth.lost < lossesWanted {
        return .void("\(row.truth.scenario.title): only \(row.truth.lost) of \(lossesWanted) queries were lost in \(row.truth.pairs) pairs")
      }
    }
    let isClean = strangers == 0 && rows.allSatisfy { $0.missed == 0 && $0.wrong == 0 }
    return isClean && isConserved ? .proved : .failed
  }
}
