package import Flows

extension Engine {
  /// Says that this event is observed soon: what it needs of memory is fetched meanwhile.
  package mutating func prepare(_ event: inout ConntrackEvent) {
    if event.kind == .new { entries.prepare(&event) }
  }

  /// Says that this query is observed soon: what is looked up for it in any case is fetched meanwhile.
  ///
  /// What its first copy touched a moment before is there for any other; the entry may be that of an event of the last sweep.
  package mutating func prepare(query packet: inout PacketObservation) {
    if packet.isOutgoing {
      entries.prefetch(replyFrom: packet.destination, to: packet.source)
      return
    }
    entries.prefetch(originalFrom: packet.source, to: packet.destination)
    transmissions.prefetch(question: transmissions.questionKey(id: packet.dns.id, questionHash: packet.dns.questionHash))
    transmissions.prefetch(socket: transmissions.socketKey(packet.source))
    transmissions.prefetchUpcoming()
    names.prefetchUpcoming()
  }

  /// Takes a conntrack event, or an entry of a dump. Only UDP is judged.
  package mutating func observe(_ event: ConntrackEvent) {
    var event = event
    observe(inHand: &event)
  }

  /// The same where it stands; it is not changed.
  package mutating func observe(inHand event: inout ConntrackEvent) {
    guard event.original.protocolNumber == TransportProtocol.udp.rawValue else { return }
    let isClash = event.status.contains(.natClash)
    switch event.kind {
    case .new, .dumped:
      _ = entries.insert(&event, isNATClash: false)
      learn(&event)
    case .update:
      guard isClash else { return }
      let slot = clashEntry(event)
      if event.status.contains(.seenReply) { noteResolved(slot, event) }
    case .destroy:
      if isClash {
        let slot = clashEntry(event)
        if event.status.contains(.seenReply) { noteResolved(slot, event) }
        entries.markDestroyed(slot, at: event.readAt, status: event.status)
      } else {
        let slot = entries.find(original: event.original, zone: event.zone)
        if slot >= 0 && entries.entries[slot].reply == event.reply { entries.markDestroyed(slot, at: event.readAt, status: event.status) }
      }
    }
  }

  /// The entry of a clash's loser, which stands in the reply direction only and had no NEW.
  private mutating func clashEntry(_ event: ConntrackEvent) -> Int32 {
    let known = entries.find(reply: event.reply, zone: event.zone, natClash: true)
    if known >= 0 && !entries.entries[known].isDestroyed { return known }
    var event = event
    learn(&event)
    return entries.insert(&event, isNATClash: true)
  }

  private mutating func learn(_ event: inout ConntrackEvent) {
    guard configuration.ports.contains(event.original.destination.port) else { return }
    services.learn(&event)
    if event.reply.source.port != event.original.destination.port { learnPort(event.reply.source.port) }
  }

  /// The loser of a clash saw a reply while its entry lived. Where the copies of its query are known, the answer must also be delivered; they may
  /// come right after the event.
  private mutating func noteResolved(_ slot: Int32, _ event: ConntrackEvent) {
    guard !entries.entries[slot].isReported else { return }
    entries.markReported(slot)
    let clash = AnsweredClash(
      client: event.original.source, server: event.original.destination, backend: event.reply.source, zone: event.zone, readAt: event.readAt)
    let loser = clashLoser(event)
    if loser < 0 {
      if answeredClashes.count < Self.awaitedClashes { answeredClashes.append(clash) } else { tell(clash, -1) }
    } else if transmissions.slots[loser].wasDelivered {
      tell(clash, loser)
    } else if transmissions.slots[loser].state == .open {
      transmissions.slots[loser].signs.marks.insert(.clashLoser)
    }
  }

  private static let awaitedClashes = 256

  /// Tells of clashes whose query did not turn up: the entry alone saw the answer.
  mutating func tellUnnamedClashes() {
    while let clash = answeredClashes.first, now - clash.readAt >= Nanoseconds.perSecond {
      answeredClashes.removeFirst()
      tell(clash, -1)
    }
  }

  /// The newest transmission that left for the loser's backend; -1 if none is known.
  private func clashLoser(_ event: ConntrackEvent) -> Int32 {
    var slot = transmissions.first(socket: transmissions.socketKey(event.original.source))
    var steps = 0
    while slot >= 0, steps < TransmissionTable.longestWalk {
      let transmission = transmissions.slots[slot]
      if transmission.client == event.original.source && transmission.server == event.original.destination && transmission.wasSent
        && transmission.sentTuple == event.reply.inverse
      {
        return slot
      }
      slot = transmissions.after(socket: slot)
      steps += 1
    }
    return -1
  }

  /// The answer to a clash's loser was delivered.
  mutating func noteResolvedDelivery(_ slot: Int32) {
    let transmission = transmissions.slots[slot]
    var clash = AnsweredClash(
      client: transmission.client, server: transmission.server, backend: transmission.sentDestination,
      zone: node.zone(of: transmission.askedInterface), readAt: now)
    let awaited = answeredClashes.firstIndex {
      $0.client == clash.client && $0.server == clash.server && ($0.backend == clash.backend || !transmission.wasSent)
    }
    if let awaited { clash = answeredClashes.remove(at: awaited) }
    tell(clash, slot)
  }

  /// Counts a resolved clash.
  ///
  /// - Returns: whether to tell it: a sample is enough, ten a second.
  mutating func countResolved(at time: Instant) -> Bool {
    count { $0.clashesResolvedNamed &+= 1 }
    let second = time.nanoseconds / Nanoseconds.perSecond
    if second != resolvedSecond {
      resolvedSecond = second
      resolvedTold = 0
    }
    resolvedTold += 1
    return resolvedTold <= 10
  }

  /// - Parameter loser: the transmission; -1 where it is not known.
  private mutating func tell(_ clash: AnsweredClash, _ loser: Int32) {
    guard countResolved(at: now) else { return }
    var record = ResolvedClash()
    record.observedTime = wallNow
    record.client = clash.client
    record.server = clash.server
    record.backend = clash.backend
    record.zone = clash.zone
    if loser >= 0 {
      var query = ResolvedQuery()
      query.time = transmissions.slots[loser].askedWall
      query.dnsID = transmissions.slots[loser].dnsID
      query.name = names.bytes(transmissions.slots[loser].name, length: Int(transmissions.slots[loser].nameLength))
      query.queryType = transmissions.slots[loser].queryType
      record.query = query
    }
    records.append(.clashResolved(record))
  }
}

/// A clash whose loser saw a reply, and whose query was not seen yet.
struct AnsweredClash {
  var client: Endpoint
  var server: Endpoint
  var backend: Endpoint
  var zone: UInt16
  var readAt: Instant
}
