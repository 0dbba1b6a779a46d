package import Flows

extension Engine {
  /// From the drop to its verdict: by then the events and first copies of the same moment are here, which name winner and sibling.
  static let probeSettleTime = 50 * Nanoseconds.perMillisecond
  /// The probe's stamp and that of a copy come from two clocks, whose distance is measured once a sweep: a copy may seem younger than its drop by as
  /// long as the agent was held up between the two readings.
  static var probeClockSlack: Int64 { 5 * Nanoseconds.perMillisecond }

  /// The kernel probe runs from now on: a clash that it does not tell of did not happen, except while the source `kernel_probe` is blind.
  package mutating func probeStarted(at time: Instant) { probeSince = time }

  /// Takes what the kernel probe saw of one query. Feed it before the packets of the same sweep.
  ///
  /// - Parameter name: the question's name in wire form; read before the call returns.
  package mutating func observe(_ observation: ProbeObservation, name: RawSpan) {
    guard !observation.dns.isResponse, observation.dns.opcode == 0, !observation.original.destination.address.isMulticast else {
      observeForeign(observation)
      return
    }
    switch observation.kind {
    case .dropped: noteDropped(observation, name: name)
    case .merged: noteMerged(observation, name: name)
    case .replyOnly: break  // Its entry's own events tell of it, once its answer was delivered or came too late.
    }
  }

  /// Takes what the probe saw of a packet that is no query to anybody who reads it. No transmission can have been lost with it.
  package mutating func observeForeign(_ observation: ProbeObservation) {
    guard observation.kind == .dropped else { return }
    probes.enterForeign(observation, socketKey: transmissions.socketKey(observation.original.source))
  }

  /// Takes what the probe saw of a packet that it could not read so far as a copy of it can be read: it may have been a query.
  package mutating func observeUnread(_ observation: ProbeObservation) {
    guard observation.kind == .dropped else { return }
    unread.add(socketKey: transmissions.socketKey(observation.original.source), at: observation.time)
  }

  private mutating func noteDropped(_ observation: ProbeObservation, name: RawSpan) {
    let client = observation.original.source
    let key = transmissions.socketKey(client)
    guard let drop = probes.enter(observation, socketKey: key) else {
      blind.begin(.kernelProbe, at: observation.time, wall: wallNow, lost: 1)
      return
    }
    if observation.interface == 0 && node.isLocal(client.address) {
      // A process of this node: send() failed with EPERM, no copy was ever made.
      let packet = PacketObservation(
        time: observation.time, wallTime: observation.wallTime, interface: 0, isOutgoing: true, source: observation.sent.source,
        destination: observation.sent.destination, dns: observation.dns)
      guard let slot = open(packet, client: client, server: observation.original.destination, isHostClient: true, name: name) else {
        probes.match(drop, with: -2)
        return
      }
      transmissions.slots[slot].sent = .zero
      match(slot, drop)
      return
    }
    let slot = dropped(observation)
    if slot >= 0 { match(slot, drop) }
  }

  /// The transmission whose first copy was seen already.
  private func dropped(_ observation: ProbeObservation) -> Int32 {
    let key = transmissions.questionKey(id: observation.dns.id, questionHash: observation.dns.questionHash)
    var slot = transmissions.first(question: key)
    var steps = 0
    while slot >= 0, steps < TransmissionTable.longestWalk {
      let transmission = transmissions.slots[slot]
      if matches(slot, observation.dns) && transmission.client == observation.original.source
        && transmission.server == observation.original.destination && isOpenAndUnsent(transmission)
        && transmission.asked - observation.time <= Self.probeClockSlack && observation.time - transmission.asked < Self.forwardingTime
      {
        return slot
      }
      slot = transmissions.after(question: slot)
      steps += 1
    }
    return -1
  }

  private func isOpenAndUnsent(_ transmission: Transmission) -> Bool {
    transmission.state == .open && transmission.vantage == .client && !transmission.isHostClient && !transmission.wasSent && !transmission.hasCome
      && transmission.probe < 0
  }

  /// A first copy came in: the probe may have told of its end before.
  mutating func matchProbed(_ slot: Int32) {
    let transmission = transmissions.slots[slot]
    var message = DNSMessage()
    message.id = transmission.dnsID
    message.questionHash = transmission.questionHash
    let drop = probes.waiting(
      socketKey: transmission.socketKey, client: transmission.client, server: transmission.server, dns: message, asked: transmission.asked)
    if drop >= 0 { match(slot, drop) }
  }

  private mutating func match(_ slot: Int32, _ drop: Int32) {
    probes.match(drop, with: slot)
    transmissions.slots[slot].isProbed = true
    transmissions.slots[slot].probe = drop
    setTimer(slot, at: probes.drops[drop].observation.time + Self.probeSettleTime)
  }

  /// The drop of an open transmission that the probe saw go; nil for any other.
  func probedDrop(_ slot: Int32) -> ProbeObservation? {
    let drop = transmissions.slots[slot].probe
    guard drop >= 0, probes.drops[drop].transmission == slot else { return nil }
    return probes.drops[drop].observation
  }

  /// Takes out the drops that are older than half a second and not newer than `last`. Each moved the counters: it is a candidate, whose time has come
  /// in the order of the others. One whose transmission was not found is none: it may be that of one which is open and looks like another loss, and
  /// must not explain to that one what the counters say.
  mutating func enterProbed(upTo last: Instant) {
    while let item = probes.first, item.asked <= last + Self.probeDelay, now - item.asked >= Self.assessAge {
      let slot = probes.drops[item.slot].transmission
      let moved = item.asked + (-Self.probeDelay)
      if slot != -1 && probes.drops[item.slot].observation.isExact {
        counters.addTold(at: moved)
      } else if slot != -1 {
        // By how much it moved them is not known: it may have failed to insert, and explains nothing.
        _ = counters.addCandidate(at: moved)
      }
      if slot >= 0 && transmissions.slots[slot].probe == item.slot {
        // The agent slept.
        if transmissions.slots[slot].state == .open { close(slot, lost: judgeProbed(slot, probes.drops[item.slot].observation)) }
      }
      if probes.removeFirst() { count { $0.probeUnmatched &+= 1 } }
    }
  }
  /// From the counters' step to the stamp of the drop at the longest: a reading in between counts what is told of later. Together with
  /// `CounterHistory.lag` it leaves the rest for the stamp to be early.
  static var probeDelay: Int64 { 200 * Nanoseconds.perMicrosecond }

  /// True if no insertion failed around this transmission but those that the probe told of, each of which was another's. Then its silence says that this
  /// one did not fail: a drop that it missed, or whose stamp did not fit, would have moved the counter too.
  mutating func othersExplainCounters(_ transmission: Transmission, _ finding: CounterHistory.Result) -> Bool {
    finding.isTold && isWatched(transmission) && !isAnotherAttemptProbed(transmission)
  }

  /// Attempts of one query look alike to the probe: the drop may be this one's.
  mutating func isAnotherAttemptProbed(_ transmission: Transmission) -> Bool {
    var slot = transmissions.first(socket: transmission.socketKey)
    var steps = 0
    while slot >= 0, steps < TransmissionTable.longestWalk {
      if transmissions.slots[slot].isProbed && transmissions.slots[slot].client == transmission.client
        && transmissions.slots[slot].server == transmission.server && transmissions.slots[slot].dnsID == transmission.dnsID
        && transmissions.slots[slot].questionHash == transmission.questionHash
        && (transmissions.slots[slot].asked - transmission.asked).magnitude <= UInt64(Self.forwardingTime)
      {
        return true
      }
      slot = transmissions.after(socket: slot)
      steps += 1
    }
    return slot >= 0
  }

  /// True if the probe would have told of a clash of this transmission.
  mutating func isWatched(_ transmission: Transmission) -> Bool {
    let (from, to) = (transmission.asked, transmission.asked + Self.forwardingTime)
    return probeSince <= from && !blind.overlaps(.kernelProbe, from: from, to: to)
      && !transmission.signs.marks.contains(.unreadDrop) && !mayBeUnread(transmission)
  }

  /// True if the probe could not read a packet of its socket that was dropped since it was asked.
  mutating func mayBeUnread(_ transmission: Transmission) -> Bool {
    unread.overlaps(
      socketKey: transmission.socketKey, from: transmission.asked + (-Self.probeClockSlack), to: transmission.asked + Self.forwardingTime)
  }

  // MARK: The verdict

  /// The packet was refused at insertion. Who held the tuple that it needed says what kind of clash it was.
  mutating func judgeProbed(_ slot: Int32, _ drop: ProbeObservation) -> Loss {
    let transmission = transmissions.slots[slot]
    var loss = Loss(.dnatClashDropped, .none, drop.isExact ? .proven : .observed, [.probeDrop])
    if !transmission.isHostClient { loss.evidence.formUnion([.asked, .noSent]) }
    // Where they moved by more than one it is not told by how much.
    loss.insertFailed = drop.isExact ? 1 : 0
    loss.drop = drop.isExact ? 1 : 0
    loss.cpu = drop.cpu
    if drop.sent.destination != transmission.server { loss.backend = drop.sent.destination }
    if let winner = holder(of: drop, asked: transmission.asked) {
      loss.evidence.insert(.winner)
      loss.winnerServer = winner.destination
      if winner.source != transmission.client {
        loss.verdict = .snatClashDropped
        loss.winnerClient = winner.source
      } else if winner.destination != transmission.server {
        loss.verdict = .replyClashDropped
      }
    } else {
      // That it clashed is certain, with whom is not.
      loss.verdict = likelyClash(transmission)
      loss.lower()
    }
    return loss
  }

  /// The original tuple of the entry that a dropped packet clashed with. Where another flow holds the reply tuple that is the cause: its own original
  /// tuple would not have kept the kernel from inserting the reply direction alone (`nf_ct_resolve_clash_harder`).
  private mutating func holder(of drop: ProbeObservation, asked: Instant) -> FiveTuple? {
    if let winner = drop.winnerOriginal, drop.winnerReply == drop.reply, winner != drop.original { return winner }
    let other = entries.find(reply: drop.reply, zone: drop.zone)
    if other >= 0 && entries.entries[other].original != drop.original && stood(other, asked) { return entries.entries[other].original }
    if let winner = drop.winnerOriginal { return winner }
    let own = entries.find(original: drop.original, zone: drop.zone)
    return own >= 0 && stood(own, asked) ? drop.original : nil
  }

  /// True if the entry can have won. The end of an answered entry is not told, so only one that was made around the race counts.
  private func stood(_ entry: Int32, _ asked: Instant) -> Bool {
    let found = entries.entries[entry]
    return !found.isDumped && found.newAt >= asked + (-Self.lookupTime) && !(found.isDestroyed && found.destroyedAt < asked)
  }

  /// No event names the winner: by what else the client's socket asked in the same moment.
  private func likelyClash(_ transmission: Transmission) -> Verdict {
    var verdict = Verdict.snatClashDropped
    var slot = transmissions.first(socket: transmission.socketKey)
    var steps = 0
    while slot >= 0, steps < TransmissionTable.longestWalk {
      let other = transmissions.slots[slot]
      if other.client == transmission.client && other.wasSent && (other.asked - transmission.asked).magnitude <= UInt64(Self.lookupTime) {
        if other.server == transmission.server { return .dnatClashDropped }
        verdict = .replyClashDropped
      }
      slot = transmissions.after(socket: slot)
      steps += 1
    }
    return verdict
  }

  // MARK: Resolved

  /// Only the probe can name a merged loser: no event tells of it.
  private mutating func noteMerged(_ observation: ProbeObservation, name: RawSpan) {
    guard countResolved(at: observation.time) else { return }
    var query = ResolvedQuery()
    query.time = observation.wallTime
    query.dnsID = observation.dns.id
    query.name = unsafe name.withUnsafeBytes { unsafe Array($0) }
    query.queryType = observation.dns.queryType
    var record = ResolvedClash()
    record.observedTime = wallNow
    record.client = observation.original.source
    record.server = observation.original.destination
    record.backend = observation.sent.destination
    record.zone = observation.zone
    record.cpu = observation.cpu
    record.query = query
    records.append(.clashResolved(record))
  }
}
