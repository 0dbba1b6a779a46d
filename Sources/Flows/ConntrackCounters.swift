/// The ctnetlink per-CPU statistics, summed over CPUs and counted from the agent's start (32-bit wraps already undone per CPU).
/// Corresponds to `enum ctattr_stats_cpu`.
package struct ConntrackCounters: BitwiseCopyable, Equatable, Sendable {
  package var found: UInt64 = 0
  package var invalid: UInt64 = 0
  package var insert: UInt64 = 0
  package var insertFailed: UInt64 = 0
  package var drop: UInt64 = 0
  package var earlyDrop: UInt64 = 0
  package var error: UInt64 = 0
  package var searchRestart: UInt64 = 0
  package var clashResolve: UInt64 = 0
  package var chainTooLong: UInt64 = 0

  package init() {}
}

/// What this kernel's statistics can say. Chosen by the attributes it sends, never by its version.
package struct ConntrackFeatures: OptionSet, BitwiseCopyable, Sendable {
  package let rawValue: UInt8
  package init(rawValue: UInt8) { self.rawValue = rawValue }

  /// CTA_STATS_CLASH_RESOLVE is sent (5.10 and backports): insert_failed no longer counts resolved clashes.
  package static let clashResolve = ConntrackFeatures(rawValue: 1)
  /// CTA_STATS_CHAIN_TOOLONG is sent (5.15 and backports).
  package static let chainTooLong = ConntrackFeatures(rawValue: 2)
}

/// One reading of the counters.
package struct CounterSample: BitwiseCopyable, Sendable {
  /// Just before the request was sent, and just after the last answer was read: the values were true at some time between.
  package var before: Instant
  package var after: Instant
  package var counters: ConntrackCounters
  package var features: ConntrackFeatures
  /// CTA_STATS_GLOBAL_ENTRIES and _MAX_ENTRIES; 0 where not read with this sample.
  package var entries: UInt32
  package var entriesLimit: UInt32

  package init(
    before: Instant, after: Instant, counters: ConntrackCounters, features: ConntrackFeatures, entries: UInt32 = 0, entriesLimit: UInt32 = 0
  ) {
    self.before = before
    self.after = after
    self.counters = counters
    self.features = features
    self.entries = entries
    self.entriesLimit = entriesLimit
  }
}
