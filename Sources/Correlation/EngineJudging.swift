import Flows

/// A verdict about to fall.
struct Loss {
  var verdict: Verdict
  var reason: Reason
  var grade: Grade
  var evidence: Evidence
  var winnerServer: Endpoint?
  var winnerClient: Endpoint?
  var insertFailed: UInt64 = 0
  var drop: UInt64 = 0
  var clashResolve: UInt64 = 0
  var invalid: UInt64 = 0
  /// Where it would have gone.
  var backend: Endpoint?
  /// Where the kernel probe saw it dropped.
  var cpu: UInt32?
  var blindSource: BlindSource?

  init(_ verdict: Verdict, _ reason: Reason, _ grade: Grade, _ evidence: Evidence) {
    self.verdict = verdict
    self.reason = reason
    self.grade = grade
    self.evidence = evidence
  }

  mutating func lower() { grade = .inferred }
}

/// Who could have taken the tuple that a transmission needed.
struct ClashEvidence {
  enum Kind {
    case none
    /// The transmission's own entry: it passed insertion.
    case ownEntry
    /// Its entry was there before it was asked: no insertion was needed.
    case earlierEntry
    /// A sibling's entry of the same original tuple, inserted while this one was on its way.
    case original
    /// An entry of the same client socket, asked of another server, holds the reply tuple.
    case reply
    /// An entry of another client socket holds the source-translated reply tuple.
    case source
    /// Clients of this server get random ports: nobody can say who holds the tuple.
    case unforeseeable
  }
  var kind: Kind = .none
  var winnerServer: Endpoint?
  var winnerClient: Endpoint?
  /// The backend that both needed.
  var backend: Endpoint?
  /// When the winner was sent; `.zero` where that was not seen.
  var winnerSent = Instant.zero
  /// False where no event told of the winner's entry.
  var isEntrySeen = true
  /// False where the backend that both need is not known to serve this transmission's server.
  var isCertain = true

  var isCandidate: Bool {
    switch kind {
    case .original, .reply, .source, .unforeseeable: true
    case .none, .ownEntry, .earlierEntry: false
    }
  }
}

extension Engine {
  // MARK: Suspects: asked, not sent

  /// Transmissions that were not forwarded within milliseconds are looked at early, so that the counters are read near the loss.
  mutating func findSuspects() {
    while let item = firstLooks.firstUnseen, now - item.asked >= Self.suspectAge {
      firstLooks.see()
      transmissions.slots.prefetch(firstLooks.unseenSlot(after: 7), lines: 2)
      guard isUnsent(item), !isServedHere(transmissions.slots[item.slot]) else { continue }
      wantsCounters = true
      lastSuspect = item.asked
      _ = suspects.append(item)
    }
  }

  /// Half a second on, the events of whoever won are there: those that may have failed to insert become candidates for the counters.
  mutating func assessSuspects() {
    while let item = suspects.first, now - item.asked >= Self.assessAge {
      enterProbed(upTo: item.asked)
      suspects.removeFirst()
      // What the probe saw dropped is a candidate of its own.
      guard isUnsent(item), probedDrop(item.slot) == nil else { continue }
      wantsCounters = true
      // It is judged when others have taken the place of that drop.
      if mayBeUnread(transmissions.slots[item.slot]) { transmissions.slots[item.slot].signs.marks.insert(.unreadDrop) }
      // Connection tracking lets an invalid packet pass without an entry: it fails neither to insert nor to be given one.
      if transmissions.slots[item.slot].signs.marks.contains(.badChecksum) && configuration.verifiesChecksums { continue }
      let clash = findClash(item.slot)
      if clash.isCandidate {
        transmissions.slots[item.slot].candidate = counters.addCandidate(at: item.asked)
      } else if clash.kind == .none {
        transmissions.slots[item.slot].candidate = counters.addTableCandidate(at: item.asked)
      }
    }
    enterProbed(upTo: now)
    counters.knownUntil = min(suspects.first?.asked ?? .distantFuture, probes.first.map { $0.asked + (-Self.probeDelay) } ?? .distantFuture)
  }

  private mutating func isUnsent(_ item: QueuedSlot) -> Bool {
    transmissions.slots[item.slot].generation == item.generation && transmissions.slots[item.slot].state == .open
      && transmissions.slots[item.slot].vantage == .client && !transmissions.slots[item.slot].isHostClient
      && !transmissions.slots[item.slot].wasSent && !transmissions.slots[item.slot].hasCome
  }

  // MARK: Timers

  mutating func fire(_ slot: Int32) {
    if transmissions.slots[slot].mayBeRetry { settleRetry(slot) }
    switch transmissions.slots[slot].state {
    case .free:
      break
    case .answered:
      // By the wheel's time: where the agent slept, its neighbours' verdicts are yet to fall.
      let end = transmissions.slots[slot].asked + Self.witnessTime
      let mayBeWitness = transmissions.slots[slot].asked - lastSuspect < Self.witnessTime
      if timers.time < end && mayBeWitness {
        setTimer(slot, at: end)
      } else if mayBeWitness && now - transmissions.slots[slot].asked < configuration.timeout + Self.witnessTime && neighbourWaits(slot) {
        setTimer(slot, at: now + Self.assessAge)
      } else if siblingWaits(slot) && now - transmissions.slots[slot].asked < configuration.timeout {
        setTimer(slot, at: now + Self.assessAge)
      } else {
        retire(slot)
      }
    case .lost:
      retire(slot)
    case .open:
      fireOpen(slot)
    }
  }

  @inline(never) private mutating func fireOpen(_ slot: Int32) {
    if let drop = probedDrop(slot) {
      close(slot, lost: judgeProbed(slot, drop))
      return
    }
    let transmission = transmissions.slots[slot]
    guard now >= transmission.asked + Self.forwardingTime else {
      // The first look, or set beyond the end of a wheel that had not been turned for long.
      noteOtherDevice(slot)
      setTimer(slot, at: transmission.asked + Self.forwardingTime)
      if transmission.isVantageSettled && transmission.vantage == .client { transmissions.markStalled(transmission.head) }
      return
    }
    guard transmission.isVantageSettled else {
      // Came in over an uplink and was not seen to leave: somebody else's packet.
      count { $0.transmissions[Int(Vantage.transit.rawValue)] &+= 1 }
      release(slot)
      return
    }
    if transmission.vantage == .client { transmissions.markStalled(transmission.head) }
    let isForwarded = transmission.wasSent || transmission.hasCome || isServedHere(transmission)
    let start = transmission.wasSent ? transmission.sent : transmission.asked
    let end = start + configuration.timeout
    if isForwarded || !configuration.capturesOutgoing {
      if now < end {
        setTimer(slot, at: end)
      } else {
        close(slot, lost: judgeForwarded(transmission))
      }
    } else if now < transmission.asked + configuration.timeout
      && !paths.isObservable(
        .sent, interface: transmission.askedInterface, isTranslated: services.isTranslated(transmission.server), at: now)
    {
      // This path never showed the leg: an answer may still come.
      setTimer(slot, at: transmission.asked + configuration.timeout)
    } else {
      close(slot, lost: judgeUnsent(slot))
    }
  }

  @inline(never) mutating func isServedHere(_ slot: Int32) -> Bool { isServedHere(transmissions.slots[slot]) }

  /// True if the server, translated or not, is this node itself: then nothing leaves.
  mutating func isServedHere(_ transmission: Transmission) -> Bool {
    let row = services.first(transmission.server)
    if row < 0 { return transmission.isLocalServer }
    let entry = entries.find(original: transmission.originalTuple, zone: nil)
    return node.isLocal(entry >= 0 ? entries.entries[entry].reply.source.address : services.rows[row].backend.address)
  }

  // MARK: Asked, not sent

  private mutating func judgeUnsent(_ slot: Int32) -> Loss {
    let transmission = transmissions.slots[slot]
    var loss = Loss(.droppedOnNode, .policyOrRoute, .observed, [.asked, .noSent])
    let from = transmission.asked
    let to = min(now, from + Self.forwardingTime)
    if let source = blindPacketSource(from, to) {
      loss = Loss(.unknown, .none, .inferred, [.asked, .noSent, .blind])
      loss.blindSource = source
      return loss
    }
    let isTranslated = services.isTranslated(transmission.server)
    let isObservable = paths.isObservable(.sent, interface: transmission.askedInterface, isTranslated: isTranslated, at: now)
    if !isObservable { loss.evidence.insert(.pathUnobserved) }
    let clash = findClash(slot)
    if transmission.signs.isRefused { loss.evidence.insert(.icmpError) }
    switch clash.kind {
    case .none, .original, .reply, .source, .unforeseeable, .earlierEntry:
      if weighInvalid(&loss, transmission) {
        loss.evidence.insert(clash.kind == .earlierEntry ? .ownEntry : .noOwnEntry)
        return loss
      }
    case .ownEntry:
      break
    }
    switch clash.kind {
    case .ownEntry:
      loss.reason = .afterInsertion
      loss.evidence.insert(.ownEntry)
      // Of several on one new entry one made it; the others may have failed to.
      if !clash.isCertain && counters.finding(around: from).finding != .quiet { loss.lower() }
    case .earlierEntry:
      loss.evidence.insert(.ownEntry)
      // The end of an answered entry is not told. If it had been deleted, this one needed room in the table and an insertion.
      let finding = counters.finding(around: from)
      if finding.drop > finding.insertFailed || finding.finding == .shared && !othersExplainCounters(transmission, finding) { loss.lower() }
    case .none:
      loss.evidence.insert(.noOwnEntry)
      weighWithoutWinner(&loss, transmission)
    case .original, .reply, .source, .unforeseeable:
      loss.evidence.insert(.noOwnEntry)
      weigh(&loss, clash, transmission)
    }
    if !isObservable || transmission.isSentAmbiguous { loss.lower() }
    if let source = blindEventSource(from + (-Self.lookupTime), to), clash.kind != .earlierEntry {
      loss.evidence.insert(.blind)
      loss.lower()
      if clash.kind == .none, !loss.evidence.contains(.countersQuiet) {
        loss.verdict = .unknown
        loss.reason = .none
        loss.blindSource = source
      }
    }
    return loss
  }

  /// True if connection tracking took it for invalid, as its copy shows: it makes no entry and is not translated. What a rule on ctstate INVALID does
  /// not drop goes on to the service's own address (`nf_conntrack_in` in net/netfilter/nf_conntrack_core.c, `udp_error` in
  /// net/netfilter/nf_conntrack_proto_udp.c). With net.netfilter.nf_conntrack_checksum=0 the checksum is no reason, whoever moves the counter.
  ///
  /// A whole datagram whose checksum is right cannot be invalid, so the counter alone, which moves for every protocol, is none either.
  private mutating func weighInvalid(_ loss: inout Loss, _ transmission: Transmission) -> Bool {
    guard transmission.signs.marks.contains(.badChecksum), configuration.verifiesChecksums else { return false }
    let finding = counters.finding(around: transmission.asked)
    guard finding.finding == .unread || finding.invalid > 0 else { return false }
    loss.reason = .invalid
    loss.evidence.insert(.badChecksum)
    if transmission.signs.marks.contains(.leftUntranslated) { loss.evidence.insert(.leftUntranslated) }
    loss.invalid = finding.invalid
    if finding.finding == .unread || loss.evidence.contains(.pathUnobserved) || transmission.isSentAmbiguous { loss.lower() }
    return true
  }

  /// Nobody holds the tuple that it needed, as far as events tell.
  private mutating func weighWithoutWinner(_ loss: inout Loss, _ transmission: Transmission) {
    let finding = counters.finding(around: transmission.asked)
    switch finding.finding {
    case .quiet:
      noteQuiet(&loss, finding)
    case .unread:
      break
    case .exact, .shared, .insufficient, .resolvedOrFailed:
      loss.insertFailed = finding.insertFailed
      loss.drop = finding.drop
      if finding.chainTooLongMoved {
        loss.reason = .chainTooLong
        loss.lower()
      }
    }
    if finding.tableWasFull {
      let isExact = finding.tableIsExact && CounterHistory.isTableCandidate(transmission.candidate)
      loss.verdict = .tableFull
      loss.reason = .none
      loss.evidence.insert(isExact ? .countersExact : .countersShared)
      if !isExact { loss.lower() }
    }
    // A failure that no candidate accounts for may have been this one's. The probe's silence alone does not make it surer: a drop that it missed is silent
    // too.
    if finding.finding == .shared && !othersExplainCounters(transmission, finding) { loss.lower() }
    // Nor can anybody say which of two equal datagrams the probe saw go.
    if finding.finding != .quiet && probeSince <= transmission.asked && isAnotherAttemptProbed(transmission) { loss.lower() }
    // Whose translation was never seen, of him nobody can say that no translation was in the way.
    if services.first(transmission.server) < 0 && finding.finding != .quiet { loss.lower() }
  }

  /// No insertion failed. What was dropped all the same (a full table, no memory) may have been this one.
  private mutating func noteQuiet(_ loss: inout Loss, _ finding: CounterHistory.Result) {
    loss.insertFailed = finding.insertFailed
    loss.drop = finding.drop
    if finding.drop == 0 && finding.insertFailed == 0 { loss.evidence.insert(.countersQuiet) }
    if finding.drop != 0 && !finding.tableWasFull { loss.lower() }
  }

  private mutating func weigh(_ loss: inout Loss, _ clash: ClashEvidence, _ transmission: Transmission) {
    let finding = counters.finding(around: transmission.asked)
    if clash.kind != .unforeseeable && clash.isEntrySeen { loss.evidence.insert(.winner) }
    // An unresolved clash moves both counters (nf_ct_resolve_clash in net/netfilter/nf_conntrack_core.c at v5.10). Where drop stood still there was none:
    // a chain was too long, or the entry was dying.
    if counters.features.contains(.clashResolve) && finding.insertFailed > 0 && finding.drop == 0 {
      weighWithoutWinner(&loss, transmission)
      loss.lower()
      return
    }
    let isWatched = isWatched(transmission)
    if isWatched && finding.finding != .quiet && finding.finding != .exact {
      loss.evidence.insert(.probeQuiet)
      weighWithoutWinner(&loss, transmission)
      if othersExplainCounters(transmission, finding) { loss.evidence.insert(.countersExact) } else { loss.lower() }
      return
    }
    switch finding.finding {
    case .quiet:
      noteQuiet(&loss, finding)
      if finding.tableWasFull { loss.lower() }
      return
    case .insufficient, .unread:
      loss.reason = .ambiguous
      loss.evidence.insert(.countersShared)
      loss.lower()
    case .exact, .shared, .resolvedOrFailed:
      let isExact = finding.finding == .exact
      loss.evidence.insert(isExact ? .countersExact : .countersShared)
      loss.reason = .none
      loss.winnerServer = clash.winnerServer
      loss.winnerClient = clash.winnerClient
      loss.backend = clash.backend
      switch clash.kind {
      case .original: loss.verdict = .dnatClashDropped
      case .source, .unforeseeable: loss.verdict = .snatClashDropped
      default: loss.verdict = .replyClashDropped
      }
      if clash.kind == .unforeseeable && !isExact {
        loss.verdict = .droppedOnNode
        loss.reason = .ambiguous
      }
      if isWatched {
        // The counters say so and the probe does not: one of them is wrong.
        loss.evidence.insert(.probeQuiet)
        loss.lower()
      }
      if !isExact || !clash.isCertain || clash.kind == .unforeseeable || !counters.isCandidate(transmission.candidate) { loss.lower() }
    }
    loss.insertFailed = finding.insertFailed
    loss.drop = finding.drop
  }

  // MARK: Sent, not answered

  private mutating func judgeForwarded(_ transmission: Transmission) -> Loss {
    var evidence: Evidence = [.asked]
    if transmission.wasSent { evidence.insert(.sent) }
    let isLocal = !transmission.wasSent && !transmission.hasCome && isServedHere(transmission)
    if isLocal { evidence.insert(.localServer) }
    let isTranslated = isTranslated(transmission)
    let isObservable = paths.isObservable(.delivered, interface: transmission.pathInterface, isTranslated: isTranslated, at: now)
    if !isObservable { evidence.insert(.pathUnobserved) }
    if transmission.hasCome {
      var loss = judgeUndelivered(transmission, evidence.union([.came, .noDelivered]), isObservable)
      // Whose sent leg was not seen, of him it is not known which way he went.
      if transmission.isSentAmbiguous || !(transmission.wasSent || transmission.isHostClient) { loss.lower() }
      return loss
    }
    if let source = blindPacketSource(transmission.asked, now) {
      var loss = Loss(.unknown, .none, .inferred, evidence.union([.noCame, .blind]))
      loss.blindSource = source
      return loss
    }
    var loss = Loss(.noAnswer, isLocal ? .localServer : .silent, .observed, evidence.union(.noCame))
    if !isObservable || !configuration.capturesOutgoing || transmission.isSentAmbiguous { loss.lower() }
    // A copy that left in another name and was not seen to come may have been its answer.
    if transmission.signs.marks.contains(.otherName) { loss.lower() }
    weighSilence(&loss, transmission)
    return loss
  }

  /// Why nothing came: one of the signs that tell more than silence does.
  private mutating func weighSilence(_ loss: inout Loss, _ transmission: Transmission) {
    if isMisrouted(transmission) {
      let finding = counters.finding(around: transmission.asked)
      loss.verdict = .clashMisrouted
      loss.reason = .none
      loss.evidence.insert(.otherDevice)
      loss.clashResolve = finding.clashResolve
      // `__nf_conntrack_update` counts nothing: what clash_resolve moved by is others'. The two may have gone two ways for a reason of their own.
      loss.lower()
      return
    }
    let isRefused = transmission.signs.isRefused
    if isRefused { loss.evidence.insert(.icmpError) }
    if isStale(transmission) {
      loss.reason = .staleBackend
      loss.evidence.insert(.newerElsewhere)
      if blindEventSource(transmission.asked + (-Nanoseconds.perSecond), now) != nil { loss.lower() }
    } else if isRefused {
      loss.reason = .icmpUnreachable
      if !transmission.signs.marks.contains(.refusalIsSure) { loss.lower() }
    }
  }

  /// An answer came to this node and never left it towards the client from the address that was asked.
  private mutating func judgeUndelivered(_ transmission: Transmission, _ evidence: Evidence, _ isObservable: Bool) -> Loss {
    let reply = replyTuple(transmission)
    let clash = entries.find(reply: reply, zone: nil, natClash: true)
    let hadClash =
      clash >= 0 && entries.entries[clash].isDestroyed && entries.entries[clash].destroyedAt >= transmission.asked
      && !entries.entries[clash].status.contains(.seenReply) && entries.entries[clash].original.source == transmission.client
    let opened = entries.find(original: reply, zone: nil)
    let openedEntry = opened >= 0 && !entries.entries[opened].isDumped && entries.entries[opened].newAt >= transmission.came
    let isLate = transmission.came - transmission.asked > Nanoseconds.perSecond
    if hadClash && isLate {
      var loss = Loss(.clashLateReply, .none, openedEntry ? .observed : .inferred, evidence.union(.natClashDestroyed))
      if openedEntry { loss.evidence.insert(.answerOpenedEntry) }
      if transmission.untranslated != .zero { loss.evidence.insert(.untranslatedCopy) }
      return loss
    }
    if let source = blindPacketSource(transmission.came, now) {
      var loss = Loss(.unknown, .none, .inferred, evidence.union(.blind))
      loss.blindSource = source
      return loss
    }
    let eventsBlind = blindEventSource(transmission.asked, now)
    if let source = eventsBlind, isLate {
      var loss = Loss(.unknown, .none, .inferred, evidence.union(.blind))
      loss.blindSource = source
      return loss
    }
    if transmission.signs.marks.contains(.otherName) {
      let marks = transmission.signs.marks
      var loss = Loss(.answerUntranslated, marks.contains(.otherNameIsService) ? .wrongService : .none, .inferred, evidence.union(.untranslatedCopy))
      if openedEntry { loss.evidence.insert(.answerOpenedEntry) }
      // Seen, not concluded from what was not seen.
      if marks.isSuperset(of: [.otherNameIsSure, .otherNameIsService]) && eventsBlind == nil { loss.grade = .observed }
      return loss
    }
    if transmission.untranslated != .zero || openedEntry {
      var loss = Loss(.answerUntranslated, .none, .inferred, evidence)
      if openedEntry { loss.evidence.insert(.answerOpenedEntry) }
      if transmission.untranslated != .zero { loss.evidence.insert(.untranslatedCopy) }
      loss.reason = whyUntranslated(transmission, openedEntry: openedEntry)
      // Seen, not concluded from what was not seen: the path need not have shown its legs. Whom early_drop was counted for nobody sees.
      if eventsBlind == nil && loss.reason != .none && loss.reason != .earlyDrop { loss.grade = .observed }
      return loss
    }
    return Loss(.answerDroppedOnNode, .none, isObservable && eventsBlind == nil ? .observed : .inferred, evidence)
  }

  /// The tuple that the answer came with. Where the sent leg was not seen: that of a clash's loser with one of the server's backends, if there is one.
  private mutating func replyTuple(_ transmission: Transmission) -> FiveTuple {
    guard !transmission.wasSent else { return transmission.sentTuple.inverse }
    var row = services.first(transmission.server)
    while row >= 0 {
      let reply = FiveTuple(udp: services.rows[row].backend, transmission.client)
      if entries.find(reply: reply, zone: nil, natClash: true) >= 0 { return reply }
      row = services.after(row)
    }
    return FiveTuple(udp: transmission.server, transmission.client)
  }

  /// Why an answer was not translated back, where it can be told.
  private mutating func whyUntranslated(_ transmission: Transmission, openedEntry: Bool) -> Reason {
    let slot = entries.find(original: transmission.originalTuple, zone: nil)
    // What ended later than the answer came did not keep it from being translated.
    if slot >= 0, entries.entries[slot].isDestroyed, entries.entries[slot].destroyedAt >= transmission.asked,
      entries.entries[slot].destroyedAt <= transmission.came + Self.lookupTime
    {
      let entry = entries.entries[slot]
      // The kernel keeps time in ticks, and `newAt` is a little late.
      let age = entry.destroyedAt - max(entry.newAt, transmission.asked)
      if age >= configuration.unrepliedTimeout - configuration.unrepliedTimeout / 10 { return .expired }
      return counters.finding(around: entry.destroyedAt).earlyDropMoved ? .earlyDrop : .entryDeleted
    }
    // From port to port of one bridge, past connection tracking (bridge-nf-call-iptables=0).
    let bridge = node.master(of: transmission.askedInterface)
    if !openedEntry && bridge != 0 && bridge == node.master(of: transmission.cameInterface) { return .bridgeBypass }
    return .none
  }

  // MARK: Blindness

  private mutating func blindPacketSource(_ from: Instant, _ to: Instant) -> BlindSource? {
    if blind.overlaps(.packets, from: from, to: to) { return .packets }
    if blind.overlaps(.start, from: from, to: from) { return .start }
    return nil
  }

  private mutating func blindEventSource(_ from: Instant, _ to: Instant) -> BlindSource? {
    if blind.overlaps(.conntrack, from: from, to: to) { return .conntrack }
    if blind.overlaps(.tables, from: from, to: to) { return .tables }
    return nil
  }
}
