import Flows

/// One datagram that a client sent, from its first copy to its end, and, in the first of a query's attempts, the query itself.
struct Transmission: BitwiseCopyable {
  enum State: UInt8, BitwiseCopyable {
    case free
    /// Its fate is open.
    case open
    case answered
    case lost
  }

  // The key.
  var client: Endpoint
  var server: Endpoint
  var questionHash: UInt64
  var nameHash: UInt64
  var dnsID: UInt16
  var queryType: UInt16
  var state: State
  var vantage: Vantage
  /// False for a query that came in over an uplink and was not yet seen to go to a local backend: neither counted nor judged.
  var isVantageSettled: Bool
  /// Of a lost one: what was said of it.
  var verdict: Verdict
  var reason: Reason
  var grade: Grade
  /// No ingress copy: the client is a process of the node itself.
  var isHostClient: Bool
  /// The (translated) server is an address of this node: there is no sent leg.
  var isLocalServer: Bool
  var generation: UInt32

  // Hashes of the indexes.
  var questionKey: UInt64
  var socketKey: UInt64

  // Legs; `.zero` is "not seen".
  var asked: Instant
  var askedWall: WallTime
  var sent: Instant
  var came: Instant
  var delivered: Instant
  /// An outgoing copy of the answer from another address than the one asked.
  var untranslated: Instant
  var askedInterface: UInt32
  var sentInterface: UInt32
  var cameInterface: UInt32
  var deliveredInterface: UInt32
  /// The tuple of the sent leg.
  var sentSource: Endpoint
  var sentDestination: Endpoint
  /// More than one transmission could have been the one that was sent: what is concluded from "not sent" is a guess.
  var isSentAmbiguous: Bool

  // Evidence for a failed insertion, found half a second after it was asked.
  /// Number in the counter history, or -1.
  var candidate: Int32

  // Name.
  var name: Int32
  var nameLength: UInt8

  // The query: links from every attempt to the first, and its state there.
  var head: Int32
  var attempt: UInt32
  var attempts: UInt32
  /// Attempts beside the head that still have a slot.
  var openAttempts: UInt32
  var lostAttempts: UInt32
  var lastAsked: Instant
  /// When an attempt's answer was delivered; `.zero` if none was.
  var accepted: Instant
  /// Another server or copy answered the same question of this socket.
  var isAnsweredElsewhere: Bool
  /// Another transmission of this socket asks the same question of another server.
  var hasTwin: Bool
  /// The head's own time is over; it stays for its attempts.
  var isRetired: Bool
  /// An attempt from another port was joined.
  var isJoined: Bool
  var isStalled: Bool
  /// The stalled query that this one retries from another port, and its generation.
  var joins: Int32
  var joinsGeneration: UInt32
  var stalledKey: UInt64
  var incidentID: UInt64
  var firstVerdict: Verdict
  var firstReason: Reason
  var firstGrade: Grade
  var firstEvidence: Evidence
  /// `socketKey` and `askedWall`, or those of the query that this one retries from another port: what the lookup is known by.
  var lookupSocket: UInt64
  var lookupTime: WallTime
  var siblingID: UInt16
  var siblingType: UInt16
  var hasSibling: Bool

  var originalTuple: FiveTuple { FiveTuple(udp: client, server) }
  var sentTuple: FiveTuple { FiveTuple(udp: sentSource, sentDestination) }
  var wasSent: Bool { sent != .zero }
  var hasCome: Bool { came != .zero }
  var wasDelivered: Bool { delivered != .zero }
}

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
    byQuestion = ChainIndex(capacity: capacity)
    bySocket = ChainIndex(capacity: capacity)
    byStalled = ChainIndex(capacity: capacity)
    self.seed = seed
  }

  var count: Int { pool.used }
  var capacity: Int { pool.capacity }
  /// Slots at and above this one were never used.
  var touched: Int { pool.touched }

  @inline(__always) func questionKey(id: UInt16, questionHash: UInt64) -> UInt64 {
    var hash = SeededHash(seed: seed)
    hash.combine(questionHash)
    hash.combine(UInt64(id))
    return hash.finish()
  }

  @inline(__always) func socketKey(_ client: Endpoint) -> UInt64 {
    var hash = SeededHash(seed: seed)
    hash.combine(client)
    return hash.finish()
  }

  /// A slot whose fields all hold "nothing" but the generation; nil at the cap.
  mutating func take(client: Endpoint, dns: DNSMessage) -> Int32? {
    guard let slot = pool.take() else { return nil }
    let generation = slots[slot].generation &+ 1
    let questionKey = questionKey(id: dns.id, questionHash: dns.questionHash)
    let socketKey = socketKey(client)
    slots[slot] = Transmission(
      client: client, server: .none, questionHash: dns.questionHash, nameHash: dns.nameHash, dnsID: dns.id, queryType: dns.queryType, state: .open,
      vantage: .client, isVantageSettled: true, verdict: .unknown, reason: .none, grade: .inferred,
      isHostClient: false, isLocalServer: false, generation: generation, questionKey: questionKey,
      socketKey: socketKey, asked: .zero, askedWall: WallTime(nanoseconds: 0), sent: .zero, came: .zero, delivered: .zero, untranslated: .zero,
      askedInterface: 0, sentInterface: 0, cameInterface: 0, deliveredInterface: 0, sentSource: .none, sentDestination: .none,
      isSentAmbiguous: false, candidate: -1, name: 0, nameLength: 0, head: slot, attempt: 1, attempts: 1, openAttempts: 0, lostAttempts: 0,
      lastAsked: .zero, accepted: .zero, isAnsweredElsewhere: false, hasTwin: false, isRetired: false, isJoined: false, isStalled: false,
      joins: -1, joinsGeneration: 0, stalledKey: 0, incidentID: 0, firstVerdict: .unknown, firstReason: .none, firstGrade: .inferred,
      firstEvidence: [],
      lookupSocket: socketKey, lookupTime: WallTime(nanoseconds: 0), siblingID: 0, siblingType: 0, hasSibling: false)
    byQuestion.insert(slot, hash: questionKey)
    bySocket.insert(slot, hash: socketKey)
    return slot
  }

  mutating func give(back slot: Int32) {
    if slots[slot].isStalled { unmarkStalled(slot) }
    byQuestion.remove(slot, hash: slots[slot].questionKey)
    bySocket.remove(slot, hash: slots[slot].socketKey)
    slots[slot].state = .free
    pool.give(back: slot)
  }

  /// Newest first; another key may share the bucket, so the caller compares.
  @inline(__always) func first(question key: UInt64) -> Int32 { byQuestion.first(key) }
  @inline(__always) func after(question slot: Int32) -> Int32 { byQuestion.after(slot) }
  @inline(__always) func first(socket key: UInt64) -> Int32 { bySocket.first(key) }
  @inline(__always) func after(socket slot: Int32) -> Int32 { bySocket.after(slot) }

  /// Client address and question of a query that waits: where an attempt from another port looks for its predecessor.
  func stalledKey(_ client: IPAddress, _ questionHash: UInt64) -> UInt64 {
    var hash = SeededHash(seed: seed)
    hash.combine(client)
    hash.combine(questionHash)
    return hash.finish()
  }

  func first(stalled key: UInt64) -> Int32 { byStalled.first(key) }
  func after(stalled slot: Int32) -> Int32 { byStalled.after(slot) }

  mutating func markStalled(_ slot: Int32) {
    guard !slots[slot].isStalled else { return }
    let key = stalledKey(slots[slot].client.address, slots[slot].questionHash)
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
