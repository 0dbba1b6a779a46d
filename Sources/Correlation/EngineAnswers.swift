import Flows

extension Engine {
  /// A copy of an answer: *came* on its way in, *delivered* on its way out from the address that was asked.
  mutating func observeAnswer(_ packet: PacketObservation) {
    // Between a bridge and its ports the answer may be translated by half (br_netfilter): the port's copy decides.
    // On loopback the copy that comes in follows at once.
    if packet.isOutgoing {
      let kind = node.kind(of: packet.interface)
      if kind == .bridge || kind == .loopback { return }
    }
    if packet.dns.questionCount == 0 {
      observeAnswerWithoutQuestion(packet)
      return
    }
    let key = transmissions.questionKey(id: packet.dns.id, questionHash: packet.dns.questionHash)
    var credit = Credit()
    var slot = transmissions.first(question: key)
    var steps = 0
    while slot >= 0, steps < TransmissionTable.longestWalk {
      if matches(slot, packet.dns) { credit.consider(slot, fit(packet, slot)) }
      if credit.isSettled { break }
      slot = transmissions.after(question: slot)
      steps += 1
    }
    take(packet, credit)
  }

  /// Some error answers repeat no question (RFC 1035 4.1.1 leaves it to the server): then the entry or the delivered tuple names the socket.
  private mutating func observeAnswerWithoutQuestion(_ packet: PacketObservation) {
    var client = packet.destination
    if !packet.isOutgoing {
      let entry = entries.find(reply: packet.tuple, zone: nil)
      if entry >= 0 { client = entries.entries[entry].original.source }
    }
    var credit = Credit()
    var slot = transmissions.first(socket: transmissions.socketKey(client))
    var steps = 0
    while slot >= 0, steps < TransmissionTable.longestWalk {
      if transmissions.slots[slot].client == client, transmissions.slots[slot].dnsID == packet.dns.id { credit.consider(slot, fit(packet, slot)) }
      if credit.isSettled { break }
      slot = transmissions.after(socket: slot)
      steps += 1
    }
    take(packet, credit)
  }

  /// How well a copy of an answer fits a transmission; the better the higher.
  private enum Fit: Int {
    case none
    /// It would fit, but this one has its answer already: a duplicate if no other wants it.
    case taken
    /// Nothing speaks against it, but the transmission was not seen to leave.
    case unsent
    /// It was forwarded before, and the answer was not seen to come.
    case forwarded
    /// The next leg of what is known.
    case exact
    /// Another copy of what is known already (VLAN, bridge): nothing more to learn.
    case furtherCopy
  }

  /// The transmission that a copy is credited to: the newest of those that it fits best.
  private struct Credit {
    var slot: Int32 = -1
    var fit = Fit.none
    var isSettled: Bool { fit.rawValue >= Fit.exact.rawValue }

    mutating func consider(_ slot: Int32, _ fit: Fit) {
      guard fit.rawValue > self.fit.rawValue else { return }
      self.slot = slot
      self.fit = fit
    }
  }

  private mutating func take(_ packet: PacketObservation, _ credit: Credit) {
    switch credit.fit {
    case .none:
      if !(packet.isOutgoing && noteOtherName(packet, isSure: true)) { count { $0.unmatchedAnswers &+= 1 } }
    case .taken:
      takeFurther(packet, for: credit.slot)
    case .furtherCopy:
      break
    case .unsent, .forwarded, .exact:
      if !packet.isOutgoing {
        takeIncoming(packet, for: credit.slot)
      } else if credit.fit == .exact {
        takeOutgoing(packet, for: credit.slot)
      } else {
        takeUnannounced(packet, credit)
      }
    }
  }

  /// A copy leaves although it was not seen to come. So it is with servers on this node; of any other it may be what came to another service.
  @inline(never) private mutating func takeUnannounced(_ packet: PacketObservation, _ credit: Credit) {
    if isServedHere(credit.slot) {
      takeOutgoing(packet, for: credit.slot)
      return
    }
    // What never left has no answer, where leaving is seen.
    if credit.fit == .unsent && showsSent(credit.slot) && noteOtherName(packet, isSure: true) { return }
    takeOutgoing(packet, for: credit.slot)
    _ = noteOtherName(packet, isSure: false)
  }

  @inline(never) private mutating func showsSent(_ slot: Int32) -> Bool {
    !transmissions.slots[slot].isSentAmbiguous
      && paths.isObservable(
        .sent, interface: transmissions.slots[slot].askedInterface, isTranslated: services.isTranslated(transmissions.slots[slot].server), at: now)
  }

  /// It has its answer already. What leaves once more without having come once more is not its own.
  @inline(never) private mutating func takeFurther(_ packet: PacketObservation, for slot: Int32) {
    let further = transmissions.slots[slot].furtherCame
    if !packet.isOutgoing {
      transmissions.slots[slot].furtherCame = further == .max ? further : further + 1
      // Told once an answer: at its last leg.
      if isAcceptedOnArrival(slot) { count { $0.duplicateAnswers &+= 1 } }
    } else if further > 0 {
      transmissions.slots[slot].furtherCame = further - 1
      count { $0.duplicateAnswers &+= 1 }
    } else if isServedHere(slot) || !noteOtherName(packet, isSure: true) {
      count { $0.duplicateAnswers &+= 1 }
    }
  }

  /// An answer that leaves in the name of an address which it is not the answer of: IPVS finds the connection of an answer by backend and client alone
  /// (`ip_vs_conn_out_get` in net/netfilter/ipvs/ip_vs_conn.c), so what one socket asked of two services comes in the name of one.
  ///
  /// - Parameter isSure: nobody else can have been answered by this copy.
  /// - Returns: whether it is the answer of a transmission that waits.
  @inline(never) private mutating func noteOtherName(_ packet: PacketObservation, isSure: Bool) -> Bool {
    var doubted: Int32 = -1
    var slot = transmissions.first(socket: transmissions.socketKey(packet.destination))
    var steps = 0
    while slot >= 0, steps < TransmissionTable.longestWalk {
      if awaits(packet, slot, isSure: isSure) {
        let waiting = transmissions.slots[slot]
        if !waiting.signs.marks.contains(.otherName) {
          if !waiting.hasCome || packet.time - waiting.came <= Self.lookupTime {
            markOtherName(slot, packet, isSure: isSure)
            return true
          }
        } else if packet.interface != waiting.deliveredInterface && packet.time - waiting.untranslated < Self.forwardingTime {
          // The same copy on another device (VLAN, bridge).
          return true
        } else if isSure && !waiting.signs.marks.contains(.otherNameIsSure) && doubted < 0 {
          doubted = slot
        }
      }
      slot = transmissions.after(socket: slot)
      steps += 1
    }
    guard doubted >= 0 else { return false }
    // The copy before this one was not the other's, whose own has come now.
    transmissions.slots[doubted].signs.marks.insert(.otherNameIsSure)
    return true
  }

  private mutating func awaits(_ packet: PacketObservation, _ slot: Int32, isSure: Bool) -> Bool {
    guard transmissions.slots[slot].state == .open, transmissions.slots[slot].dnsID == packet.dns.id,
      transmissions.slots[slot].client == packet.destination
    else { return false }
    let waiting = transmissions.slots[slot]
    guard packet.dns.questionCount == 0 || waiting.questionHash == packet.dns.questionHash, waiting.isVantageSettled, !waiting.isHostClient,
      !waiting.isProbed, !waiting.wasDelivered, waiting.server != packet.source, waiting.sentDestination != packet.source
    else { return false }
    return waiting.hasCome || (isSure && waiting.wasSent && waiting.asked <= packet.time)
  }

  private mutating func markOtherName(_ slot: Int32, _ packet: PacketObservation, isSure: Bool) {
    transmissions.slots[slot].signs.marks.insert(.otherName)
    transmissions.slots[slot].deliveredInterface = packet.interface
    if transmissions.slots[slot].untranslated == .zero { transmissions.slots[slot].untranslated = packet.time }
    guard transmissions.slots[slot].hasCome else { return }
    if isSure { transmissions.slots[slot].signs.marks.insert(.otherNameIsSure) }
    if services.first(packet.source) >= 0 || isAsked(packet.source, by: packet.destination) {
      transmissions.slots[slot].signs.marks.insert(.otherNameIsService)
    }
  }

  private mutating func isAsked(_ server: Endpoint, by client: Endpoint) -> Bool {
    var slot = transmissions.first(socket: transmissions.socketKey(client))
    var steps = 0
    while slot >= 0, steps < TransmissionTable.longestWalk {
      if transmissions.slots[slot].client == client && transmissions.slots[slot].server == server { return true }
      slot = transmissions.after(socket: slot)
      steps += 1
    }
    return false
  }

  /// No outgoing copy of its answer will follow.
  private mutating func isAcceptedOnArrival(_ slot: Int32) -> Bool {
    transmissions.slots[slot].isHostClient || !configuration.capturesOutgoing || node.isLocal(transmissions.slots[slot].client.address)
  }

  private mutating func fit(_ packet: PacketObservation, _ slot: Int32) -> Fit {
    guard transmissions.slots[slot].asked <= packet.time, transmissions.slots[slot].isVantageSettled, !transmissions.slots[slot].isProbed else {
      return .none
    }
    return packet.isOutgoing ? fitOutgoing(packet, slot) : fitIncoming(packet, slot)
  }

  private mutating func fitIncoming(_ packet: PacketObservation, _ slot: Int32) -> Fit {
    var fit = Fit.none
    if transmissions.slots[slot].wasSent {
      if packet.source == transmissions.slots[slot].sentDestination && packet.destination == transmissions.slots[slot].sentSource { fit = .exact }
    } else if answersUnsent(packet, slot) {
      fit = transmissions.slots[slot].isLocalServer || !configuration.capturesOutgoing ? .forwarded : .unsent
    } else if !configuration.capturesOutgoing && packet.destination == transmissions.slots[slot].client {
      fit = .unsent
    }
    if fit != .none {
      guard transmissions.slots[slot].hasCome else { return fit }
      return packet.interface != transmissions.slots[slot].cameInterface && packet.time - transmissions.slots[slot].came < Self.forwardingTime
        ? .furtherCopy : .taken
    }
    // The bridge's own copy, translated by half.
    return transmissions.slots[slot].hasCome && packet.interface != transmissions.slots[slot].cameInterface
      && (packet.destination == transmissions.slots[slot].client || packet.source == transmissions.slots[slot].server) ? .furtherCopy : .none
  }

  private mutating func fitOutgoing(_ packet: PacketObservation, _ slot: Int32) -> Fit {
    guard packet.destination == transmissions.slots[slot].client, !transmissions.slots[slot].isHostClient else { return .none }
    if packet.source == transmissions.slots[slot].server {
      if transmissions.slots[slot].wasDelivered {
        return packet.interface != transmissions.slots[slot].deliveredInterface
          && packet.time - transmissions.slots[slot].delivered < Self.forwardingTime
          ? .furtherCopy : .taken
      }
      return transmissions.slots[slot].hasCome
        ? .exact : transmissions.slots[slot].wasSent || transmissions.slots[slot].isLocalServer ? .forwarded : .unsent
    }
    // Towards the client, from an address that it did not ask.
    return transmissions.slots[slot].hasCome && packet.source == transmissions.slots[slot].sentDestination
      && transmissions.slots[slot].untranslated == .zero ? .exact : .none
  }

  private mutating func takeIncoming(_ packet: PacketObservation, for slot: Int32) {
    transmissions.slots[slot].came = packet.time
    transmissions.slots[slot].cameInterface = packet.interface
    withdrawCandidate(slot)
    let known = transmissions.slots[slot].entry
    let entry = known >= 0 && entries.hasReply(known, packet.tuple) ? known : entries.find(reply: packet.tuple, zone: nil)
    if entry >= 0 {
      entries.touch(entry, at: packet.time)
      if entries.entries[entry].isNATClash { noteClashAnswer(slot, entry) }
    }
    if node.kind(of: packet.interface) == .workload { node.noteServer(packet.source.address) }
    if isAcceptedOnArrival(slot) { acceptOnArrival(packet, for: slot) }
  }

  private mutating func takeOutgoing(_ packet: PacketObservation, for slot: Int32) {
    if packet.source == transmissions.slots[slot].server {
      withdrawCandidate(slot)
      deliver(slot, packet)
    } else {
      transmissions.slots[slot].untranslated = packet.time
    }
  }

  /// It passed insertion after all.
  mutating func withdrawCandidate(_ slot: Int32) {
    guard transmissions.slots[slot].candidate >= 0 else { return }
    counters.withdraw(transmissions.slots[slot].candidate, at: transmissions.slots[slot].asked)
    transmissions.slots[slot].candidate = -1
  }

  /// The sent leg was not seen: the entry, or the plain tuple, tells whose answer it is.
  private mutating func answersUnsent(_ packet: PacketObservation, _ slot: Int32) -> Bool {
    if packet.source == transmissions.slots[slot].server && packet.destination == transmissions.slots[slot].client { return true }
    let entry = entries.find(reply: packet.tuple, zone: nil)
    if entry >= 0 { return entries.entries[entry].original == transmissions.slots[slot].originalTuple }
    return packet.destination == transmissions.slots[slot].client && services.find(transmissions.slots[slot].server, backend: packet.source) >= 0
  }

  /// Nothing leaves any more: the client has the answer once it came, if the entry still translates it. One that opened an entry of its own is not.
  private mutating func acceptOnArrival(_ packet: PacketObservation, for slot: Int32) {
    let opened = entries.find(original: packet.tuple, zone: nil)
    if opened >= 0 && !entries.entries[opened].isDumped && packet.time - entries.entries[opened].newAt < Self.lookupTime
      && entries.entries[opened].newAt >= packet.time
    {
      return
    }
    deliver(slot, packet)
  }

  private mutating func deliver(_ slot: Int32, _ packet: PacketObservation) {
    transmissions.slots[slot].delivered = packet.time
    transmissions.slots[slot].deliveredInterface = packet.interface
    let isOpen = transmissions.slots[slot].state == .open
    guard isOpen || transmissions.slots[slot].state == .lost, transmissions.slots[slot].vantage == .client else {
      if isOpen {
        transmissions.slots[slot].state = .answered
        notePath(slot, at: packet.time)
      }
      return
    }
    let head = transmissions.slots[slot].head
    let isFirst = transmissions.slots[head].accepted == .zero
    if isOpen && isTooLate(slot) {
      var loss = Loss(.lateAnswer, .none, transmissions.slots[head].isJoined ? .inferred : .observed, [.asked])
      if transmissions.slots[slot].wasSent { loss.evidence.insert(.sent) }
      if transmissions.slots[slot].hasCome { loss.evidence.insert(.came) }
      close(slot, lost: loss)
      return
    }
    if isFirst { transmissions.slots[head].accepted = packet.time }
    if isOpen {
      transmissions.slots[slot].state = .answered
      noteAnswered(packet, since: isFirst ? transmissions.slots[head].asked : nil)
      if transmissions.slots[slot].signs.marks.contains(.clashLoser) { noteResolvedDelivery(slot) }
    }
    // After a verdict this only tells that the path hides a leg, and when the query ended.
    notePath(slot, at: packet.time)
    if transmissions.slots[slot].wasSent {
      backends.noteAnswered(transmissions.slots[slot].sentDestination, over: transmissions.slots[slot].sentInterface, at: packet.time)
    }
    if transmissions.slots[slot].hasTwin { tellTwins(slot) }
    let joined = transmissions.slots[slot].joins
    if joined >= 0 { tellJoined(slot, joined, at: packet.time) }
  }

  @inline(never) private mutating func tellJoined(_ slot: Int32, _ joined: Int32, at time: Instant) {
    if transmissions.slots[joined].generation == transmissions.slots[slot].joinsGeneration && transmissions.slots[joined].accepted == .zero {
      transmissions.slots[joined].accepted = time
    }
  }

  @inline(__always) private mutating func notePath(_ slot: Int32, at time: Instant) {
    guard !blind.isOpen(.packets) else { return }
    let sawSent = transmissions.slots[slot].wasSent || isServedHere(slot)
    paths.noteAnswered(
      interface: transmissions.slots[slot].pathInterface, isTranslated: isTranslated(slot), sawSent: sawSent, sawDelivered: true, at: time)
  }

  /// The answer of a clash's loser came while its entry lived, as far as is known.
  @inline(never) private mutating func noteClashAnswer(_ slot: Int32, _ entry: Int32) {
    if !entries.entries[entry].isDestroyed || entries.entries[entry].status.contains(.seenReply) {
      transmissions.slots[slot].signs.marks.insert(.clashLoser)
    }
  }

  /// True if the client has stopped to wait for this one: its query was asked again and answered, or asked again from another socket.
  private mutating func isTooLate(_ slot: Int32) -> Bool {
    let head = transmissions.slots[slot].head
    guard transmissions.slots[slot].attempt < transmissions.slots[head].attempts else { return false }
    return transmissions.slots[head].accepted != .zero
      || (transmissions.slots[head].isJoined && transmissions.slots[slot].delivered > transmissions.slots[head].lastAsked)
  }

  /// Whether the way of this transmission leads through a translation: by the sent leg where there is one, else by what its server is known for.
  mutating func isTranslated(_ slot: Int32) -> Bool {
    transmissions.slots[slot].wasSent
      ? transmissions.slots[slot].sentDestination != transmissions.slots[slot].server : services.isTranslated(transmissions.slots[slot].server)
  }

  mutating func isTranslated(_ transmission: Transmission) -> Bool {
    transmission.wasSent ? transmission.sentDestination != transmission.server : services.isTranslated(transmission.server)
  }

  /// - Parameter asked: when its query was first asked; nil if that was answered before.
  private mutating func noteAnswered(_ packet: PacketObservation, since asked: Instant?) {
    let code: Int
    switch packet.dns.responseCode {
    case 0...3: code = Int(packet.dns.responseCode)
    case 5: code = 4
    default: code = 5
    }
    count {
      $0.answered &+= 1
      $0.open &-= 1
      $0.answersByCode[code] &+= 1
      if let asked { $0.durations.observe(nanoseconds: packet.time - asked) }
    }
  }

  /// The same question of the same socket was answered by another server: what its twins lose costs nobody a wait.
  private mutating func tellTwins(_ slot: Int32) {
    let mine = transmissions.slots[slot]
    var other = transmissions.first(socket: mine.socketKey)
    var steps = 0
    while other >= 0, steps < 64 {
      if other != slot && transmissions.slots[other].client == mine.client && transmissions.slots[other].questionHash == mine.questionHash
        && transmissions.slots[other].server != mine.server
      {
        let head = transmissions.slots[other].head
        transmissions.slots[head].isAnsweredElsewhere = true
      }
      other = transmissions.after(socket: other)
      steps += 1
    }
  }
}
