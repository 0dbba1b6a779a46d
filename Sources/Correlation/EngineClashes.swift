import Flows

extension Engine {
  /// Looks for who could have taken the tuple that an unsent transmission needed, in its zone only.
  ///
  /// A race needs this order: the loser was asked before the winner was inserted, and the winner was inserted before it was sent. So a winner
  /// that had left before the loser came is none (nf_nat would have seen it and taken another port: net/netfilter/nf_nat_core.c,
  /// `get_unique_tuple`).
  mutating func findClash(_ slot: Int32) -> ClashEvidence {
    let transmission = transmissions.slots[slot]
    let zone = node.zone(of: transmission.askedInterface)
    let own = findOwn(transmission, slot, zone: zone)
    switch own.kind {
    case .ownEntry:
      return own
    case .original:
      // A sibling's entry of the same original tuple hides no race that was lost before the sibling left: musl asks two servers A, A, AAAA, AAAA
      // from one socket, and the second AAAA makes the entry that the second A did not get.
      let held = findHolder(transmission, zone: zone, sentBy: own.winnerSent)
      return held.kind == .reply || held.kind == .source ? held : own
    case .earlierEntry where own.isCertain:
      return own
    default:
      // An entry that may be dead explains less than one that holds its tuple now.
      let held = findHolder(transmission, zone: zone, sentBy: .distantFuture)
      return own.kind == .earlierEntry && !held.isCandidate ? own : held
    }
  }

  /// Who holds the reply tuple that the transmission would have got, and was sent by the time given.
  private mutating func findHolder(_ transmission: Transmission, zone: UInt16, sentBy last: Instant) -> ClashEvidence {
    var best = ClashEvidence()
    var row = services.first(transmission.server)
    if row < 0 {
      // Not translated, as far as is known: the reply comes from the server itself.
      let reply = FiveTuple(udp: transmission.server, transmission.client)
      if let found = holder(of: reply, transmission, zone: zone), found.winnerSent <= last { return found }
      return unlearned(transmission)
    }
    while row >= 0 {
      let service = services.rows[row]
      let reply = FiveTuple(udp: service.backend, transmission.client)
      if let found = holder(of: reply, transmission, zone: zone), found.winnerSent <= last { return found }
      if service.masqueradeAddress != .unspecified {
        let reply = FiveTuple(udp: service.backend, Endpoint(service.masqueradeAddress, transmission.client.port))
        if let found = holder(of: reply, transmission, zone: zone), found.winnerSent <= last { return found }
        if service.hasRandomPorts { best.kind = .unforeseeable }
      }
      row = services.after(row)
    }
    return best
  }

  /// What the entry of the transmission's own original tuple says.
  private mutating func findOwn(_ transmission: Transmission, _ mine: Int32, zone: UInt16) -> ClashEvidence {
    var evidence = ClashEvidence()
    let slot = entries.find(original: transmission.originalTuple, zone: zone)
    guard slot >= 0 else { return evidence }
    let entry = entries.entries[slot]
    if entry.isDestroyed && entry.destroyedAt < transmission.asked { return evidence }
    if entry.newAt < transmission.asked {
      evidence.kind = .earlierEntry
      evidence.isCertain = transmission.asked - entry.usedAt < Self.entryTime
      return evidence
    }
    // A sibling on the same tuple that was sent made the entry.
    let others = neighbours(client: transmission.client, server: transmission.server, near: transmission.asked, beside: mine)
    // An event tells by when its entry was made, not when: a starved agent reads it late. A sibling's copy carries the time.
    let isTimed = others.firstSent >= transmission.asked && others.firstSent - transmission.asked <= Self.lookupTime
    guard isTimed || entry.newAt - transmission.asked <= 2 * Self.lookupTime else { return evidence }
    if others.firstSent == .zero {
      evidence.kind = .ownEntry
      // Who was a candidate half a second on had a winner beside it, which is forgotten by now.
      evidence.isCertain = !others.hasUnsent && others.isComplete && !counters.isCandidate(transmission.candidate)
    } else if others.firstSent < transmission.asked {
      evidence.kind = .earlierEntry
    } else {
      evidence.kind = .original
      evidence.winnerServer = transmission.server
      evidence.backend = entry.reply.source
      evidence.winnerSent = others.firstSent
    }
    return evidence
  }

  /// The entry that holds `reply`, as a winner of a race with the transmission; nil if there is none.
  private mutating func holder(of reply: FiveTuple, _ transmission: Transmission, zone: UInt16) -> ClashEvidence? {
    let slot = entries.find(reply: reply, zone: zone, natClash: false)
    guard slot >= 0 else { return nil }
    let entry = entries.entries[slot]
    guard entry.original != transmission.originalTuple, !(entry.isDestroyed && entry.destroyedAt < transmission.asked) else { return nil }
    guard entry.newAt >= transmission.asked else { return nil }
    let sentAt = neighbours(client: entry.original.source, server: entry.original.destination, near: transmission.asked, beside: -1).firstSent
    if sentAt != .zero {
      guard sentAt >= transmission.asked, sentAt - transmission.asked <= Self.lookupTime else { return nil }
    } else if entry.isDumped || entry.newAt - transmission.asked > 2 * Self.lookupTime {
      // When an entry of a dump was made nobody knows.
      return nil
    }
    var evidence = ClashEvidence()
    evidence.kind = entry.original.source == transmission.client ? .reply : .source
    evidence.winnerServer = entry.original.destination
    evidence.backend = entry.reply.source
    if evidence.kind == .source { evidence.winnerClient = entry.original.source }
    evidence.winnerSent = sentAt
    // Who was not seen to leave after this one was asked may have been inserted before.
    evidence.isCertain = sentAt != .zero && !entry.isDumped
    return evidence
  }

  /// Nothing is known of the server yet: a query of the same socket to another server that left for a backend while this one was on its way.
  private mutating func unlearned(_ transmission: Transmission) -> ClashEvidence {
    var evidence = ClashEvidence()
    var slot = transmissions.first(socket: transmission.socketKey)
    var steps = 0
    while slot >= 0, steps < 64 {
      let other = transmissions.slots[slot]
      if other.client == transmission.client && other.server != transmission.server && other.wasSent && other.sent >= transmission.asked
        && other.sent - transmission.asked <= Self.lookupTime && other.sentDestination != other.server
      {
        evidence.kind = .reply
        evidence.isCertain = false
        evidence.isEntrySeen = false
        evidence.winnerServer = other.server
        return evidence
      }
      slot = transmissions.after(socket: slot)
      steps += 1
    }
    return evidence
  }

  /// What is known of the transmissions on one tuple.
  private struct Neighbours {
    /// When the first of them was sent; `.zero` if none was.
    var firstSent = Instant.zero
    var hasUnsent = false
    /// False where the socket has more transmissions than are looked at.
    var isComplete = true
  }

  /// True if a transmission of the same socket that was asked around this one was not forwarded yet: its verdict may need this one as a witness,
  /// and falls late where the path has not shown its legs.
  mutating func neighbourWaits(_ slot: Int32) -> Bool {
    let client = transmissions.slots[slot].client
    let asked = transmissions.slots[slot].asked
    var other = transmissions.first(socket: transmissions.socketKey(client))
    var steps = 0
    while other >= 0, steps < TransmissionTable.longestWalk {
      if other != slot && transmissions.slots[other].state == .open && !transmissions.slots[other].wasSent && !transmissions.slots[other].hasCome
        && transmissions.slots[other].client == client && (transmissions.slots[other].asked - asked).magnitude <= UInt64(2 * Self.lookupTime)
      {
        return true
      }
      other = transmissions.after(socket: other)
      steps += 1
    }
    return false
  }

  /// The transmissions on this tuple that were asked around `near`, beside the slot `mine`.
  private mutating func neighbours(client: Endpoint, server: Endpoint, near: Instant, beside mine: Int32) -> Neighbours {
    var found = Neighbours()
    var slot = transmissions.first(socket: transmissions.socketKey(client))
    var steps = 0
    while slot >= 0, steps < TransmissionTable.longestWalk {
      let other = transmissions.slots[slot]
      if slot != mine && other.client == client && other.server == server && (other.asked - near).magnitude <= UInt64(2 * Self.lookupTime) {
        if !other.wasSent {
          found.hasUnsent = true
        } else if found.firstSent == .zero || other.sent < found.firstSent {
          found.firstSent = other.sent
        }
      }
      slot = transmissions.after(socket: slot)
      steps += 1
    }
    found.isComplete = slot < 0
    return found
  }
}
