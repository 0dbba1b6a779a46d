package import Flows

/// How many records may be written. Corresponds to `--incidents.rate` and `--incidents.all`.
package struct LossRateLimits: Sendable {
  /// Clash verdicts a second, and how many at once after quiet time. A rate of 0 writes none.
  package var rate: Int64 = 1_000
  package var burst: Int64 = 20_000
  /// Records of any other verdict for one client in one window.
  package var perWorkload: UInt8 = 5
  package var window: Int64 = 300 * Nanoseconds.perSecond
  /// Clients and verdicts that are told apart at once.
  package var capacity = 4_096
  /// Writes everything.
  package var all = false

  package init() {}
}

/// Decides which records are written one by one, and counts the others for one `losses_suppressed` record a minute.
///
/// Lost and closed queries of clash verdicts each pass a token bucket. Of any other verdict the first few per client and window pass; so do resolved
/// clashes. Blind windows always pass. Memory is one table of fixed size: when a client finds no slot among its sixteen, its records are suppressed
/// and `tableFull` counts them.
package struct LossRateLimiter: Sendable {
  private struct Bucket {
    /// Tokens in billionths, so that a nanosecond of a rate of one a second still counts.
    var tokens: Int64
    var refilled: Instant
  }

  private struct Slot {
    var key: UInt64 = 0
    var start = Instant.zero
    /// 0 marks a slot that was never used.
    var count: UInt8 = 0
  }

  /// What a client's records are counted by, beside its verdict.
  private enum Subject: UInt64 {
    case lost = 0
    case closed = 1
    case resolved = 2
  }

  private static let probes = 16

  private var limits: LossRateLimits
  private let seed: UInt64
  private var lostBucket: Bucket
  private var closedBucket: Bucket
  private var slots: [Slot]
  private let mask: Int
  private var pending: LossesSuppressed
  private var pendingSince: Instant

  /// Records kept back since the start, by event.
  package private(set) var suppressedLost: UInt64 = 0
  package private(set) var suppressedClosed: UInt64 = 0
  package private(set) var suppressedResolved: UInt64 = 0
  /// Those among them that found no slot.
  package private(set) var tableFull: UInt64 = 0
  /// Slots that were ever used.
  package private(set) var tableEntries = 0

  /// Takes another rate over at run time; what was counted stays.
  package mutating func change(rate: Int64, all: Bool) {
    limits.rate = min(max(0, rate), 1_000_000)
    limits.burst = limits.rate == 0 ? 0 : max(1, limits.burst)
    limits.all = all
  }

  /// - Parameters:
  ///   - seed: random, so that no client can choose whose slots it takes.
  ///   - now: the start of the first minute, on both clocks.
  package init(limits: LossRateLimits = LossRateLimits(), seed: UInt64, now: Instant, wall: WallTime) {
    var limits = limits
    limits.rate = min(max(0, limits.rate), 1_000_000)
    limits.burst = limits.rate == 0 ? 0 : min(max(1, limits.burst), 1_000_000)
    limits.capacity = min(max(Self.probes, limits.capacity), 1 << 20)
    self.limits = limits
    self.seed = seed
    let full = Bucket(tokens: limits.burst * Nanoseconds.perSecond, refilled: now)
    lostBucket = full
    closedBucket = full
    var size = Self.probes
    while size < limits.capacity { size *= 2 }
    slots = Array(repeating: Slot(), count: size)
    mask = size - 1
    pending = LossesSuppressed(start: wall, end: wall)
    pendingSince = now
  }

  /// True if the record is to be written. Otherwise it has been counted.
  package mutating func admit(_ record: Record, at now: Instant) -> Bool {
    if limits.all || isAdmitted(record, at: now) { return true }
    suppress(record)
    return false
  }

  /// Counts a record that was admitted and then found no room in the output, so that the next summary tells it after all.
  package mutating func suppress(_ record: Record) {
    switch record {
    case .lost(let lost):
      suppressedLost &+= 1
      pending.lost[Int(lost.verdict.rawValue)] &+= 1
    case .closed:
      suppressedClosed &+= 1
      pending.closed &+= 1
    case .clashResolved:
      suppressedResolved &+= 1
      pending.resolved &+= 1
    case .blind: break
    }
  }

  private mutating func isAdmitted(_ record: Record, at now: Instant) -> Bool {
    switch record {
    case .lost(let lost):
      lost.verdict.isClash ? Self.take(&lostBucket, limits, at: now) : count(.lost, lost.verdict.rawValue, lost.client.address, at: now)
    case .closed(let closed):
      closed.verdict.isClash
        ? Self.take(&closedBucket, limits, at: now) : count(.closed, closed.verdict.rawValue, closed.client.address, at: now)
    case .clashResolved(let clash): count(.resolved, 0, clash.client.address, at: now)
    case .blind: true
    }
  }

  /// The sum of what was kept back, once a minute; nil if the minute is not over or nothing was. To be called at least once a second.
  /// - Parameter isLast: the agent stops: do not wait for the end of the minute.
  package mutating func summary(at now: Instant, wall: WallTime, isLast: Bool = false) -> LossesSuppressed? {
    guard isLast || now - pendingSince >= 60 * Nanoseconds.perSecond else { return nil }
    var summary = pending
    summary.end = wall
    pending = LossesSuppressed(start: wall, end: wall)
    pendingSince = now
    return summary.isEmpty ? nil : summary
  }

  private static func take(_ bucket: inout Bucket, _ limits: LossRateLimits, at now: Instant) -> Bool {
    guard limits.rate > 0 else { return false }
    let full = limits.burst * Nanoseconds.perSecond
    // Longer than it takes to fill the bucket makes no difference, and cannot overflow.
    let elapsed = min(max(0, now - bucket.refilled), full / limits.rate + 1)
    bucket.tokens = min(full, bucket.tokens + elapsed * limits.rate)
    bucket.refilled = max(bucket.refilled, now)
    guard bucket.tokens >= Nanoseconds.perSecond else { return false }
    bucket.tokens -= Nanoseconds.perSecond
    return true
  }

  private mutating func count(_ subject: Subject, _ verdict: UInt8, _ client: IPAddress, at now: Instant) -> Bool {
    var hash = SeededHash(seed: seed)
    hash.combine(client)
    hash.combine(subject.rawValue << 8 | UInt64(verdict))
    let key = hash.finish()
    var free: Int?
    for probe in 0..<Self.probes {
      let index = (Int(truncatingIfNeeded: key) &+ probe) & mask
      let slot = slots[index]
      let isExpired = slot.count == 0 || now - slot.start >= limits.window
      if slot.count > 0 && slot.key == key && !isExpired {
        guard slot.count < limits.perWorkload else { return false }
        slots[index].count += 1
        return true
      }
      if isExpired && free == nil { free = index }
    }
    guard limits.perWorkload > 0 else { return false }
    guard let free else {
      tableFull &+= 1
      return false
    }
    if slots[free].count == 0 { tableEntries += 1 }
    slots[free] = Slot(key: key, start: now, count: 1)
    return true
  }
}
