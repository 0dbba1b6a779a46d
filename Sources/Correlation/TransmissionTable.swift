import Flows

/// Transmissions by question (ID, name, type) and by client socket.
struct TransmissionTable: ~Copyable {
  /// Chain steps looked at before giving up: bounds what one packet can cost, whatever is sent.
  static let longestWalk = 128

  var slots: FixedArray<Transmission>
  private var pool: SlotPool
  private var byQuestion: ChainIndex
  private var bySocket: ChainIndex
  private var byStalled: ChainIndex
  private let seed: UInt64
  private(set) var stalled = 0

  init(capacity: Int, seed: UInt64) {
    slots = FixedArray(count: capacity)
    pool = SlotPool(capacity: capacity)
    // A quarter of the slots is more than is open at 10,000 queries/s: fewer buckets stay in the cache, and the links tell keys apart.
    byQuestion = ChainIndex(capacity: capacity, buckets: capacity / 4)
    bySocket = ChainIndex(capacity: capacity, buckets: capacity / 4)
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
    byQuestion.insert(slot, hash: questionKey(id: dns.id, questionHash: dns.questionHash))
    bySocket.insert(slot, hash: socketKey)
    return slot
  }

  mutating func give(back slot: Int32) {
    if slots[slot].isStalled { unmarkStalled(slot) }
    byQuestion.remove(slot, hash: questionKey(id: slots[slot].dnsID, questionHash: slots[slot].questionHash))
    bySocket.remove(slot, hash: slots[slot].socketKey)
    slots[slot].state = .free
    pool.give(back: slot)
  }

  /// Newest first; another key may share bucket and tag, so the caller compares.
  @inline(__always) func first(question key: UInt64) -> Int32 { byQuestion.match(byQuestion.first(key), key) }
  @inline(__always) func after(question slot: Int32) -> Int32 { byQuestion.nextAlike(slot) }
  @inline(__always) func first(socket key: UInt64) -> Int32 { bySocket.match(bySocket.first(key), key) }
  @inline(__always) func after(socket slot: Int32) -> Int32 { bySocket.nextAlike(slot) }

  /// Asks for the place where a chain begins.
  @inline(__always) func prefetch(question key: UInt64) { byQuestion.prefetch(key) }
  @inline(__always) func prefetch(socket key: UInt64) { bySocket.prefetch(key) }

  /// Asks for the slot that a transmission gets which opens soon.
  @inline(__always) func prefetchUpcoming() { slots.prefetch(pool.upcoming(Self.openedAhead), lines: 4) }
  /// About so many are opened between a query's decoding and its turn.
  private static var openedAhead: Int { 2 }

  /// Asks for what giving back a slot looks at, whose own lines are there.
  @inline(__always) mutating func prefetchChains(_ slot: Int32) {
    byQuestion.prefetch(questionKey(id: slots[slot].dnsID, questionHash: slots[slot].questionHash))
    byQuestion.prefetch(link: slot)
    bySocket.prefetch(slots[slot].socketKey)
    bySocket.prefetch(link: slot)
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
