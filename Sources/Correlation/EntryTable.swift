import Flows

/// What the agent knows of one conntrack entry.
struct Entry: BitwiseCopyable {
  var original: FiveTuple
  var reply: FiveTuple
  /// When the NEW was read; for an entry of a dump, when the dump was read.
  var newAt: Instant
  /// When the entry was last looked up or renewed.
  var usedAt: Instant
  var destroyedAt: Instant
  var originalHash: UInt64
  var replyHash: UInt64
  var status: ConntrackStatus
  var zone: UInt16
  var isDumped: Bool
  var isDestroyed: Bool
  /// Stands in the reply direction only: found by its reply tuple, never by its original one.
  var isNATClash: Bool
  /// A resolved clash of this entry was already told.
  var isReported: Bool
}

/// Entries by original and by reply tuple, each with its zone. A cache of the kernel's table: the oldest go first when it is full.
struct EntryTable: ~Copyable {
  /// Entries of one hash looked at: zones and former holders of a tuple, the newest first.
  static let longestWalk = 128

  private(set) var entries: FixedArray<Entry>
  private var pool: SlotPool
  private var byOriginal: ChainIndex
  private var byReply: ChainIndex
  /// Slots from the newest to the oldest, for eviction; links are stored plus one, 0 is the end.
  private var newer: FixedArray<Int32>
  private var older: FixedArray<Int32>
  private var newest: Int32 = 0
  private var oldest: Int32 = 0
  private let seed: UInt64
  private(set) var evictions: UInt64 = 0
  /// Evictions of entries younger than a race can be judged.
  private(set) var youngEvictions: UInt64 = 0

  init(capacity: Int, seed: UInt64) {
    entries = FixedArray(count: capacity)
    pool = SlotPool(capacity: capacity)
    byOriginal = ChainIndex(capacity: capacity)
    byReply = ChainIndex(capacity: capacity)
    newer = FixedArray(count: capacity)
    older = FixedArray(count: capacity)
    self.seed = seed
  }

  var count: Int { pool.used }
  var capacity: Int { pool.capacity }

  private func hash(_ tuple: FiveTuple) -> UInt64 {
    var hash = SeededHash(seed: seed)
    hash.combine(tuple)
    return hash.finish()
  }

  /// Enters a NEW, a dumped entry, or a NAT_CLASH entry; what held the same place before is replaced.
  mutating func insert(_ event: ConntrackEvent, isNATClash: Bool) -> Int32 {
    let originalHash = hash(event.original)
    let replyHash = hash(event.reply)
    var slot: Int32 = -1
    if isNATClash {
      slot = find(reply: event.reply, zone: event.zone, hash: replyHash, natClash: true)
    } else {
      slot = find(original: event.original, zone: event.zone, hash: originalHash)
    }
    if slot >= 0 {
      // A dump tells nothing new of an entry that stands; its time is that of its NEW.
      if event.kind == .dumped && !entries[slot].isDestroyed && entries[slot].reply == event.reply { return slot }
      byReply.remove(slot, hash: entries[slot].replyHash)
      unlink(slot)
    } else {
      slot = takeSlot(now: event.readAt)
      entries[slot].originalHash = originalHash
      if !isNATClash { byOriginal.insert(slot, hash: originalHash) }
    }
    entries[slot] = Entry(
      original: event.original, reply: event.reply, newAt: event.readAt, usedAt: event.readAt, destroyedAt: .zero, originalHash: originalHash,
      replyHash: replyHash, status: event.status, zone: event.zone, isDumped: event.kind == .dumped, isDestroyed: false, isNATClash: isNATClash,
      isReported: false)
    byReply.insert(slot, hash: replyHash)
    linkNewest(slot)
    return slot
  }

  mutating func markDestroyed(_ slot: Int32, at time: Instant, status: ConntrackStatus) {
    entries[slot].isDestroyed = true
    entries[slot].destroyedAt = time
    entries[slot].status = status
  }

  mutating func touch(_ slot: Int32, at time: Instant) { entries[slot].usedAt = time }
  mutating func markReported(_ slot: Int32) { entries[slot].isReported = true }

  /// The entry of this original tuple; any zone if `zone` is nil. -1 if there is none. NAT_CLASH entries are not found here.
  func find(original tuple: FiveTuple, zone: UInt16?) -> Int32 { find(original: tuple, zone: zone, hash: hash(tuple)) }

  private func find(original tuple: FiveTuple, zone: UInt16?, hash: UInt64) -> Int32 {
    var slot = byOriginal.match(byOriginal.first(hash), hash)
    var steps = 0
    while slot >= 0, steps < Self.longestWalk {
      if entries[slot].originalHash == hash && entries[slot].original == tuple && (zone == nil || entries[slot].zone == zone) { return slot }
      slot = byOriginal.match(byOriginal.after(slot), hash)
      steps += 1
    }
    return -1
  }

  /// The newest entry with this reply tuple; any zone if `zone` is nil. -1 if there is none.
  func find(reply tuple: FiveTuple, zone: UInt16?, natClash: Bool? = nil) -> Int32 {
    find(reply: tuple, zone: zone, hash: hash(tuple), natClash: natClash)
  }

  private func find(reply tuple: FiveTuple, zone: UInt16?, hash: UInt64, natClash: Bool?) -> Int32 {
    var slot = byReply.match(byReply.first(hash), hash)
    var steps = 0
    while slot >= 0, steps < Self.longestWalk {
      if entries[slot].replyHash == hash && entries[slot].reply == tuple && (zone == nil || entries[slot].zone == zone)
        && (natClash == nil || entries[slot].isNATClash == natClash)
      {
        return slot
      }
      slot = byReply.match(byReply.after(slot), hash)
      steps += 1
    }
    return -1
  }

  /// True if live entries of several zones have this reply tuple: it tells no zone then.
  func isInSeveralZones(reply tuple: FiveTuple) -> Bool {
    let hash = hash(tuple)
    var zone: UInt16?
    var slot = byReply.first(hash)
    while slot >= 0 {
      if entries[slot].replyHash == hash && entries[slot].reply == tuple && !entries[slot].isDestroyed {
        if let zone, zone != entries[slot].zone { return true }
        zone = entries[slot].zone
      }
      slot = byReply.after(slot)
    }
    return false
  }

  mutating func removeAll() {
    while oldest != 0 { evictOldest() }
  }

  private mutating func takeSlot(now: Instant) -> Int32 {
    while true {
      if let slot = pool.take() { return slot }
      evictions &+= 1
      if now - entries[oldest - 1].newAt < 2 * Nanoseconds.perSecond { youngEvictions &+= 1 }
      evictOldest()
    }
  }

  private mutating func evictOldest() {
    let slot = oldest - 1
    unlink(slot)
    byReply.remove(slot, hash: entries[slot].replyHash)
    if !entries[slot].isNATClash { byOriginal.remove(slot, hash: entries[slot].originalHash) }
    pool.give(back: slot)
  }

  private mutating func linkNewest(_ slot: Int32) {
    newer[slot] = 0
    older[slot] = newest
    if newest != 0 { newer[newest - 1] = slot + 1 } else { oldest = slot + 1 }
    newest = slot + 1
  }

  private mutating func unlink(_ slot: Int32) {
    let before = newer[slot]
    let behind = older[slot]
    if before != 0 { older[before - 1] = behind } else { newest = behind }
    if behind != 0 { newer[behind - 1] = before } else { oldest = before }
  }
}
