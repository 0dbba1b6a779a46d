import Flows

extension Engine {
  /// A copy of an answer: *came* on its way in, *delivered* on its way out from the address that was asked.
  mutating func observeAnswer(_ packet: PacketObservation) {
    // Between a bridge and its ports the answer may be translated by half (br_netfilter): the port's copy decides.
    if packet.isOutgoing && node.kind(of: packet.interface) == .bridge { return }
    if packet.dns.questionCount == 0 {
      observeAnswerWithoutQuestion(packet)
      return
    }
    let key = transmissions.questionKey(id: packet.dns.id, questionHash: packet.dns.questionHash)
    var slot = transmissions.first(question: key)
    var steps = 0
    while slot >= 0, steps < TransmissionTable.longestWalk {
      if matches(slot, packet.dns), take(packet, for: slot) { return }
      slot = transmissions.after(question: slot)
      steps += 1
    }
    count { $0.unmatchedAnswers &+= 1 }
  }

  /// Some error answers repeat no question (RFC 1035 4.1.1 leaves it to the server): then the entry or the delivered tuple names the socket.
  private mutating func observeAnswerWithoutQuestion(_ packet: PacketObservation) {
    var client = packet.destination
    if !packet.isOutgoing {
      let entry = entries.find(reply: packet.tuple, zone: nil)
      if entry >= 0 { client = entries.entries[entry].original.source }
    }
    var slot = transmissions.first(socket: transmissions.socketKey(client))
    var steps = 0
    while slot >= 0, steps < TransmissionTable.longestWalk {
      if transmissions.slots[slot].client == client, transmissions.slots[slot].dnsID == packet.dns.id, take(packet, for: slot) { return }
      slot = transmissions.after(socket: slot)
      steps += 1
    }
    count { $0.unmatchedAnswers &+= 1 }
  }

  /// Credits the copy to the transmission if it fits. The newest that fits gets the first answer, the one before it the second.
  private mutating func take(_ packet: PacketObservation, for slot: Int32) -> Bool {
    guard transmissions.slots[slot].asked <= packet.time, transmissions.slots[slot].isVantageSettled else { return false }
    return packet.isOutgoing ? takeOutgoing(packet, for: slot) : takeIncoming(packet, for: slot)
  }

  private mutating func takeIncoming(_ packet: PacketObservation, for slot: Int32) -> Bool {
    let isExact: Bool
    if transmissions.slots[slot].wasSent {
      isExact = packet.source == transmissions.slots[slot].sentDestination && packet.destination == transmissions.slots[slot].sentSource
    } else if configuration.capturesOutgoing {
      isExact = answersUnsent(packet, transmissions.slots[slot])
    } else {
      isExact = packet.destination == transmissions.slots[slot].client || answersUnsent(packet, transmissions.slots[slot])
    }
    if isExact {
      if transmissions.slots[slot].hasCome {
        // Another copy of the same answer (VLAN, bridge), or a second answer: that one belongs to an earlier attempt.
        return packet.interface != transmissions.slots[slot].cameInterface && packet.time - transmissions.slots[slot].came < Self.forwardingTime
      }
      transmissions.slots[slot].came = packet.time
      transmissions.slots[slot].cameInterface = packet.interface
      if node.kind(of: packet.interface) == .workload { node.noteServer(packet.source.address) }
      if transmissions.slots[slot].isHostClient || node.isLocal(transmissions.slots[slot].client.address) {
        acceptAtHost(packet, for: slot)
      } else if !configuration.capturesOutgoing {
        deliver(slot, packet)
      }
      return true
    }
    // The bridge's own copy, translated by half.
    return transmissions.slots[slot].hasCome && packet.interface != transmissions.slots[slot].cameInterface
      && (packet.destination == transmissions.slots[slot].client || packet.source == transmissions.slots[slot].server)
  }

  /// The sent leg was not seen: the entry, or the plain tuple, tells whose answer it is.
  private func answersUnsent(_ packet: PacketObservation, _ transmission: Transmission) -> Bool {
    if packet.source == transmission.server && packet.destination == transmission.client { return true }
    let entry = entries.find(reply: packet.tuple, zone: nil)
    if entry >= 0 { return entries.entries[entry].original == transmission.originalTuple }
    return packet.destination == transmission.client && services.find(transmission.server, backend: packet.source) >= 0
  }

  private mutating func takeOutgoing(_ packet: PacketObservation, for slot: Int32) -> Bool {
    guard packet.destination == transmissions.slots[slot].client, !transmissions.slots[slot].isHostClient else { return false }
    if packet.source == transmissions.slots[slot].server {
      if transmissions.slots[slot].wasDelivered {
        return packet.interface != transmissions.slots[slot].deliveredInterface
          && packet.time - transmissions.slots[slot].delivered < Self.forwardingTime
      }
      deliver(slot, packet)
      return true
    }
    // Towards the client, from an address that it did not ask.
    guard transmissions.slots[slot].hasCome, packet.source == transmissions.slots[slot].sentDestination,
      transmissions.slots[slot].untranslated == .zero
    else { return false }
    transmissions.slots[slot].untranslated = packet.time
    return true
  }

  /// A process of the node has the answer once it came, if the entry still translates it. An answer that opened an entry of its own was not.
  private mutating func acceptAtHost(_ packet: PacketObservation, for slot: Int32) {
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
    guard transmissions.slots[slot].state == .open else { return }
    transmissions.slots[slot].state = .answered
    guard transmissions.slots[slot].vantage == .client else { return }
    let head = transmissions.slots[slot].head
    if transmissions.slots[head].accepted == .zero { transmissions.slots[head].accepted = packet.time }
    noteAnswered(packet, since: transmissions.slots[head].asked)
    if !transmissions.slots[slot].isHostClient && !blind.isOpen(.packets) {
      paths.noteAnswered(
        interface: transmissions.slots[slot].askedInterface, isTranslated: isTranslated(transmissions.slots[slot]),
        sawSent: transmissions.slots[slot].wasSent || transmissions.slots[slot].isLocalServer,
        sawDelivered: true, at: packet.time)
    }
    if transmissions.slots[slot].hasTwin { tellTwins(slot) }
    let joined = transmissions.slots[slot].joins
    if joined >= 0 && transmissions.slots[joined].generation == transmissions.slots[slot].joinsGeneration
      && transmissions.slots[joined].accepted == .zero
    {
      transmissions.slots[joined].accepted = packet.time
    }
  }

  /// Whether the way of this transmission leads through a translation: by the sent leg where there is one, else by what its server is known for.
  func isTranslated(_ transmission: Transmission) -> Bool {
    transmission.wasSent ? transmission.sentDestination != transmission.server : services.isTranslated(transmission.server)
  }

  private mutating func noteAnswered(_ packet: PacketObservation, since asked: Instant) {
    let duration = max(0, packet.time - asked)
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
      $0.durations.observe(nanoseconds: duration)
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
