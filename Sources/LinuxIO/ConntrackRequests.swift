import CConntrack
package import Flows

/// How full the table is. Corresponds to CTA_STATS_GLOBAL_ENTRIES and _MAX_ENTRIES; 0 where the kernel does not say.
package struct ConntrackTableSize: BitwiseCopyable, Equatable, Sendable {
  package var entries: UInt32
  package var limit: UInt32
}

/// What a dump was like.
package struct ConntrackDump: BitwiseCopyable, Sendable {
  /// Entries of the table that were looked at, in the last attempt.
  package var entries = 0
  /// Those of them that have one of the ports.
  package var matched = 0
  /// Messages that were not taken for an entry, in all attempts.
  package var errors = 0
  /// 1, or more where the table changed so that the dump had to be made again.
  package var attempts = 0
  /// True if the last attempt was interrupted too: entries may be missing.
  package var isIncomplete = false
}

/// The question half of ctnetlink: counters, the table's size, the table itself.
///
/// Apart from the event socket, because a kernel filter applies to answers as well. The kernel checks CAP_NET_ADMIN at every request.
@safe
package struct ConntrackRequests: ~Copyable {
  private let requests: OpaquePointer
  private let records: UnsafeMutablePointer<conntrack_record>
  private let stats: UnsafeMutablePointer<conntrack_cpu_stats>
  private static let batch = Int(CONNTRACK_BATCH)
  private static let dumpAttempts = 4

  /// Opens the socket in the calling thread's network namespace and asks one question, so that what is missing is known at the start.
  package init() throws(SetupError) {
    var failure = unsafe conntrack_failure()
    guard let requests = unsafe conntrack_requests_open(&failure) else { throw unsafe SetupError(conntrack: failure) }
    unsafe self.requests = requests
    unsafe records = .allocate(capacity: Self.batch)
    unsafe stats = .allocate(capacity: Self.batch)
  }

  deinit {
    unsafe stats.deallocate()
    unsafe records.deallocate()
    unsafe conntrack_requests_close(requests)
  }

  /// Nothing arrives here but answers, which are read at once: needs no epoll.
  package var descriptor: Int32 { unsafe conntrack_requests_descriptor(requests) }

  /// Reads every possible CPU's statistics into the accumulator. Corresponds to IPCTNL_MSG_CT_GET_STATS_CPU.
  ///
  /// - Parameter withTableSize: reads `entries` and `entriesLimit` as well, by a second request.
  /// - Returns: the accumulated counters; they were true at some time from `before` to `after`.
  package mutating func readCounters(
    into accumulator: inout ConntrackCounterAccumulator, withTableSize: Bool = false
  ) throws(SetupError) -> CounterSample {
    let before = Instant(nanoseconds: conntrack_now())
    let asked = unsafe conntrack_requests_ask_cpu_stats(requests)
    if asked < 0 { throw SetupError(conntrack: "ask for conntrack statistics", code: 0 &- asked) }
    accumulator.beginReading()
    var count: Int32 = 0
    repeat {
      count = unsafe conntrack_requests_next_cpu_stats(requests, stats, Self.batch)
      if count < 0 { throw SetupError(conntrack: "read conntrack statistics", code: 0 &- count) }
      for index in 0..<Int(count) { accumulator.take(unsafe ConntrackCPUReading(stats[index])) }
    } while count > 0
    let after = Instant(nanoseconds: conntrack_now())
    var sample = CounterSample(before: before, after: after, counters: accumulator.counters, features: accumulator.features)
    if withTableSize {
      let size = try readTableSize()
      sample.entries = size.entries
      sample.entriesLimit = size.limit
    }
    return sample
  }

  /// Corresponds to IPCTNL_MSG_CT_GET_STATS.
  package mutating func readTableSize() throws(SetupError) -> ConntrackTableSize {
    var size = ConntrackTableSize(entries: 0, limit: 0)
    let result = unsafe conntrack_requests_table_size(requests, &size.entries, &size.limit)
    if result < 0 { throw SetupError(conntrack: "read conntrack table size", code: 0 &- result) }
    return size
  }

  /// Gives every UDP and TCP entry that has one of the ports on either side of either tuple to `body`, as `.dumped`, IPv4 and IPv6.
  ///
  /// The ports are compared here: CTA_FILTER (5.8) takes one port of one tuple a dump, and kernels without it ignore it. A dump that the kernel
  /// marks as interrupted is made again, up to three times: `body` may see an entry more than once. NAT_CLASH entries are in no dump.
  /// `readAt` is the time of the request.
  package mutating func dump(ports: [UInt16], _ body: (ConntrackEvent) -> Void) throws(SetupError) -> ConntrackDump {
    var dump = ConntrackDump()
    repeat {
      dump.attempts += 1
      dump.matched = 0
      let readAt = Instant(nanoseconds: conntrack_now())
      let asked = unsafe conntrack_requests_ask_table(requests)
      if asked < 0 { throw SetupError(conntrack: "ask for the conntrack table", code: 0 &- asked) }
      var count: Int32 = 0
      repeat {
        count = unsafe conntrack_requests_next_entries(requests, ports, ports.count, records, Self.batch)
        if count < 0 { throw SetupError(conntrack: "read the conntrack table", code: 0 &- count) }
        for index in 0..<Int(count) { body(unsafe ConntrackEvent(records + index, kind: .dumped, readAt: readAt)) }
        dump.matched += Int(count)
      } while count > 0
      let answer = unsafe conntrack_requests_answer(requests).pointee
      dump.entries = Int(truncatingIfNeeded: answer.results.0)
      dump.errors += Int(truncatingIfNeeded: answer.results.1 &+ answer.results.2 &+ answer.results.3 &+ answer.results.4)
      dump.isIncomplete = answer.interrupted
    } while dump.isIncomplete && dump.attempts < Self.dumpAttempts
    return dump
  }
}

extension ConntrackCPUReading {
  fileprivate init(_ stats: conntrack_cpu_stats) {
    var features: ConntrackFeatures = []
    if stats.sent & UInt32(CONNTRACK_SENT_CLASH_RESOLVE) != 0 { features.insert(.clashResolve) }
    if stats.sent & UInt32(CONNTRACK_SENT_CHAIN_TOO_LONG) != 0 { features.insert(.chainTooLong) }
    self.init(cpu: stats.cpu, features: features, unknownAttributes: stats.unknown)
    found = stats.found
    invalid = stats.invalid
    insert = stats.insert
    insertFailed = stats.insert_failed
    drop = stats.drop
    earlyDrop = stats.early_drop
    error = stats.error
    searchRestart = stats.search_restart
    clashResolve = stats.clash_resolve
    chainTooLong = stats.chain_too_long
  }
}
