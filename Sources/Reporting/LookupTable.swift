package import Flows

/// What one closed query adds to the lookup that it is part of.
package struct LookupStall: Equatable, Sendable {
  /// The first stalled query of its lookup: the lookup is counted now, and not again.
  package var isNew: Bool
  /// The first query of its lookup that may alert.
  package var isNewToAlerts: Bool
  /// The verdict that the lookup is counted under: that of the first of its queries that closed.
  package var verdict: Verdict
  /// Nanoseconds by which the query makes its lookup's stall longer than was known.
  package var added: Int64

  package init(isNew: Bool, isNewToAlerts: Bool, verdict: Verdict, added: Int64) {
    self.isNew = isNew
    self.isNewToAlerts = isNewToAlerts
    self.verdict = verdict
    self.added = added
  }
}

/// Remembers the lookups that stalled lately, so that a lookup whose A and AAAA were both lost is counted once and its seconds once.
///
/// One fixed table, made when the first lookup stalls. Where no slot of sixteen is free the lookup that closed first gives way; should another of its
/// queries close later, it would be counted again: `evictions` says how often that was possible.
package struct LookupTable: Sendable {
  private struct Slot {
    var id: UInt64 = 0
    /// Wall-clock nanoseconds when the lookup began.
    var began: Int64 = 0
    /// 0 marks a slot that was never used.
    var closedAt = Instant.zero
    var delay: Int64 = 0
    var verdict = Verdict.unknown
    var hasAlerted = false
  }

  /// Queries of one socket within this time are one lookup.
  private static let span = 100 * Nanoseconds.perMillisecond
  private static let probes = 16

  private let capacity: Int
  /// Longer than the queries of one lookup, and their retries, can close apart.
  private let memory: Int64
  private var slots: [Slot] = []
  package private(set) var evictions: UInt64 = 0
  /// Slots that were ever used.
  package private(set) var entries = 0

  /// - Parameters:
  ///   - capacity: rounded up to a power of two.
  ///   - memory: nanoseconds for which a lookup is known.
  package init(capacity: Int = 16_384, memory: Int64 = 60 * Nanoseconds.perSecond) {
    var size = Self.probes
    while size < min(capacity, 1 << 20) { size *= 2 }
    self.capacity = size
    self.memory = memory
  }

  /// Whether the query kept somebody waiting, as far as that is known. Not where the path hides its legs: nobody knows there that anything was lost.
  /// Not where a DNS server asked: who asked that server is the one that waits, and is counted where he asked.
  package static func isStall(_ closed: ClosedQuery) -> Bool {
    closed.impact != .none && !closed.clientIsServer && !closed.evidence.contains(.pathUnobserved)
  }

  /// What `closed` adds; nil if it stalled nobody.
  package mutating func take(_ closed: ClosedQuery, at now: Instant) -> LookupStall? {
    guard Self.isStall(closed) else { return nil }
    let mayAlert = AlertTable.mayAlert(closed)
    if slots.isEmpty { slots = Array(repeating: Slot(), count: capacity) }
    let delay = max(0, closed.delay)
    var chosen = -1
    for probe in 0..<Self.probes {
      let index = (Int(truncatingIfNeeded: closed.lookupID) &+ probe) & (capacity - 1)
      let slot = slots[index]
      if isLive(slot, now) && slot.id == closed.lookupID && (slot.began &- closed.lookupTime.nanoseconds).magnitude <= UInt64(Self.span) {
        let added = max(0, delay - slot.delay)
        slots[index].delay = max(delay, slot.delay)
        slots[index].hasAlerted = slot.hasAlerted || mayAlert
        return LookupStall(isNew: false, isNewToAlerts: mayAlert && !slot.hasAlerted, verdict: slot.verdict, added: added)
      }
      // An expired or unused slot has an older time than any that is live.
      if chosen < 0 || slot.closedAt < slots[chosen].closedAt { chosen = index }
    }
    if slots[chosen].closedAt == .zero { entries += 1 }
    if isLive(slots[chosen], now) { evictions &+= 1 }
    // An instant of 0 would read as "never used".
    let closedAt = now == .zero ? Instant(nanoseconds: 1) : now
    slots[chosen] = Slot(
      id: closed.lookupID, began: closed.lookupTime.nanoseconds, closedAt: closedAt, delay: delay, verdict: closed.verdict, hasAlerted: mayAlert)
    return LookupStall(isNew: true, isNewToAlerts: mayAlert, verdict: closed.verdict, added: delay)
  }

  private func isLive(_ slot: Slot, _ now: Instant) -> Bool { slot.closedAt != .zero && now - slot.closedAt < memory }
}
