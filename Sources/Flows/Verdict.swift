/// What became of a lost transmission. Names are those of the records and of the metrics' labels (docs/verdicts.md).
package enum Verdict: UInt8, BitwiseCopyable, Sendable, CaseIterable {
  case dnatClashDropped
  case replyClashDropped
  case snatClashDropped
  case clashLateReply
  case clashMisrouted
  case answerUntranslated
  case tableFull
  case droppedOnNode
  case noAnswer
  case answerDroppedOnNode
  case lateAnswer
  case unknown

  package var name: StaticString {
    switch self {
    case .dnatClashDropped: "dnat_clash_dropped"
    case .replyClashDropped: "reply_clash_dropped"
    case .snatClashDropped: "snat_clash_dropped"
    case .clashLateReply: "clash_late_reply"
    case .clashMisrouted: "clash_misrouted"
    case .answerUntranslated: "answer_untranslated"
    case .tableFull: "table_full"
    case .droppedOnNode: "dropped_on_node"
    case .noAnswer: "no_answer"
    case .answerDroppedOnNode: "answer_dropped_on_node"
    case .lateAnswer: "late_answer"
    case .unknown: "unknown"
    }
  }

  /// True for what a connection-tracking race alone can cause.
  package var isClash: Bool {
    switch self {
    case .dnatClashDropped, .replyClashDropped, .snatClashDropped, .clashLateReply, .clashMisrouted: true
    default: false
    }
  }
}

/// The part of a verdict that tells look-alikes apart; `reason` of a record.
package enum Reason: UInt8, BitwiseCopyable, Sendable, CaseIterable {
  case none
  case policyOrRoute
  case afterInsertion
  case chainTooLong
  case invalid
  case ambiguous
  case icmpUnreachable
  case staleBackend
  case silent
  case localServer
  case bridgeBypass
  case entryDeleted
  case earlyDrop
  case expired

  package var name: StaticString {
    switch self {
    case .none: ""
    case .policyOrRoute: "policy_or_route"
    case .afterInsertion: "after_insertion"
    case .chainTooLong: "chain_too_long"
    case .invalid: "invalid"
    case .ambiguous: "ambiguous"
    case .icmpUnreachable: "icmp_unreachable"
    case .staleBackend: "stale_backend"
    case .silent: "silent"
    case .localServer: "local_server"
    case .bridgeBypass: "bridge_bypass"
    case .entryDeleted: "entry_deleted"
    case .earlyDrop: "early_drop"
    case .expired: "expired"
    }
  }
}

/// How sure a verdict is; never rounded up.
package enum Grade: UInt8, BitwiseCopyable, Sendable, CaseIterable {
  case inferred
  case observed
  case proven

  package var name: StaticString {
    switch self {
    case .inferred: "inferred"
    case .observed: "observed"
    case .proven: "proven"
    }
  }
}

/// Where the first copy of a transmission was seen.
package enum Vantage: UInt8, BitwiseCopyable, Sendable, CaseIterable {
  case client
  case server
  case transit

  package var name: StaticString {
    switch self {
    case .client: "client"
    case .server: "server"
    case .transit: "transit"
    }
  }
}

/// What a lost query meant to who asked.
package enum Impact: UInt8, BitwiseCopyable, Sendable, CaseIterable {
  /// Another server or copy answered the same question of the same socket in time.
  case none
  /// An attempt was answered, so many seconds after the first was sent.
  case delayed
  /// No attempt was answered.
  case failed

  package var name: StaticString {
    switch self {
    case .none: "none"
    case .delayed: "delayed"
    case .failed: "failed"
    }
  }
}

/// Who can be blind.
package enum BlindSource: UInt8, BitwiseCopyable, Sendable, CaseIterable {
  case conntrack
  case packets
  case counters
  case tables
  case start
  case shutdown

  package var name: StaticString {
    switch self {
    case .conntrack: "conntrack"
    case .packets: "packets"
    case .counters: "counters"
    case .tables: "tables"
    case .start: "start"
    case .shutdown: "shutdown"
    }
  }
}

/// The items of evidence behind a verdict, as a record lists them.
package struct Evidence: OptionSet, BitwiseCopyable, Sendable {
  package let rawValue: UInt32
  package init(rawValue: UInt32) { self.rawValue = rawValue }

  package static let probeDrop = Evidence(rawValue: 1 << 0)
  package static let asked = Evidence(rawValue: 1 << 1)
  package static let sent = Evidence(rawValue: 1 << 2)
  package static let noSent = Evidence(rawValue: 1 << 3)
  package static let came = Evidence(rawValue: 1 << 4)
  package static let noCame = Evidence(rawValue: 1 << 5)
  package static let noDelivered = Evidence(rawValue: 1 << 6)
  package static let ownEntry = Evidence(rawValue: 1 << 7)
  package static let noOwnEntry = Evidence(rawValue: 1 << 8)
  /// A live entry holds the reply (or original) tuple that this query needed.
  package static let winner = Evidence(rawValue: 1 << 9)
  /// A NAT_CLASH entry was destroyed without having seen a reply.
  package static let natClashDestroyed = Evidence(rawValue: 1 << 10)
  /// The answer opened a new entry of its own: it was not translated.
  package static let answerOpenedEntry = Evidence(rawValue: 1 << 11)
  /// The answer left from the backend's address instead of the server's.
  package static let untranslatedCopy = Evidence(rawValue: 1 << 12)
  /// The counters moved by exactly the number of transmissions that need them.
  package static let countersExact = Evidence(rawValue: 1 << 13)
  /// They moved, but for others too.
  package static let countersShared = Evidence(rawValue: 1 << 14)
  package static let countersQuiet = Evidence(rawValue: 1 << 15)
  package static let localServer = Evidence(rawValue: 1 << 16)
  /// The path never showed this leg, or not lately: absence proves nothing.
  package static let pathUnobserved = Evidence(rawValue: 1 << 17)
  package static let blind = Evidence(rawValue: 1 << 18)

  /// Names in the order in which they are written.
  package static let names: [(Evidence, StaticString)] = [
    (.probeDrop, "probe_drop"), (.asked, "asked"), (.sent, "sent"), (.noSent, "no_sent"), (.came, "came"), (.noCame, "no_came"),
    (.noDelivered, "no_delivered"), (.ownEntry, "own_entry"), (.noOwnEntry, "no_own_entry"), (.winner, "winner"),
    (.natClashDestroyed, "nat_clash_destroyed"), (.answerOpenedEntry, "answer_opened_entry"), (.untranslatedCopy, "untranslated_copy"),
    (.countersExact, "counters_exact"), (.countersShared, "counters_shared"), (.countersQuiet, "counters_quiet"),
    (.localServer, "local_server"), (.pathUnobserved, "path_unobserved"), (.blind, "blind"),
  ]
}
