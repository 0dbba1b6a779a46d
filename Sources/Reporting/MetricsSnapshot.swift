package import Flows

/// Everything that `/metrics` shows, as values of one moment. The agent fills it once a second.
///
/// What is nil, or not in a list, is not on the page: an unknown value is never shown as 0.
package struct MetricsSnapshot: Sendable {
  /// racetrack_build_info. Empty texts are left out.
  package var version: String
  package var revision = ""
  package var kernelRelease = ""

  /// Since the agent's start; nil until they were read once.
  package var counters: ConntrackCounters?
  package var features: ConntrackFeatures = []
  /// Each CPU's share, where that is wanted; the sum is then not on the page.
  package var countersByCPU: [CPUCounters] = []
  package var entries: UInt32?
  package var entriesLimit: UInt32?

  package var events = ConntrackEventTotals()
  package var eventsLost: UInt64 = 0
  package var packets: UInt64 = 0
  package var packetsLost: UInt64 = 0
  package var probeEvents = ProbeEventTotals()

  package var engine = EngineTotals()
  /// The latest incident of each verdict and grade (index: `EngineTotals.lostByVerdict`), and of each bucket of the durations.
  package var lostExemplars: [Exemplar?] = []
  package var durationExemplars: [Exemplar?] = []

  /// From `WorkloadTable`.
  package var workloads: [WorkloadTotals] = [WorkloadTotals(.unattributed)]
  package var alertsFiring = 0

  /// Whether each source is blind now, and for how many nanoseconds it was (index: `BlindSource.rawValue`).
  package var blind: [Bool]
  package var blindNanoseconds: [Int64]
  /// The union of all sources' blind times, which overlap.
  package var blindAny = false
  package var blindAnyNanoseconds: Int64 = 0

  package var sources: [SourceUp] = []
  package var paths: [PathObservable] = []
  package var tables: [TableUse] = []
  package var decodeErrors: [DecodeErrorCount] = []

  /// Records given to the output, by kind.
  package var records: [RecordCount] = RecordCount.none
  package var recordsUndelivered: UInt64 = 0
  /// From `LossRateLimiter`.
  package var suppressedLost: UInt64 = 0
  package var suppressedClosed: UInt64 = 0
  package var suppressedResolved: UInt64 = 0

  package var log: LogUse?
  package var http: HTTPUse?
  /// Nanoseconds.
  package var longestTurn: Int64 = 0
  package var process: ProcessUse?

  package init(version: String) {
    self.version = version
    blind = Array(repeating: false, count: BlindSource.allCases.count)
    blindNanoseconds = Array(repeating: 0, count: BlindSource.allCases.count)
  }
}

/// Events read, by kind.
package struct ConntrackEventTotals: BitwiseCopyable, Sendable {
  package var new: UInt64 = 0
  package var update: UInt64 = 0
  package var destroy: UInt64 = 0
  package init() {}
}

/// racetrack_kernel_probe_events_total, by kind, and those that were lost.
package struct ProbeEventTotals: BitwiseCopyable, Sendable {
  package var dropped: UInt64 = 0
  package var merged: UInt64 = 0
  package var replyOnly: UInt64 = 0
  package var lost: UInt64 = 0
  package init() {}
}

/// racetrack_source_up.
package struct SourceUp: Sendable {
  package var source: StaticString
  package var isUp: Bool
  package init(_ source: StaticString, _ isUp: Bool) {
    self.source = source
    self.isUp = isUp
  }
}

/// racetrack_path_observable.
package struct PathObservable: Sendable {
  /// `sent`, `delivered`.
  package var leg: StaticString
  package var isObservable: Bool
  package init(_ leg: StaticString, _ isObservable: Bool) {
    self.leg = leg
    self.isObservable = isObservable
  }
}

/// racetrack_table_entries and racetrack_table_evictions_total.
package struct TableUse: Sendable {
  package var table: StaticString
  package var entries: UInt64
  package var evictions: UInt64
  package init(_ table: StaticString, entries: UInt64, evictions: UInt64) {
    self.table = table
    self.entries = entries
    self.evictions = evictions
  }
}

/// racetrack_decode_errors_total.
package struct DecodeErrorCount: Sendable {
  package var source: StaticString
  package var reason: StaticString
  package var count: UInt64
  package init(_ source: StaticString, _ reason: StaticString, _ count: UInt64) {
    self.source = source
    self.reason = reason
    self.count = count
  }
}

/// process_*, as every Prometheus client library names it.
package struct ProcessUse: BitwiseCopyable, Sendable {
  package var cpuNanoseconds: Int64 = 0
  package var residentBytes: UInt64 = 0
  package var virtualBytes: UInt64 = 0
  package var openDescriptors: UInt64 = 0
  package var maxDescriptors: UInt64 = 0
  package var start = WallTime(nanoseconds: 0)
  package init() {}
}

/// One CPU's conntrack counters.
package struct CPUCounters: Sendable {
  package var cpu: Int
  package var counters: ConntrackCounters
  package init(cpu: Int, _ counters: ConntrackCounters) {
    self.cpu = cpu
    self.counters = counters
  }
}

/// racetrack_records_total.
package struct RecordCount: Sendable {
  package var event: StaticString
  package var count: UInt64
  package init(_ event: StaticString, _ count: UInt64) {
    self.event = event
    self.count = count
  }

  /// Every event, none counted.
  package static var none: [RecordCount] { RecordEvent.allCases.map { RecordCount($0.name, 0) } }
}

/// racetrack_log_*.
package struct LogUse: BitwiseCopyable, Sendable {
  package var debug: UInt64 = 0
  package var info: UInt64 = 0
  package var warn: UInt64 = 0
  package var error: UInt64 = 0
  package var suppressed: UInt64 = 0
  package var undelivered: UInt64 = 0
  package init() {}
}

/// racetrack_http_*.
package struct HTTPUse: BitwiseCopyable, Sendable {
  package var connections: UInt64 = 0
  package var accepted: UInt64 = 0
  package var evicted: UInt64 = 0
  package var expired: UInt64 = 0
  package var refused: UInt64 = 0
  package var requests: UInt64 = 0
  package var unauthorized: UInt64 = 0
  package var misdirected: UInt64 = 0
  package init() {}
}
