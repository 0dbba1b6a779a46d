import Flows

/// Which backends a service gave its clients lately, as far as one of them is concerned: was it chosen, or has the service left it?
struct BackendChoices {
  /// Entries made since the backend was last chosen.
  private var entries = 0
  private var backends: InlineArray<16, Endpoint> = .init(repeating: .none)
  private var backendCount = 0
  private var clients: InlineArray<64, IPAddress> = .init(repeating: .unspecified)
  private var chosenBy: InlineArray<64, Endpoint> = .init(repeating: .none)
  private var clientCount = 0
  /// A client got one backend and then another: the choice is not bound to the client's address.
  private var isRotating = false

  /// - Parameters:
  ///   - backend: the one that may be gone.
  ///   - client: who was given it.
  init(leaving backend: Endpoint, by client: IPAddress) { note(backend, by: client) }

  mutating func add(_ backend: Endpoint, by client: IPAddress) {
    entries += 1
    var known = 0
    while known < min(backendCount, 16) && backends[known] != backend { known += 1 }
    if known == min(backendCount, 16) {
      if backendCount < 16 { backends[backendCount] = backend }
      backendCount += 1
    }
    note(backend, by: client)
  }

  private mutating func note(_ backend: Endpoint, by client: IPAddress) {
    let place = Int(((client.high ^ client.low) &* 0x9E37_79B9_7F4A_7C15) >> 58)
    if clients[place] == client {
      if chosenBy[place] != backend { isRotating = true }
    } else if clients[place] == .unspecified {
      clients[place] = client
      chosenBy[place] = backend
      clientCount += 1
    }
  }

  /// True if chance would pass over one of the backends so often less than once in a million times.
  ///
  /// With n backends that are chosen at random and k choices it is (1 - 1/n)^k, below 1e-6 from k = 14n - 7 on. Where the choice may be bound to the
  /// client's address (session affinity), each client chooses once.
  var areAllElsewhere: Bool {
    let choices = isRotating ? entries : clientCount - 1
    return backendCount > 0 && choices >= 14 * (backendCount + 1) - 7
  }
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
    var choices = BackendChoices(leaving: backend, by: transmission.client.address)
    var age: UInt32 = 0
    while age < Self.longestLook {
      let slot = entries.slot(age: age)
      if slot < 0 { break }
      age += 1
      guard entries.entries[slot].server == transmission.server else { continue }
      if entries.entries[slot].backend == backend {
        // A choice of it after this query was asked: it is no stale one.
        return entries.entries[slot].newAt < transmission.asked && choices.areAllElsewhere
      }
      // When an entry of a dump was made nobody knows.
      guard !entries.entries[slot].isDumped, !entries.entries[slot].isNATClash, entries.entries[slot].newAt < transmission.asked else { continue }
      choices.add(entries.entries[slot].backend, by: entries.entries[slot].client.address)
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
