import Flows

/// What the agent knows of one conntrack entry: two cache lines. Only UDP is kept, so that a tuple is two endpoints.
struct Entry: BitwiseCopyable {
  var client: Endpoint
  var zone: UInt16
  var status: ConntrackStatus
  var server: Endpoint
  var isDumped: Bool
  var isDestroyed: Bool
  /// Stands in the reply direction only: found by its reply tuple, never by its original one.
  var isNATClash: Bool
  /// A resolved clash of this entry was already told.
  var isReported: Bool
  /// Source and destination of the reply tuple.
  var backend: Endpoint
  var repliedTo: Endpoint
  /// When the NEW was read; for an entry of a dump, when the dump was read.
  var newAt: Instant
  /// When the entry was last looked up or renewed.
  var usedAt: Instant
  var destroyedAt: Instant

  var original: FiveTuple { FiveTuple(udp: client, server) }
  var reply: FiveTuple { FiveTuple(udp: backend, repliedTo) }
}

/// Entries by original and by reply tuple, each with its zone. A cache of the kernel's table: the oldest go first when it is full.
///
/// A ring: each entry gets the next number and the place after the last one's, and what lay there goes. Chains run from newer to older numbers, so
/// that everything behind a number that has gone has gone as well: nothing is taken out of a chain, and an entry that goes costs nothing. What a
/// newer entry of the same original tuple and zone replaces stays until its number goes, and is passed over when it is looked for.
struct EntryTable: ~Copyable {
  /// Entries of one hash looked at: zones and former holders of a tuple, the newest first.
  static let longestWalk = 128
  private static var replacedAhead: UInt32 { 8 }

  struct Link: BitwiseCopyable {
    /// Number of the next older entry of the chain.
    var older: UInt32
    /// The lower half of the entry's hash: what has another need not be looked at in the table itself, which is far larger than the links.
    var tag: UInt32
  }

  private(set) var entries: FixedArray<Entry>
  private var originalHeads: FixedArray<UInt32>
  private var originalLinks: FixedArray<Link>
  private var replyHeads: FixedArray<UInt32>
  private var replyLinks: FixedArray<Link>
  let capacity: Int
  private let mask: UInt32
  private let bucketMask: UInt32
  private let seed: UInt64
  /// Number of the newest entry; wraps. The place of a number is its lower bits.
  private var newest: UInt32 = 0
  /// How many numbers, from the newest back, have not gone.
  private var held: UInt32 = 0
  private(set) var evictions: UInt64 = 0
  /// Evictions of entries younger than a race can be judged.
  private(set) var youngEvictions: UInt64 = 0

  init(capacity: Int, seed: UInt64) {
    precondition(capacity > 0 && capacity <= 1 << 30)
    var places = 1
    while places < capacity { places <<= 1 }
    self.capacity = capacity
    self.seed = seed
    mask = UInt32(places - 1)
    entries = FixedArray(count: places)
    // What is looked for is nearly always new, and so the first of its chain: fewer heads are fewer pages.
    let buckets = max(1, places / 4)
    bucketMask = UInt32(buckets - 1)
    originalHeads = FixedArray(count: buckets)
    originalLinks = FixedArray(count: places)
    replyHeads = FixedArray(count: buckets)
    replyLinks = FixedArray(count: places)
  }

  /// Entries held, the replaced ones included.
  var count: Int { Int(held) }

  @inline(__always) private func hash(_ source: Endpoint, _ destination: Endpoint) -> UInt64 {
    var hash = SeededHash(seed: seed)
    hash.combine(source.address.high, source.address.low)
    hash.combine(destination.address.high, destination.address.low)
    hash.combine(UInt64(source.port) << 16 | UInt64(destination.port))
    return hash.finish()
  }

  @inline(__always) private func tag(_ hash: UInt64) -> UInt32 { UInt32(truncatingIfNeeded: hash) }
  @inline(__always) private func bucket(_ tag: UInt32) -> Int { Int(tag & bucketMask) }
  @inline(__always) private func place(_ number: UInt32) -> Int32 { Int32(truncatingIfNeeded: number & mask) }

  /// The place of a linked entry, or -1 where the chain ends: at a number that has gone, or is not older than `age` says.
  @inline(__always) private func follow(_ number: UInt32, beyond age: inout UInt32) -> Int32 {
    let distance = newest &- number
    guard distance < held, distance >= age else { return -1 }
    age = distance &+ 1
    return place(number)
  }

  /// Asks for the places that `insert` will look up.
  mutating func prepare(_ event: inout ConntrackEvent) {
    // What the next of them replaces was written a round of the ring ago.
    entries.prefetch(place(newest &+ Self.replacedAhead), lines: 2)
    prefetch(originalFrom: event.original.source, to: event.original.destination)
    prefetch(replyFrom: event.reply.source, to: event.reply.destination)
  }

  /// Asks for the place where the chain of an original or a reply tuple begins.
  @inline(__always) func prefetch(originalFrom source: Endpoint, to destination: Endpoint) {
    originalHeads.prefetch(Int32(truncatingIfNeeded: bucket(tag(hash(source, destination)))))
  }
  @inline(__always) func prefetch(replyFrom source: Endpoint, to destination: Endpoint) {
    replyHeads.prefetch(Int32(truncatingIfNeeded: bucket(tag(hash(source, destination)))))
  }

  /// Enters a NEW, a dumped entry, or a NAT_CLASH entry; what held the same place before is replaced.
  mutating func insert(_ event: inout ConntrackEvent, isNATClash: Bool) -> Int32 {
    if event.kind == .dumped && !isNATClash {
      // A dump tells nothing new of an entry that stands; its time is that of its NEW.
      let former = find(original: event.original, zone: event.zone)
      if former >= 0 && !entries[former].isDestroyed && entries[former].reply == event.reply { return former }
    }
    if Int(held) == capacity { evictOldest(now: event.readAt) }
    newest &+= 1
    held += 1
    let slot = place(newest)
    entries[slot] = Entry(
      client: event.original.source, zone: event.zone, status: event.status, server: event.original.destination, isDumped: event.kind == .dumped,
      isDestroyed: false, isNATClash: isNATClash, isReported: false, backend: event.reply.source, repliedTo: event.reply.destination,
      newAt: event.readAt, usedAt: event.readAt, destroyedAt: .zero)
    if !isNATClash {
      let tag = tag(hash(event.original.source, event.original.destination))
      originalLinks[slot] = Link(older: originalHeads[bucket(tag)], tag: tag)
      originalHeads[bucket(tag)] = newest
    }
    let tag = tag(hash(event.reply.source, event.reply.destination))
    replyLinks[slot] = Link(older: replyHeads[bucket(tag)], tag: tag)
    replyHeads[bucket(tag)] = newest
    return slot
  }

  private mutating func evictOldest(now: Instant) {
    let slot = place(newest &- held &+ 1)
    held -= 1
    evictions &+= 1
    if now - entries[slot].newAt < 2 * Nanoseconds.perSecond { youngEvictions &+= 1 }
  }

  /// True if a newer entry has this one's original tuple and zone.
  @inline(__always) private mutating func isReplaced(_ slot: Int32) -> Bool {
    if entries[slot].isNATClash { return false }
    let number = newest &- ((newest &- UInt32(bitPattern: slot)) & mask)
    if originalHeads[bucket(originalLinks[slot].tag)] == number { return false }
    return isReplacedBySearch(slot)
  }

  @inline(never) private mutating func isReplacedBySearch(_ slot: Int32) -> Bool {
    find(original: entries[slot].original, zone: entries[slot].zone) != slot
  }

  /// The slot of an entry by how many were entered after it, or -1 where it has gone. Replaced ones are among them.
  func slot(age: UInt32) -> Int32 { age < held ? place(newest &- age) : -1 }

  mutating func markDestroyed(_ slot: Int32, at time: Instant, status: ConntrackStatus) {
    entries[slot].isDestroyed = true
    entries[slot].destroyedAt = time
    entries[slot].status = status
  }

  mutating func touch(_ slot: Int32, at time: Instant) { entries[slot].usedAt = time }
  mutating func markReported(_ slot: Int32) { entries[slot].isReported = true }

  /// The newest entry of this original tuple; any zone if `zone` is nil. -1 if there is none. NAT_CLASH entries are not found here.
  mutating func find(original tuple: FiveTuple, zone: UInt16?) -> Int32 {
    let tag = tag(hash(tuple.source, tuple.destination))
    var number = originalHeads[bucket(tag)]
    var age: UInt32 = 0
    var steps = 0
    while steps < Self.longestWalk {
      let slot = follow(number, beyond: &age)
      guard slot >= 0 else { break }
      let link = originalLinks[slot]
      if link.tag == tag {
        if entries[slot].client == tuple.source && entries[slot].server == tuple.destination && (zone == nil || entries[slot].zone == zone) {
          return slot
        }
        steps += 1
      }
      number = link.older
    }
    return -1
  }

  /// The newest entry with this reply tuple; any zone if `zone` is nil. -1 if there is none.
  mutating func find(reply tuple: FiveTuple, zone: UInt16?, natClash: Bool? = nil) -> Int32 {
    let tag = tag(hash(tuple.source, tuple.destination))
    var number = replyHeads[bucket(tag)]
    var age: UInt32 = 0
    var steps = 0
    while steps < Self.longestWalk {
      let slot = follow(number, beyond: &age)
      guard slot >= 0 else { break }
      let link = replyLinks[slot]
      if link.tag == tag {
        if hasReply(slot, tuple) && (zone == nil || entries[slot].zone == zone) && (natClash == nil || entries[slot].isNATClash == natClash)
          && !isReplaced(slot)
        {
          return slot
        }
        steps += 1
      }
      number = link.older
    }
    return -1
  }

  /// True if the entry in this place, whichever it is by now, has this reply tuple.
  @inline(__always) mutating func hasReply(_ slot: Int32, _ tuple: FiveTuple) -> Bool {
    entries[slot].backend == tuple.source && entries[slot].repliedTo == tuple.destination
  }

  /// True if live entries of several zones have this reply tuple: it tells no zone then.
  mutating func isInSeveralZones(reply tuple: FiveTuple) -> Bool {
    let tag = tag(hash(tuple.source, tuple.destination))
    var zone: UInt16?
    var number = replyHeads[bucket(tag)]
    var age: UInt32 = 0
    var steps = 0
    while steps < Self.longestWalk {
      let slot = follow(number, beyond: &age)
      guard slot >= 0 else { return false }
      let link = replyLinks[slot]
      if link.tag == tag {
        steps += 1
        if hasReply(slot, tuple) && !entries[slot].isDestroyed && !isReplaced(slot) {
          if let zone, zone != entries[slot].zone { return true }
          zone = entries[slot].zone
        }
      }
      number = link.older
    }
    // Too many to look at: nothing is learned from them.
    return true
  }

  mutating func removeAll() {
    held = 0
  }
}
