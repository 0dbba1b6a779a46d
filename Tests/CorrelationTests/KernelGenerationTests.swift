import Flows
import Testing

@testable import Correlation

/// What each generation of the kernel does to the second of two racing queries, what it counts, and what must be said of it.
///
/// Rows from `__nf_conntrack_confirm`, `nf_ct_resolve_clash` and `nf_ct_resolve_clash_harder` in net/netfilter/nf_conntrack_core.c of Linux 4.14 to 7.2.
@Suite struct KernelGenerationTests {
  /// What the kernel did with the loser.
  enum Fate: Sendable {
    case dropped
    /// It got the winner's entry, and went where that leads.
    case merged
    /// It got the winner's entry after it had been translated for another backend: the answer finds no entry.
    case mergedTooLate
    /// Inserted in the reply direction for one second.
    case resolved
    /// The same, and the answer took longer.
    case resolvedAndLate
  }

  /// Which tuples were equal.
  enum Column: String, Sendable {
    case sameBackend = "(a) same backend"
    case otherBackend = "(b) other backend"
    case untranslated = "(c) no translation"
    case masqueraded = "(d) masqueraded too"
    case otherServer = "reply tuple of another flow"
  }

  struct Row: Sendable, CustomTestStringConvertible {
    var kernel: String
    var column: Column
    var features: ConntrackFeatures
    var insertFailed: UInt64
    var drop: UInt64
    var clashResolve: UInt64
    var fate: Fate
    var verdict: Verdict?
    var grade = Grade.observed
    var testDescription: String { "\(kernel), \(column.rawValue)" }

    init(
      _ kernel: String, _ column: Column, _ features: ConntrackFeatures, _ counted: (UInt64, UInt64, UInt64), _ fate: Fate, _ verdict: Verdict? = nil,
      _ grade: Grade = .observed
    ) {
      self.kernel = kernel
      self.column = column
      self.features = features
      (insertFailed, drop, clashResolve) = counted
      self.fate = fate
      self.verdict = verdict
      self.grade = grade
    }
  }

  static let rows: [Row] = {
    let none: ConntrackFeatures = []
    let resolving: ConntrackFeatures = [.clashResolve]
    let newest: ConntrackFeatures = [.clashResolve, .chainTooLong]
    return [
      // insert_failed alone: from 4.7 on it would be somebody else's resolved clash, so this is never sure.
      Row("4.6", .sameBackend, none, (1, 0, 0), .dropped, .dnatClashDropped, .inferred),
      Row("4.6", .otherBackend, none, (1, 0, 0), .dropped, .dnatClashDropped, .inferred),
      Row("4.6", .untranslated, none, (1, 0, 0), .dropped, .dnatClashDropped, .inferred),
      Row("4.6", .masqueraded, none, (1, 0, 0), .dropped, .dnatClashDropped, .inferred),
      Row("4.6", .otherServer, none, (1, 0, 0), .dropped, .replyClashDropped, .inferred),
      Row("4.7", .sameBackend, none, (1, 0, 0), .merged),
      Row("4.7", .otherBackend, none, (1, 0, 0), .mergedTooLate, .answerUntranslated, .inferred),
      Row("4.7", .untranslated, none, (1, 0, 0), .merged),
      Row("4.8-4.18", .sameBackend, none, (1, 1, 0), .dropped, .dnatClashDropped),
      Row("4.8-4.18", .otherBackend, none, (1, 1, 0), .dropped, .dnatClashDropped),
      Row("4.8-4.18", .untranslated, none, (1, 0, 0), .merged),
      Row("4.8-4.18", .untranslated, none, (1, 1, 0), .dropped, .dnatClashDropped),
      Row("4.8-4.18", .masqueraded, none, (1, 1, 0), .dropped, .dnatClashDropped),
      Row("4.8-4.18", .otherServer, none, (1, 1, 0), .dropped, .replyClashDropped),
      Row("4.19", .sameBackend, none, (1, 0, 0), .merged),
      Row("4.19", .sameBackend, none, (1, 1, 0), .dropped, .dnatClashDropped),
      Row("4.19", .otherBackend, none, (1, 1, 0), .dropped, .dnatClashDropped),
      Row("4.19", .masqueraded, none, (1, 1, 0), .dropped, .dnatClashDropped),
      Row("5.0-5.5", .sameBackend, none, (1, 0, 0), .merged),
      Row("5.0-5.5", .otherBackend, none, (1, 1, 0), .dropped, .dnatClashDropped),
      Row("5.0-5.5", .masqueraded, none, (1, 0, 0), .merged),
      Row("5.0-5.5, --random-fully", .masqueraded, none, (1, 1, 0), .dropped, .dnatClashDropped),
      Row("5.0-5.5", .otherServer, none, (1, 1, 0), .dropped, .replyClashDropped),
      Row("5.6-5.9", .sameBackend, none, (1, 0, 0), .merged),
      Row("5.6-5.9", .otherBackend, none, (0, 0, 0), .resolved),
      Row("5.6-5.9", .otherBackend, none, (0, 0, 0), .resolvedAndLate, .clashLateReply),
      Row("5.6-5.9", .otherServer, none, (1, 1, 0), .dropped, .replyClashDropped),
      Row("5.10-5.14", .sameBackend, resolving, (0, 0, 1), .merged),
      Row("5.10-5.14", .otherBackend, resolving, (0, 0, 1), .resolved),
      Row("5.10-5.14", .otherBackend, resolving, (0, 0, 1), .resolvedAndLate, .clashLateReply),
      Row("5.10-5.14", .masqueraded, resolving, (0, 0, 1), .resolved),
      Row("5.10-5.14", .otherServer, resolving, (1, 1, 0), .dropped, .replyClashDropped),
      Row("5.15-7.2", .sameBackend, newest, (0, 0, 1), .merged),
      Row("5.15-7.2", .otherBackend, newest, (0, 0, 1), .resolved),
      Row("5.15-7.2", .otherBackend, newest, (0, 0, 1), .resolvedAndLate, .clashLateReply),
      Row("5.15-7.2", .untranslated, newest, (0, 0, 1), .merged),
      Row("5.15-7.2", .masqueraded, newest, (0, 0, 1), .resolved),
      Row("5.15-7.2", .otherServer, newest, (1, 1, 0), .dropped, .replyClashDropped),
    ]
  }()

  /// The pair of a row in a node that has seen both servers and, if it is one, the way with masquerading.
  private func race(_ row: Row, _ scenario: Scenario) -> (winner: Ask, loser: Ask) {
    let plain = endpoint("10.1.1.2")
    let server = row.column == .untranslated ? plain : scenario.vip
    var winner = Ask(scenario, port: 40000, to: server, id: 7, type: QueryType.a)
    var loser = Ask(
      scenario, port: 40000, to: row.column == .otherServer ? scenario.secondVIP : server,
      backend: row.column == .otherBackend || row.fate == .resolved ? scenario.secondBackend : scenario.backend, id: 8, type: QueryType.aaaa)
    if row.column == .masqueraded {
      winner.natted = Endpoint(scenario.nodeAddress, 40000)
      loser.natted = Endpoint(scenario.nodeAddress, row.kernel.contains("random") ? 61234 : 40000)
    }
    return (winner, loser)
  }

  private func run(_ row: Row, others: (Scenario) -> Void = { _ in }) -> Scenario {
    let scenario = Scenario()
    scenario.features = row.features
    scenario.warmUp()
    Ask(scenario, port: 30000, backend: scenario.secondBackend, id: 1).answered()
    Ask(scenario, port: 30001, to: endpoint("10.1.1.2"), id: 2).answered()
    if row.column == .masqueraded {
      for (index, backend) in [scenario.backend, scenario.secondBackend].enumerated() {
        var ask = Ask(scenario, port: UInt16(31000 + index), backend: backend, id: 3)
        ask.natted = Endpoint(scenario.nodeAddress, ask.client.port)
        ask.answered()
      }
    }
    scenario.wait(2 * second)
    let (winner, loser) = race(row, scenario)
    winner.entry()
    winner.asked()
    loser.asked()
    scenario.pass(5 * microsecond)
    winner.sent()
    if row.fate != .dropped { loser.sent() }
    scenario.counters.insertFailed += row.insertFailed
    scenario.counters.drop += row.drop
    scenario.counters.clashResolve += row.clashResolve
    others(scenario)
    winner.came()
    winner.delivered()
    let clash = ((loser.client, loser.server), (loser.backend, loser.sentFrom))
    switch row.fate {
    case .dropped: break
    case .merged:
      loser.came()
      loser.delivered()
    case .mergedTooLate:
      scenario.new((loser.backend, loser.client), reply: (loser.client, loser.backend))
      loser.came()
      loser.untranslated()
    case .resolved:
      scenario.new(clash.0, reply: clash.1, kind: .update, status: [.natClash, .seenReply, .confirmed])
      loser.came()
      loser.delivered()
    case .resolvedAndLate:
      scenario.wait(1500 * millisecond)
      scenario.new(clash.0, reply: clash.1, kind: .destroy, status: [.natClash, .confirmed])
      scenario.new((loser.backend, loser.client), reply: (loser.client, loser.backend))
      loser.came()
      loser.untranslated()
    }
    scenario.wait(30 * second)
    return scenario
  }

  @Test(arguments: rows) func eachRowAndColumn(row: Row) {
    let scenario = run(row)
    #expect(scenario.losses.map(\.verdict) == (row.verdict.map { [$0] } ?? []))
    if let verdict = row.verdict { #expect(scenario.losses.map(\.grade) == [row.grade] && scenario.losses.first?.dnsID == 8, "\(verdict)") }
    #expect(scenario.engine.totals.clashesResolvedNamed == (row.fate == .resolved ? 1 : 0))
    #expect(scenario.isConserved)
  }

  /// Where insert_failed also counts what was resolved, that of others does not cloud a drop.
  @Test(arguments: rows.filter { $0.features.isEmpty && $0.fate == .dropped && $0.drop > 0 })
  func resolvedClashesOfOthersAreNoFailures(row: Row) {
    let scenario = run(row) { $0.counters.insertFailed += 3 }
    #expect(scenario.losses.map(\.verdict) == [row.verdict] && scenario.losses.map(\.grade) == [.observed])
  }

  /// Where they are counted apart, they do not either; a failure of others does.
  @Test(arguments: rows.filter { $0.features.contains(.clashResolve) && $0.fate == .dropped })
  func failuresOfOthersCloudADrop(row: Row) {
    let clean = run(row) { $0.counters.clashResolve += 3 }
    #expect(clean.losses.map(\.verdict) == [row.verdict] && clean.losses.map(\.grade) == [.observed])
    let clouded = run(row) {
      $0.counters.insertFailed += 1
      $0.counters.drop += 1
    }
    #expect(clouded.losses.map(\.grade) == [.inferred])
  }

  /// A rule that drops the second query leaves every counter alone, whatever the kernel.
  @Test(arguments: [[], [.clashResolve], [.clashResolve, .chainTooLong]] as [ConntrackFeatures])
  func aPolicyIsNoRaceOnAnyKernel(features: ConntrackFeatures) {
    for column in [Column.sameBackend, .otherServer, .untranslated] {
      let scenario = run(Row("any", column, features, (0, 0, 0), .dropped))
      #expect(scenario.losses.map(\.verdict) == [.droppedOnNode] && scenario.losses.map(\.reason) == [.policyOrRoute])
      #expect(scenario.losses.allSatisfy { $0.evidence.contains(.countersQuiet) })
    }
  }
}
