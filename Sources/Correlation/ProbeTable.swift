import Flows

/// A drop that the kernel probe saw, until it is matched with its transmission and judged.
struct ProbeDrop: BitwiseCopyable {
  var observation: ProbeObservation
  var socketKey: UInt64
  /// The transmission that was dropped; -1 while its first copy has not been seen, -2 where there was no room for it or where it was no query.
  var transmission: Int32
  var generation: UInt32
}

/// What the probe saw dropped, by client socket and in order of time. A drop leaves when it was counted for the counter history, half a second on.
struct ProbeTable: ~Copyable {
  static let capacity = 8192

  var drops = FixedArray<ProbeDrop>(count: capacity)
  private var pool = SlotPool(capacity: capacity)
  private var bySocket = ChainIndex(capacity: capacity)
  private var queue = Ring<QueuedSlot>(capacity: capacity)
  /// Drops whose transmission was not seen yet.
  private(set) var waiting = 0
  /// Drops for which there was no room.
  private(set) var refused: UInt64 = 0

  init() {}

  var count: Int { pool.used }

  var first: QueuedSlot? { mutating get { queue.first } }

  /// A slot for a drop without a transmission; nil at the cap.
  mutating func enter(_ observation: ProbeObservation, socketKey: UInt64) -> Int32? {
    guard let slot = pool.take() else {
      refused &+= 1
      return nil
    }
    let generation = drops[slot].generation &+ 1
    drops[slot] = ProbeDrop(observation: observation, socketKey: socketKey, transmission: -1, generation: generation)
    bySocket.insert(slot, hash: socketKey)
    waiting += 1
    // As many items as slots: it has room.
    _ = queue.append(QueuedSlot(slot: slot, generation: generation, asked: observation.time))
    return slot
  }

  /// Enters a drop that was nobody's query: it moved the counters as any other. What queries need is left to them.
  mutating func enterForeign(_ observation: ProbeObservation, socketKey: UInt64) {
    guard count < Self.capacity / 2 else {
      refused &+= 1
      return
    }
    if let slot = enter(observation, socketKey: socketKey) { match(slot, with: -2) }
  }

  mutating func match(_ slot: Int32, with transmission: Int32) {
    drops[slot].transmission = transmission
    waiting -= 1
  }

  /// The drop of this query that waits for its first copy: the oldest that is not older than the copy. -1 if there is none.
  func waiting(socketKey: UInt64, client: Endpoint, server: Endpoint, dns: DNSMessage, asked: Instant) -> Int32 {
    var found: Int32 = -1
    var slot = bySocket.first(socketKey)
    var steps = 0
    while slot >= 0, steps < TransmissionTable.longestWalk {
      let drop = drops[slot].observation
      if drops[slot].transmission == -1 && drop.original.source == client && drop.original.destination == server && drop.dns.id == dns.id
        && drop.dns.questionHash == dns.questionHash && asked - drop.time <= Engine.probeClockSlack
        && drop.time - asked < Engine.forwardingTime
      {
        found = slot
      }
      slot = bySocket.after(slot)
      steps += 1
    }
    return found
  }

  /// Takes the oldest drop out. True if it never found its transmission.
  mutating func removeFirst() -> Bool {
    guard let item = queue.first else { return false }
    queue.removeFirst()
    let isUnmatched = drops[item.slot].transmission == -1
    if isUnmatched { waiting -= 1 }
    bySocket.remove(item.slot, hash: drops[item.slot].socketKey)
    pool.give(back: item.slot)
    return isUnmatched
  }
}
