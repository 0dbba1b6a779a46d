package import Flows

/// What happens, in this order: ordinary lookups come first, so that the agent has seen the path whole before anything is missing on it.
package enum SelfTestScenario: Int, CaseIterable, Sendable {
  case ordinary
  case lateReply
  case replyClash
  case snatClash

  package var title: String {
    switch self {
    case .lateReply: "late reply"
    case .replyClash: "reply clash"
    case .snatClash: "SNAT clash"
    case .ordinary: "ordinary"
    }
  }

  /// First part of the first label of its names.
  var label: String {
    switch self {
    case .lateReply: "late"
    case .replyClash: "reply"
    case .snatClash: "snat"
    case .ordinary: "ordinary"
    }
  }
}

/// One query as those who sent, received and answered it know it.
package struct SelfTestQuery: Sendable {
  package var client: Endpoint
  package var server: Endpoint
  package var dnsID: UInt16
  package var type: UInt16
  /// The number of its pair: with the scenario it makes the name.
  package var pair: Int
  /// False if sendto refused it: then it is no transmission.
  package var wasSent: Bool
  /// Number of the server that received it; 0 if none did.
  package var receivedBy: Int
  /// Answered from the address asked, while the client waited.
  package var wasAnswered: Bool
  /// An answer came, but from another address.
  package var cameUntranslated: Bool

  package init(
    client: Endpoint, server: Endpoint, dnsID: UInt16, type: UInt16, pair: Int, wasSent: Bool = true, receivedBy: Int = 1, wasAnswered: Bool = true,
    cameUntranslated: Bool = false
  ) {
    self.client = client
    self.server = server
    self.dnsID = dnsID
    self.type = type
    self.pair = pair
    self.wasSent = wasSent
    self.receivedBy = receivedBy
    self.wasAnswered = wasAnswered
    self.cameUntranslated = cameUntranslated
  }

  package var isLost: Bool { wasSent && !wasAnswered }
}

/// How far three of the kernel's counters moved while a scenario was raced.
package struct SelfTestCounters: Equatable, Sendable {
  package var insertFailed: UInt64 = 0
  package var drop: UInt64 = 0
  /// Nil where the kernel has no such counter.
  package var clashResolve: UInt64?

  package init(insertFailed: UInt64 = 0, drop: UInt64 = 0, clashResolve: UInt64? = 0) {
    self.insertFailed = insertFailed
    self.drop = drop
    self.clashResolve = clashResolve
  }

  /// Sums the per-CPU rows of `/proc/net/stat/nf_conntrack`: a line of column names, then hexadecimal numbers.
  /// The names are read, not the places: they differ between kernels (`ct_cpu_seq_show`, net/netfilter/nf_conntrack_standalone.c). Nil if a needed one is missing.
  package init?(procText text: String) {
    let lines = text.split(separator: "\n").map { $0.split(separator: " ") }
    guard let names = lines.first, lines.count > 1, let failed = names.firstIndex(of: "insert_failed"), let dropped = names.firstIndex(of: "drop")
    else { return nil }
    let resolved = names.firstIndex(of: "clashres") ?? names.firstIndex(of: "clash_resolve")
    var sums = [UInt64](repeating: 0, count: names.count)
    for row in lines.dropFirst() {
      guard row.count == names.count else { return nil }
      for (index, word) in row.enumerated() {
        guard let value = UInt32(word, radix: 16) else { return nil }
        sums[index] &+= UInt64(value)
      }
    }
    self.init(insertFailed: sums[failed], drop: sums[dropped], clashResolve: resolved.map { sums[$0] })
  }

  /// Sums the rows of `conntrack -S`: `cpu=0 found=1 … insert_failed=2 drop=2 …`. Nil if a needed field is missing.
  package init?(conntrackText text: String) {
    var sums: [Substring: UInt64] = [:]
    for word in text.split(whereSeparator: { $0 == " " || $0 == "\t" || $0 == "\n" }) {
      let parts = word.split(separator: "=")
      if parts.count == 2, let value = UInt64(parts[1]) { sums[parts[0], default: 0] &+= value }
    }
    guard let failed = sums["insert_failed"], let drop = sums["drop"] else { return nil }
    self.init(insertFailed: failed, drop: drop, clashResolve: sums["clash_resolve"])
  }

  /// What moved since `earlier`. The namespace is young: nothing has wrapped.
  package func since(_ earlier: SelfTestCounters) -> SelfTestCounters {
    SelfTestCounters(
      insertFailed: insertFailed &- earlier.insertFailed, drop: drop &- earlier.drop,
      clashResolve: clashResolve.map { $0 &- (earlier.clashResolve ?? 0) })
  }
}

/// All that is known of one scenario without the agent.
package struct SelfTestTruth: Sendable {
  package var scenario: SelfTestScenario
  package var pairs: Int
  package var seconds: Double
  package var counters: SelfTestCounters
  package var queries: [SelfTestQuery]

  package init(scenario: SelfTestScenario, pairs: Int, seconds: Double, counters: SelfTestCounters, queries: [SelfTestQuery]) {
    self.scenario = scenario
    self.pairs = pairs
    self.seconds = seconds
    self.counters = counters
    self.queries = queries
  }

  package var sent: Int { queries.count(where: \.wasSent) }
  package var lost: Int { queries.count(where: \.isLost) }
  /// Lost before any server received them: these the kernel dropped.
  package var dropped: Int { queries.count { $0.isLost && $0.receivedBy == 0 } }

  /// What a lost query of this scenario must be called. A kernel without clash resolution drops at once what a newer one delivers one way only.
  package func expectedVerdict(of query: SelfTestQuery) -> Verdict {
    switch scenario {
    case .replyClash: .replyClashDropped
    case .snatClash: .snatClashDropped
    case .lateReply: query.receivedBy == 0 ? .dnatClashDropped : .clashLateReply
    case .ordinary: .unknown
    }
  }

  /// Why the kernel's own counters contradict the truth, so that nothing can be told from this run; nil if they agree.
  package var contradiction: String? {
    if scenario == .ordinary {
      if lost > 0 { return "\(lost) ordinary queries got no answer: this node is too busy" }
      return counters.insertFailed == 0 ? nil : "insert_failed moved by \(counters.insertFailed) during ordinary lookups"
    }
    if lost == 0 { return "no query was lost" }
    // What reached a server was answered: late replies come untranslated, and of the dropped ones none may have reached one.
    let strange = queries.count { $0.isLost && $0.receivedBy != 0 && !(scenario == .lateReply && $0.cameUntranslated) }
    if strange > 0 { return "\(strange) queries reached a server and no answer came back" }
    // 4.7 to 5.9 count resolved clashes in insert_failed too, and kernels before 4.7 count no drops (bc92470413f3 brought clash_resolve and took them out again).
    let agrees =
      if counters.clashResolve != nil {
        counters.insertFailed == UInt64(dropped) && counters.drop == UInt64(dropped)
      } else {
        counters.insertFailed >= UInt64(dropped)
          && (counters.drop == UInt64(dropped) || (counters.drop == 0 && counters.insertFailed == UInt64(dropped)))
      }
    return agrees ? nil : "\(dropped) queries vanished, but insert_failed moved by \(counters.insertFailed) and drop by \(counters.drop)"
  }
}
