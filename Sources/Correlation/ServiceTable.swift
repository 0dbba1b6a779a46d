import Flows

/// What entries taught about one server address and one backend behind it.
struct ServiceRow: BitwiseCopyable {
  var service: Endpoint
  var backend: Endpoint
  /// The node's address in the reply tuples, where clients are masqueraded on this way; unspecified where they are not.
  var masqueradeAddress: IPAddress
  var seenAt: Instant
  var hash: UInt64
  /// Masqueraded entries that kept the client's port, and that got another.
  var keptPort: UInt32
  var changedPort: UInt32

  /// Ports are chosen at random here (`--random-fully`): what tuple a client would have got cannot be foreseen.
  var hasRandomPorts: Bool { changedPort > 4 && changedPort / 4 > keptPort }
}

/// Server address -> backends, learned from entries whose destination or source is translated.
struct ServiceTable: ~Copyable {
  /// Rows looked at per server address; a service with more backends keeps its newest.
  static let widest = 64

  private(set) var rows: FixedArray<ServiceRow>
  private var pool: SlotPool
  private var byService: ChainIndex
  private var oldest = 0
  /// The row learned last: nearly always the one learned next.
  private var latest: Int32 = 0
  private let seed: UInt64
  private(set) var evictions: UInt64 = 0

  init(capacity: Int, seed: UInt64) {
    rows = FixedArray(count: capacity)
    pool = SlotPool(capacity: capacity)
    byService = ChainIndex(capacity: capacity)
    self.seed = seed
  }

  var count: Int { pool.used }
  var capacity: Int { pool.capacity }

  @inline(__always) private func hash(_ service: Endpoint) -> UInt64 {
    var hash = SeededHash(seed: seed)
    hash.combine(service)
    return hash.finish()
  }

  /// The first row of a server address, or -1; continue with `after`.
  mutating func first(_ service: Endpoint) -> Int32 { match(byService.first(hash(service)), service) }
  mutating func after(_ row: Int32) -> Int32 { match(byService.after(row), rows[row].service) }

  private mutating func match(_ start: Int32, _ service: Endpoint) -> Int32 {
    var row = start
    var steps = 0
    while row >= 0 && steps < Self.widest {
      if rows[row].service == service { return row }
      row = byService.after(row)
      steps += 1
    }
    return -1
  }

  mutating func find(_ service: Endpoint, backend: Endpoint) -> Int32 {
    var row = first(service)
    while row >= 0 {
      if rows[row].backend == backend { return row }
      row = after(row)
    }
    return -1
  }

  /// The oldest row of a service that has as many as are kept; -1 where there is room.
  private mutating func spare(_ service: Endpoint) -> Int32 {
    var row = first(service)
    var number = 0
    while row >= 0 {
      number += 1
      let next = after(row)
      if next < 0 { return number >= Self.widest ? row : -1 }
      row = next
    }
    return -1
  }

  /// True if the server address was seen to be translated to another.
  mutating func isTranslated(_ service: Endpoint) -> Bool {
    var row = first(service)
    while row >= 0 {
      if rows[row].backend != service { return true }
      row = after(row)
    }
    return false
  }

  mutating func isMasqueradedAtRandom(_ service: Endpoint) -> Bool {
    var row = first(service)
    while row >= 0 {
      if rows[row].hasRandomPorts { return true }
      row = after(row)
    }
    return false
  }

  /// Learns from an entry. Entries without translation teach nothing.
  mutating func learn(_ event: inout ConntrackEvent) {
    let sourceTranslated = event.isSourceTranslated
    guard sourceTranslated || event.isDestinationTranslated else { return }
    let service = event.original.destination
    let backend = event.reply.source
    // A port remapped to dodge a clash keeps the address and is no masquerading.
    let masquerade = event.reply.destination.address == event.original.source.address ? IPAddress.unspecified : event.reply.destination.address
    let isLatest = rows[latest].backend == backend && rows[latest].service == service
    var row = isLatest ? latest : find(service, backend: backend)
    latest = max(0, row)
    if row < 0 {
      row = takeSlot(service)
      let hash = hash(service)
      rows[row] = ServiceRow(
        service: service, backend: backend, masqueradeAddress: masquerade, seenAt: event.readAt, hash: hash, keptPort: 0, changedPort: 0)
      byService.insert(row, hash: hash)
    }
    rows[row].seenAt = event.readAt
    if masquerade != .unspecified {
      rows[row].masqueradeAddress = masquerade
      if event.reply.destination.port == event.original.source.port { rows[row].keptPort &+= 1 } else { rows[row].changedPort &+= 1 }
      if rows[row].keptPort > 1 << 20 || rows[row].changedPort > 1 << 20 {
        rows[row].keptPort /= 2
        rows[row].changedPort /= 2
      }
    }
  }

  private mutating func takeSlot(_ service: Endpoint) -> Int32 {
    let spare = spare(service)
    if spare >= 0 {
      byService.remove(spare, hash: rows[spare].hash)
      return spare
    }
    if let slot = pool.take() { return slot }
    // At the cap the rows are replaced in turn.
    let slot = Int32(oldest)
    oldest = (oldest + 1) % pool.capacity
    evictions &+= 1
    byService.remove(slot, hash: rows[slot].hash)
    return slot
  }
}
