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
  case wrongService

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
    case .wrongService: "wrong_service"
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
@usableFromInline
package enum Vantage: UInt8, BitwiseCopyable, Sendable, CaseIterable {
  case client
  case server
  case transit

  /// By the byte: what the compiler makes of a raw value is a generic call from another module.
  @inlinable @inline(__always) package static func == (a: Vantage, b: Vantage) -> Bool {
    unsafe unsafeBitCast(a, to: UInt8.self) == unsafeBitCast(b, to: UInt8.self)
  }

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
  case kernelProbe

  package var name: StaticString {
    switch self {
    case .conntrack: "conntrack"
    case .packets: "packets"
    case .counters: "counters"
    case .tables: "tables"
    case .start: "start"
    case .shutdown: "shutdown"
    case .kernelProbe: "kernel_probe"
    }
  }
}

/// The items of evidence behind a verdict, as a record lists them.
@usableFromInline
package struct Evidence: OptionSet, BitwiseCopyable, Sendable {
  @usableFromInline package let rawValue: UInt32
  @inlinable package init(rawValue: UInt32) { self.rawValue = rawValue }

  @inlinable package static var probeDrop: Evidence { Evidence(rawValue: 1 << 0) }
  @inlinable package static var asked: Evidence { Evidence(rawValue: 1 << 1) }
  @inlinable package static var sent: Evidence { Evidence(rawValue: 1 << 2) }
  @inlinable package static var noSent: Evidence { Evidence(rawValue: 1 << 3) }
  @inlinable package static var came: Evidence { Evidence(rawValue: 1 << 4) }
  @inlinable package static var noCame: Evidence { Evidence(rawValue: 1 << 5) }
  @inlinable package static var noDelivered: Evidence { Evidence(rawValue: 1 << 6) }
  @inlinable package static var ownEntry: Evidence { Evidence(rawValue: 1 << 7) }
  @inlinable package static var noOwnEntry: Evidence { Evidence(rawValue: 1 << 8) }
  /// A live entry holds the reply (or original) tuple that this query needed.
  @inlinable package static var winner: Evidence { Evidence(rawValue: 1 << 9) }
  /// A NAT_CLASH entry was destroyed without having seen a reply.
  @inlinable package static var natClashDestroyed: Evidence { Evidence(rawValue: 1 << 10) }
  /// The answer opened a new entry of its own: it was not translated.
  @inlinable package static var answerOpenedEntry: Evidence { Evidence(rawValue: 1 << 11) }
  /// The answer left from the backend's address, or another service's, instead of the server's.
  @inlinable package static var untranslatedCopy: Evidence { Evidence(rawValue: 1 << 12) }
  /// The counters moved by exactly the number of transmissions that need them.
  @inlinable package static var countersExact: Evidence { Evidence(rawValue: 1 << 13) }
  /// They moved, but for others too.
  @inlinable package static var countersShared: Evidence { Evidence(rawValue: 1 << 14) }
  @inlinable package static var countersQuiet: Evidence { Evidence(rawValue: 1 << 15) }
  @inlinable package static var localServer: Evidence { Evidence(rawValue: 1 << 16) }
  /// The path never showed this leg, or not lately: absence proves nothing.
  @inlinable package static var pathUnobserved: Evidence { Evidence(rawValue: 1 << 17) }
  @inlinable package static var blind: Evidence { Evidence(rawValue: 1 << 18) }
  /// An ICMP error about this datagram: destination unreachable or time exceeded.
  @inlinable package static var icmpError: Evidence { Evidence(rawValue: 1 << 19) }
  /// All newer entries of the service go to other backends.
  @inlinable package static var newerElsewhere: Evidence { Evidence(rawValue: 1 << 20) }
  /// The first copy's UDP checksum is wrong.
  @inlinable package static var badChecksum: Evidence { Evidence(rawValue: 1 << 21) }
  /// A copy left for the service's own address, untranslated.
  @inlinable package static var leftUntranslated: Evidence { Evidence(rawValue: 1 << 22) }
  /// It left for its sibling's backend over another device than the sibling.
  @inlinable package static var otherDevice: Evidence { Evidence(rawValue: 1 << 23) }
  /// The kernel probe watched and saw no clash.
  @inlinable package static var probeQuiet: Evidence { Evidence(rawValue: 1 << 24) }

  /// Names in the order in which they are written.
  package static let names: [(Evidence, StaticString)] = [
    (.probeDrop, "probe_drop"), (.asked, "asked"), (.sent, "sent"), (.noSent, "no_sent"), (.came, "came"), (.noCame, "no_came"),
    (.noDelivered, "no_delivered"), (.ownEntry, "own_entry"), (.noOwnEntry, "no_own_entry"), (.winner, "winner"),
    (.natClashDestroyed, "nat_clash_destroyed"), (.answerOpenedEntry, "answer_opened_entry"), (.untranslatedCopy, "untranslated_copy"),
    (.countersExact, "counters_exact"), (.countersShared, "counters_shared"), (.countersQuiet, "counters_quiet"),
    (.localServer, "local_server"), (.icmpError, "icmp_error"), (.newerElsewhere, "newer_elsewhere"), (.badChecksum, "bad_checksum"),
    (.leftUntranslated, "left_untranslated"), (.otherDevice, "other_device"), (.pathUnobserved, "path_unobserved"), (.blind, "blind"),
    (.probeQuiet, "probe_quiet"),
  ]
}
