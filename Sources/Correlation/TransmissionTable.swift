import Flows

/// Transmissions by question (ID, name, type) and by client socket.
struct TransmissionTable: ~Copyable {
  /// Chain steps looked at before giving up: bounds what one packet can cost, whatever is sent.
  static let longestWalk = 128

  var slots: FixedArray<Transmission>
  private var pool: SlotPool
  /// By question, and in the second place by socket.
  private var index: ChainIndex
  private var byStalled: ChainIndex
  private let seed: UInt64
  private(set) var stalled = 0

  init(capacity: Int, seed: UInt64) {
    slots = FixedArray(count: capacity)
    pool = SlotPool(capacity: capacity)
    // Fewer buckets are fewer pages, but each that is taken already costs a look at the links of who took it: at 10,000 queries/s one in seven.
    index = ChainIndex(capacity: capacity, buckets: capacity / 4, isDouble: true)
    byStalled = ChainIndex(capacity: capacity)
    self.seed = seed
  }

  var count: Int { pool.used }
  var capacity: Int { pool.capacity }
  /// Slots at and above this one were never used.
  var touched: Int { pool.touched }

  /// A question's hash is keyed already. The multiplier is odd: of one name, other IDs have other keys, in the lower half as well.
  @inline(__always) func questionKey(id: UInt16, questionHash: UInt64) -> UInt64 {
    questionHash &+ UInt64(id) &* 0x9E37_79B9_7F4A_7C15
  }

  @inline(__always) func socketKey(_ client: Endpoint) -> UInt64 {
    var hash = SeededHash(seed: seed)
    hash.combine(client.address.high, client.address.low)
    hash.combine(UInt64(client.port))
    return hash.finish()
  }

  /// A slot whose fields all hold "nothing" but the generation; nil at the cap.
  mutating func take(client: Endpoint, dns: DNSMessage) -> Int32? {
    guard let slot = pool.take() else { return nil }
    let socketKey = socketKey(client)
    slots[slot].begin(client: client, dns: dns, socketKey: socketKey, slot: slot)
    index.insert(slot, hash: questionKey(id: dns.id, questionHash: dns.questionHash), .first)
    index.insert(slot, hash: socketKey, .second)
    return slot
  }

  mutating func give(back slot: Int32) {
    if slots[slot].isStalled { unmarkStalled(slot) }
    index.remove(slot, hash: questionKey(id: slots[slot].dnsID, questionHash: slots[slot].questionHash), .first)
    index.remove(slot, hash: slots[slot].socketKey, .second)
    slots[slot].state = .free
    pool.give(back: slot)
  }

  /// Newest first; another key may share bucket and tag, so the caller compares.
  @inline(__always) func first(question key: UInt64) -> Int32 { index.match(index.first(key, .first), key, .first) }
  @inline(__always) func after(question slot: Int32) -> Int32 { index.nextAlike(slot, .first) }
  @inline(__always) func first(socket key: UInt64) -> Int32 { index.match(index.first(key, .second), key, .second) }
  @inline(__always) func after(socket slot: Int32) -> Int32 { index.nextAlike(slot, .second) }

  /// Asks for the place where a chain begins.
  @inline(__always) func prefetch(question key: UInt64) { index.prefetch(key, .first) }
  @inline(__always) func prefetch(socket key: UInt64) { index.prefetch(key, .second) }

  /// Asks for the slot that a transmission gets which opens soon.
  @inline(__always) mutating func prefetchUpcoming() {
    let slot = pool.upcoming(Self.openedAhead)
    slots.prefetch(slot, lines: 4)
    index.prefetch(link: slot)
  }
  /// About so many are opened between a query's decoding and its turn.
  private static var openedAhead: Int { 2 }

  /// Asks for what giving back a slot looks at, whose own lines are there.
  @inline(__always) mutating func prefetchChains(_ slot: Int32) {
    index.prefetch(questionKey(id: slots[slot].dnsID, questionHash: slots[slot].questionHash), .first)
    index.prefetch(slots[slot].socketKey, .second)
    index.prefetch(link: slot)
  }

  /// Client address and name of a query that waits: where an attempt from another port looks for its predecessor.
  func stalledKey(_ client: IPAddress, _ nameHash: UInt64) -> UInt64 {
    var hash = SeededHash(seed: seed)
    hash.combine(client)
    hash.combine(nameHash)
    return hash.finish()
  }

  func first(stalled key: UInt64) -> Int32 { byStalled.first(key) }
  func after(stalled slot: Int32) -> Int32 { byStalled.after(slot) }

  mutating func markStalled(_ slot: Int32) {
    guard !slots[slot].isStalled else { return }
    let key = stalledKey(slots[slot].client.address, slots[slot].nameHash)
    slots[slot].stalledKey = key
    slots[slot].isStalled = true
    byStalled.insert(slot, hash: key)
    stalled += 1
  }

  mutating func unmarkStalled(_ slot: Int32) {
    byStalled.remove(slot, hash: slots[slot].stalledKey)
    slots[slot].isStalled = false
    stalled -= 1
  }
}
