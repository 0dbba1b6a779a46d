import Flows

/// Which backends a service gave its clients lately, as far as one of them is concerned: was it chosen, or has the service left it?
///
/// Entries are taken from the newest to the oldest. Where the choice is bound to the client's address (session affinity) an entry is mostly no choice:
/// a client goes on getting what it was given once, perhaps before the backend in question was there, and something else when its affinity has ended.
/// Then only a client's change from one backend to another is a choice. Each entry is one where affinity is refuted: it lasts a second at least, and
/// each entry renews it, so who changes twice within a second is not bound.
struct BackendChoices {
  /// The shortest session affinity (`timeoutSeconds: 1` of a Kubernetes service), less what events may be late.
  private static let shortestAffinity = 9 * Nanoseconds.perSecond / 10

  /// The one that may be gone.
  private let leaving: Endpoint
  /// When it was last chosen; `.zero` while no such entry was taken.
  private var lastChosen = Instant.zero
  /// Entries made since, and changes among them.
  private var entries = 0
  private var changes = 0
  private var backends: InlineArray<16, Endpoint> = .init(repeating: .none)
  private var backendCount = 0
  private var clients: InlineArray<256, Client> = .init(repeating: Client())
  private(set) var isRotating = false

  private struct Client: BitwiseCopyable {
    var address = IPAddress.unspecified
    /// Its entry that was taken last: the next newer one.
    var chosen = Endpoint.none
    var chosenAt = Instant.zero
    /// When it got something else than before, the last time of which the older side was taken; `.zero` if never.
    var changedAt = Instant.zero
  }

  init(leaving backend: Endpoint) { leaving = backend }

  /// The backend that may be gone was chosen here: what is older tells only how the service chooses.
  var isComplete: Bool { lastChosen != .zero }

  mutating func add(_ backend: Endpoint, by address: IPAddress, at time: Instant) {
    if !isComplete && backend != leaving {
      entries += 1
      var known = 0
      while known < min(backendCount, 16) && backends[known] != backend { known += 1 }
      if known == min(backendCount, 16) {
        if backendCount < 16 { backends[backendCount] = backend }
        backendCount += 1
      }
    }
    let place = Int(((address.high ^ address.low) &* 0x9E37_79B9_7F4A_7C15) >> 56)
    // Of two clients in one place one is counted; for how the service chooses any will do, once there is nothing more to count.
    if clients[place].address != address && (isComplete || clients[place].address == .unspecified) { clients[place] = Client(address: address) }
    if clients[place].address == address { note(backend, at: time, of: place) }
    if backend == leaving { complete(at: time) }
  }

  mutating func complete(at time: Instant) {
    if !isComplete { lastChosen = time }
  }

  private mutating func note(_ backend: Endpoint, at time: Instant, of place: Int) {
    let newer = clients[place]
    if newer.chosenAt != .zero && newer.chosen != backend {
      if newer.chosenAt > lastChosen { changes += 1 }
      if newer.changedAt != .zero && newer.changedAt - time <= Self.shortestAffinity { isRotating = true }
      clients[place].changedAt = newer.chosenAt
    }
    clients[place].chosen = backend
    clients[place].chosenAt = time
  }

  /// Choices that are needed for chance to pass over one of the backends less than once in a million times.
  ///
  /// With n backends that are chosen at random and k choices it is (1 - 1/n)^k, below 1e-6 from k = 14n - 7 on.
  private var needed: Int { 14 * (backendCount + 1) - 7 }

  /// True if the entries are enough, should each be a choice.
  var mayBeEnough: Bool { backendCount > 0 && entries >= needed }
  var areAllElsewhere: Bool { backendCount > 0 && (isRotating ? entries : changes) >= needed }
}

extension Engine {
  /// Entries looked at for one answer, and answers a second: bounds what a flood of losses can cost.
  private static let longestLook: UInt32 = 8192
  private static let looksPerSecond = 32

  /// True if the transmission went to a backend that its service had left by then: over an entry of before, while all newer entries of the
  /// service go elsewhere, and nothing came from that backend since.
  mutating func isStale(_ transmission: Transmission) -> Bool {
    let backend = transmission.sentDestination
    guard transmission.wasSent, transmission.vantage == .client, backend != transmission.server,
      backends.answeredAt(backend) <= transmission.asked
    else { return false }
    let own = entries.find(original: transmission.originalTuple, zone: nil)
    guard own >= 0, entries.entries[own].reply == transmission.sentTuple.inverse, entries.entries[own].newAt < transmission.asked,
      !entries.entries[own].isDestroyed || entries.entries[own].destroyedAt > transmission.asked
    else { return false }
    let second = now.nanoseconds / Nanoseconds.perSecond
    if second != lookSecond {
      lookSecond = second
      looks = 0
      leftBackend = .none
    }
    // Left by then is left later, too.
    if leftBackend == backend && leftService == transmission.server && transmission.asked >= leftBy { return true }
    guard looks < Self.looksPerSecond else { return false }
    looks += 1
    guard areAllElsewhere(transmission) else { return false }
    leftBackend = backend
    leftService = transmission.server
    leftBy = transmission.asked
    return true
  }

  private mutating func areAllElsewhere(_ transmission: Transmission) -> Bool {
    let backend = transmission.sentDestination
    var choices = BackendChoices(leaving: backend)
    var age: UInt32 = 0
    while age < Self.longestLook && !(choices.isComplete && choices.isRotating) {
      let slot = entries.slot(age: age)
      if slot < 0 { break }
      age += 1
      let entry = entries.entries[slot]
      guard entry.server == transmission.server else { continue }
      // A choice of it after this query was asked: it is no stale one.
      if entry.backend == backend && entry.newAt >= transmission.asked { return false }
      // When an entry of a dump was made nobody knows.
      if !entry.isDumped && !entry.isNATClash && entry.newAt < transmission.asked {
        choices.add(entry.backend, by: entry.client.address, at: entry.newAt)
      } else if entry.backend == backend {
        choices.complete(at: entry.newAt)
      }
      if choices.isComplete && !choices.mayBeEnough { return false }
    }
    return choices.areAllElsewhere
  }

  /// A sibling that raced with this one was answered over another device, from the same backend: a policy engine's queue (NFQUEUE before 6.12)
  /// gave this one the sibling's translation after it had been routed for its own (`__nf_conntrack_update` in net/netfilter/nf_conntrack_core.c
  /// at v6.1).
  mutating func noteOtherDevice(_ slot: Int32) {
    let mine = transmissions.slots[slot]
    guard mine.wasSent, !mine.hasCome, mine.hasSibling, !mine.isHostClient, mine.sentDestination != mine.server else { return }
    let own = entries.find(original: mine.originalTuple, zone: nil)
    guard own >= 0, entries.entries[own].reply == mine.sentTuple.inverse else { return }
    var other = transmissions.first(socket: mine.socketKey)
    var steps = 0
    while other >= 0, steps < TransmissionTable.longestWalk {
      let winner = transmissions.slots[other]
      if other != slot && winner.client == mine.client && winner.server == mine.server && winner.wasSent && winner.hasCome
        && winner.sentTuple == mine.sentTuple && winner.sentInterface != mine.sentInterface && winner.sent <= mine.sent
        && (winner.asked - mine.asked).magnitude <= UInt64(Self.lookupTime) && entries.entries[own].newAt >= min(winner.asked, mine.asked)
      {
        transmissions.slots[slot].signs.marks.insert(.otherDevice)
        return
      }
      other = transmissions.after(socket: other)
      steps += 1
    }
  }

  /// True if it left by a device over which no query to this backend was answered, while others were.
  func isMisrouted(_ transmission: Transmission) -> Bool {
    transmission.signs.marks.contains(.otherDevice)
      && backends.isAnswered(
        transmission.sentDestination, otherThanOver: transmission.sentInterface, since: transmission.asked + (-PathTable.memory))
  }
}
