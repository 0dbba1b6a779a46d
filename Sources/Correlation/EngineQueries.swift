import Flows

extension Engine {
  /// A copy of a query: the first copy of a transmission, its sent leg, or a copy in between.
  mutating func observeQuery(_ packet: PacketObservation, name: RawSpan) {
    let key = transmissions.questionKey(id: packet.dns.id, questionHash: packet.dns.questionHash)
    if packet.isOutgoing {
      observeOutgoingQuery(packet, key: key, name: name)
    } else {
      observeIncomingQuery(packet, key: key, name: name)
    }
  }

  private mutating func observeIncomingQuery(_ packet: PacketObservation, key: UInt64, name: RawSpan) {
    // What comes in over loopback left there a moment before, and was seen then.
    if node.kind(of: packet.interface) == .loopback && configuration.capturesOutgoing { return }
    var slot = transmissions.first(question: key)
    var steps = 0
    while slot >= 0, steps < TransmissionTable.longestWalk {
      defer {
        slot = transmissions.after(question: slot)
        steps += 1
      }
      guard matches(slot, packet.dns), packet.time - transmissions.slots[slot].asked < Self.forwardingTime else { continue }
      let same = transmissions.slots[slot].client == packet.source && transmissions.slots[slot].server == packet.destination
      if same {
        // On the device of its first copy it is another datagram; on another one (VLAN, bridge) another copy of this one.
        if transmissions.slots[slot].askedInterface == packet.interface { break }
        return
      }
      // br_netfilter shows the copy on the bridge already translated and not yet inserted.
      if transmissions.slots[slot].client == packet.source && transmissions.slots[slot].askedInterface != packet.interface
        && node.kind(of: packet.interface) == .bridge
      {
        return
      }
    }
    open(packet, client: packet.source, server: packet.destination, isHostClient: false, name: name)
  }

  private mutating func observeOutgoingQuery(_ packet: PacketObservation, key: UInt64, name: RawSpan) {
    // The bridge hands the frame on to a port, whose copy follows; with br_netfilter this one is not inserted yet.
    if node.kind(of: packet.interface) == .bridge { return }
    let entry = entries.find(reply: packet.tuple.inverse, zone: nil)
    if entry >= 0 { entries.touch(entry, at: packet.time) }
    let found = sender(of: packet, key: key, entry: entry)
    if found.isFurtherCopy { return }
    if found.slot >= 0 {
      noteSent(found.slot, packet, entry: entry)
      return
    }
    let original = entry >= 0 ? entries.entries[entry].original : packet.tuple
    guard node.isLocal(original.source.address) else {
      count { $0.unmatchedCopies &+= 1 }
      return
    }
    // No ingress copy and a local source: a process of the node.
    if isFurtherHostCopy(packet, key: key, original: original) { return }
    open(packet, client: original.source, server: original.destination, isHostClient: true, name: name)
  }

  /// The transmission whose sent leg this outgoing copy is. `entry` is the entry whose reply tuple this copy's tuple inverts, or -1.
  private mutating func sender(of packet: PacketObservation, key: UInt64, entry: Int32) -> Found {
    if entry >= 0 {
      let named = newestUnsent(packet, key: key, .named(entry))
      if named.slot >= 0 || named.isFurtherCopy { return named }
    }
    return senderWithoutEntry(of: packet, key: key)
  }

  private mutating func senderWithoutEntry(of packet: PacketObservation, key: UInt64) -> Found {
    // No event names the entry: a merged loser, one inserted in the reply direction only, or an event that was lost.
    let own = newestUnsent(packet, key: key, .own)
    if own.slot >= 0 || own.isFurtherCopy { return noteAmbiguity(own) }
    // To a backend that no entry has named yet: the first query sent there may be a loser.
    let unlearned = newestUnsent(packet, key: key, .unlearned)
    if unlearned.slot >= 0 || unlearned.isFurtherCopy { return noteAmbiguity(unlearned) }
    guard node.isLocal(packet.source.address) else { return Found() }
    return noteAmbiguity(newestUnsent(packet, key: key, .masqueraded))
  }

  private struct Found {
    var slot: Int32 = -1
    /// Another one fitted as well.
    var other: Int32 = -1
    /// This is the sent leg of one that fits, on another device: a VLAN's card after the VLAN.
    var isFurtherCopy = false
  }

  /// What a transmission must be to have been sent as a copy.
  private enum Sender {
    /// It has the original tuple of this entry.
    case named(Int32)
    /// Its client's address, to its server or a backend of that.
    case own
    /// Its client's address.
    case unlearned
    /// This node's address, in the place of its client's.
    case masqueraded
  }

  @inline(__always) private mutating func fits(_ slot: Int32, _ packet: PacketObservation, _ sender: Sender) -> Bool {
    switch sender {
    case .named(let entry):
      return transmissions.slots[slot].client == entries.entries[entry].client && transmissions.slots[slot].server == entries.entries[entry].server
    case .own:
      return transmissions.slots[slot].client == packet.source
        && (transmissions.slots[slot].server == packet.destination
          || services.find(transmissions.slots[slot].server, backend: packet.destination) >= 0)
    case .unlearned:
      return transmissions.slots[slot].client == packet.source
    case .masqueraded:
      let row = services.find(transmissions.slots[slot].server, backend: packet.destination)
      return row >= 0 && services.rows[row].masqueradeAddress == packet.source.address
    }
  }

  /// The newest open transmission of this question that fits, has not been sent and was asked before this copy within the forwarding time.
  private mutating func newestUnsent(_ packet: PacketObservation, key: UInt64, _ sender: Sender) -> Found {
    var found = Found()
    var slot = transmissions.first(question: key)
    var steps = 0
    while slot >= 0, steps < TransmissionTable.longestWalk {
      defer {
        slot = transmissions.after(question: slot)
        steps += 1
      }
      guard matches(slot, packet.dns), packet.time - transmissions.slots[slot].asked < 2 * Self.forwardingTime,
        !transmissions.slots[slot].isHostClient, !transmissions.slots[slot].isProbed, fits(slot, packet, sender)
      else { continue }
      if transmissions.slots[slot].wasSent {
        if transmissions.slots[slot].sentInterface != packet.interface && transmissions.slots[slot].sentDestination == packet.destination
          && found.slot < 0
        {
          found.isFurtherCopy = true
          break
        }
      } else if transmissions.slots[slot].state == .open {
        if found.slot < 0 {
          found.slot = slot
        } else if transmissions.slots[found.slot].server != transmissions.slots[slot].server {
          found.other = slot
        }
      }
    }
    return found
  }

  /// Two servers were asked the same and one copy left: whichever is named, nothing may be concluded from "not sent" of the other.
  private mutating func noteAmbiguity(_ found: Found) -> Found {
    if found.other >= 0 {
      transmissions.slots[found.slot].isSentAmbiguous = true
      transmissions.slots[found.other].isSentAmbiguous = true
    }
    return found
  }

  private mutating func noteSent(_ slot: Int32, _ packet: PacketObservation, entry: Int32) {
    if transmissions.slots[slot].signs.marks.contains(.badChecksum) && packet.destination == transmissions.slots[slot].server
      && services.isTranslated(packet.destination)
    {
      // What connection tracking takes for invalid goes on without translation.
      transmissions.slots[slot].signs.marks.insert(.leftUntranslated)
      return
    }
    transmissions.slots[slot].sent = packet.time
    transmissions.slots[slot].sentInterface = packet.interface
    transmissions.slots[slot].sentSource = packet.source
    transmissions.slots[slot].sentDestination = packet.destination
    transmissions.slots[slot].entry = entry
    withdrawCandidate(slot)
    if entry >= 0 { learnZone(of: transmissions.slots[slot].askedInterface, entry) }
    if !transmissions.slots[slot].isVantageSettled {
      if node.kind(of: packet.interface) == .workload {
        settle(slot, .server)
      } else {
        count { $0.transmissions[Int(Vantage.transit.rawValue)] &+= 1 }
        clearTimer(slot)
        release(slot)
      }
    }
  }

  /// A device's zone is that of the entries made by what came in there, unless another zone has the same tuples.
  private mutating func learnZone(of interface: UInt32, _ entry: Int32) {
    let zone = entries.entries[entry].zone
    guard zone != node.zone(of: interface), !entries.isInSeveralZones(reply: entries.entries[entry].reply) else { return }
    node.learnZone(of: interface, zone)
  }

  /// True if a transmission of a process of the node was seen to leave on another device already (bridge port after bridge, card after VLAN).
  private mutating func isFurtherHostCopy(_ packet: PacketObservation, key: UInt64, original: FiveTuple) -> Bool {
    var slot = transmissions.first(question: key)
    var steps = 0
    while slot >= 0, steps < TransmissionTable.longestWalk {
      if matches(slot, packet.dns), transmissions.slots[slot].client == original.source, transmissions.slots[slot].server == original.destination,
        packet.time - transmissions.slots[slot].asked < Self.forwardingTime, transmissions.slots[slot].wasSent
      {
        return transmissions.slots[slot].sentInterface != packet.interface
      }
      slot = transmissions.after(question: slot)
      steps += 1
    }
    return false
  }

  @inline(__always) func matches(_ slot: Int32, _ dns: DNSMessage) -> Bool {
    transmissions.slots[slot].questionHash == dns.questionHash && transmissions.slots[slot].dnsID == dns.id
  }

  // MARK: A new transmission

  /// - Returns: the transmission; nil where there is no room for it.
  @discardableResult
  mutating func open(_ packet: PacketObservation, client: Endpoint, server: Endpoint, isHostClient: Bool, name: RawSpan) -> Int32? {
    let kind = node.kind(of: packet.interface)
    let isServerLocal = node.isLocal(server.address)
    let cameOverUplink = !isHostClient && (kind == .uplink || kind == .tunnel || kind == .other)
    guard let slot = transmissions.take(client: client, dns: packet.dns) else {
      if !cameOverUplink {
        countOpened(packet.dns.queryType)
        count { $0.evicted &+= 1 }
      }
      return nil
    }
    transmissions.slots[slot].server = server
    transmissions.slots[slot].asked = packet.time
    transmissions.slots[slot].askedWall = packet.wallTime
    transmissions.slots[slot].askedInterface = packet.interface
    transmissions.slots[slot].lastAsked = packet.time
    transmissions.slots[slot].isHostClient = isHostClient
    if packet.hasBadChecksum { transmissions.slots[slot].signs.marks.insert(.badChecksum) }
    transmissions.slots[slot].isLocalServer = isServerLocal && !isHostClient
    let reference = names.store(name)
    if reference == 0 && name.byteCount > 0 {
      transmissions.give(back: slot)
      if !cameOverUplink {
        countOpened(packet.dns.queryType)
        count { $0.evicted &+= 1 }
      }
      return nil
    }
    transmissions.slots[slot].name = reference
    transmissions.slots[slot].nameLength = UInt8(min(name.byteCount, 255))
    if isHostClient {
      transmissions.slots[slot].sent = packet.time
      transmissions.slots[slot].sentInterface = packet.interface
      transmissions.slots[slot].sentSource = packet.source
      transmissions.slots[slot].sentDestination = packet.destination
    }
    let item = QueuedSlot(slot: slot, generation: transmissions.slots[slot].generation, asked: packet.time)
    // A server that is an address of this node may yet be a service with its backends elsewhere (IPVS): that is asked when it is looked at.
    // What the probe alone saw has no stamp of the ring's, and could keep the others waiting.
    let isCaptured = packet.interface != 0
    if isCaptured && firstLooks.append(item, isSuspectable: !cameOverUplink && !isHostClient && configuration.capturesOutgoing) {
      transmissions.slots[slot].watch = .firstLook
    } else {
      setTimer(slot, at: packet.time + Self.firstLook)
    }
    if cameOverUplink {
      transmissions.slots[slot].isVantageSettled = false
      transmissions.slots[slot].vantage = .transit
      if isServerLocal { settle(slot, .server) }
    } else {
      countOpened(packet.dns.queryType)
      count { $0.open &+= 1 }
      joinQuery(slot)
      if probes.waiting > 0 && !isHostClient { matchProbed(slot) }
    }
    return slot
  }

  private mutating func countOpened(_ type: UInt16) {
    count {
      $0.transmissions[Int(Vantage.client.rawValue)] &+= 1
      switch type {
      case QueryType.a: $0.clientTransmissionsA &+= 1
      case QueryType.aaaa: $0.clientTransmissionsAAAA &+= 1
      default: $0.clientTransmissionsOther &+= 1
      }
    }
  }

  private mutating func settle(_ slot: Int32, _ vantage: Vantage) {
    transmissions.slots[slot].vantage = vantage
    transmissions.slots[slot].isVantageSettled = true
    count { $0.transmissions[Int(vantage.rawValue)] &+= 1 }
  }

  /// Finds the query that this transmission is an attempt of, and its siblings in the lookup.
  private mutating func joinQuery(_ slot: Int32) {
    var other = transmissions.after(question: slot)
    var steps = 0
    while other >= 0, steps < TransmissionTable.longestWalk {
      if isSameQuery(other, slot) {
        let head = transmissions.slots[other].head
        // An answered query is over, and the same ID again is a new one; unless its sibling still waits: glibc repeats both then.
        if transmissions.slots[head].accepted != .zero && !siblingWaits(head, beside: slot) { break }
        noteLibrary(slot, repeating: head)
        join(slot, to: head)
        return
      }
      if repeats(slot, other) {
        joinFromAnotherPort(slot, transmissions.slots[other].head)
        findSiblings(slot)
        return
      }
      other = transmissions.after(question: other)
      steps += 1
    }
    findSiblings(slot)
    if transmissions.stalled > 0 && !transmissions.slots[slot].hasTwin { joinStalled(slot) }
  }

  private mutating func isSameQuery(_ other: Int32, _ slot: Int32) -> Bool {
    transmissions.slots[other].questionHash == transmissions.slots[slot].questionHash
      && transmissions.slots[other].dnsID == transmissions.slots[slot].dnsID && transmissions.slots[other].client == transmissions.slots[slot].client
      && transmissions.slots[other].server == transmissions.slots[slot].server && transmissions.slots[other].vantage == .client
      && transmissions.slots[other].isHostClient == transmissions.slots[slot].isHostClient
  }

  /// The same client address, ID and question from another port, after a pause: a resolver's next attempt, perhaps at its next server. Copies
  /// that are sent to several servers at once share the port.
  private mutating func repeats(_ slot: Int32, _ other: Int32) -> Bool {
    guard transmissions.slots[other].questionHash == transmissions.slots[slot].questionHash,
      transmissions.slots[other].dnsID == transmissions.slots[slot].dnsID,
      transmissions.slots[other].client.address == transmissions.slots[slot].client.address,
      transmissions.slots[other].client.port != transmissions.slots[slot].client.port, transmissions.slots[other].vantage == .client
    else { return false }
    let head = transmissions.slots[other].head
    let gap = transmissions.slots[slot].asked - transmissions.slots[head].lastAsked
    return transmissions.slots[head].accepted == .zero && !transmissions.slots[head].isAnsweredElsewhere && gap > Self.lookupTime
      && gap <= configuration.timeout
  }

  /// True if another query of this lookup is lost or open, or was asked again a moment ago; `newest`, which has just been opened, is none yet.
  ///
  /// glibc repeats the answered one of a pair after the lost one, whose second attempt may be answered by then.
  mutating func siblingWaits(_ slot: Int32, beside newest: Int32 = -1) -> Bool {
    guard transmissions.slots[slot].hasSibling else { return false }
    let time = newest >= 0 ? transmissions.slots[newest].asked : now
    var other = transmissions.first(socket: transmissions.slots[slot].socketKey)
    var steps = 0
    while other >= 0, steps < 16 {
      if other != slot && other != newest && transmissions.slots[other].client == transmissions.slots[slot].client
        && transmissions.slots[other].nameHash == transmissions.slots[slot].nameHash
      {
        let head = transmissions.slots[other].head
        if transmissions.slots[head].accepted == .zero { return true }
        if head != slot && transmissions.slots[head].attempts > 1 && time - transmissions.slots[head].lastAsked <= Self.lookupTime { return true }
      }
      other = transmissions.after(socket: other)
      steps += 1
    }
    return false
  }

  private mutating func join(_ slot: Int32, to head: Int32) {
    transmissions.slots[slot].head = head
    transmissions.slots[head].attempts &+= 1
    transmissions.slots[head].openAttempts &+= 1
    transmissions.slots[head].lastAsked = transmissions.slots[slot].asked
    transmissions.slots[slot].attempt = transmissions.slots[head].attempts
    count { $0.retries &+= 1 }
  }

  private mutating func findSiblings(_ slot: Int32) {
    let asked = transmissions.slots[slot].asked
    var other = transmissions.after(socket: slot)
    var steps = 0
    while other >= 0, steps < 16 {
      defer {
        other = transmissions.after(socket: other)
        steps += 1
      }
      guard transmissions.slots[other].client == transmissions.slots[slot].client else { continue }
      guard asked - transmissions.slots[other].asked <= Self.lookupTime else { break }
      guard transmissions.slots[other].nameHash == transmissions.slots[slot].nameHash else { continue }
      if transmissions.slots[other].queryType != transmissions.slots[slot].queryType {
        noteSibling(slot, other)
        noteSibling(other, slot)
      } else if transmissions.slots[other].server != transmissions.slots[slot].server {
        transmissions.slots[slot].hasTwin = true
        transmissions.slots[other].hasTwin = true
        transmissions.slots[transmissions.slots[slot].head].signs.libc = .musl
        transmissions.slots[transmissions.slots[other].head].signs.libc = .musl
        if !transmissions.slots[slot].hasSibling { noteSibling(slot, other) }
        if !transmissions.slots[other].hasSibling { noteSibling(other, slot) }
        if transmissions.slots[other].state == .answered { transmissions.slots[slot].isAnsweredElsewhere = true }
      }
    }
  }

  private mutating func noteSibling(_ slot: Int32, _ other: Int32) {
    transmissions.slots[slot].hasSibling = true
    transmissions.slots[slot].siblingID = transmissions.slots[other].dnsID
    transmissions.slots[slot].siblingType = transmissions.slots[other].queryType
  }

  mutating func joinFromAnotherPort(_ slot: Int32, _ head: Int32) {
    transmissions.slots[slot].joins = head
    transmissions.slots[slot].joinsGeneration = transmissions.slots[head].generation
    transmissions.slots[slot].lookupSocket = transmissions.slots[head].lookupSocket
    transmissions.slots[slot].lookupTime = transmissions.slots[head].lookupTime
    transmissions.slots[head].isJoined = true
    transmissions.slots[head].attempts &+= 1
    transmissions.slots[head].lastAsked = transmissions.slots[slot].asked
    count { $0.retries &+= 1 }
  }
}
