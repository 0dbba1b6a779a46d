import Flows

extension Engine {
  /// Closes a transmission as lost, counts it once and writes its record.
  mutating func close(_ slot: Int32, lost loss: Loss) {
    let transmission = transmissions.slots[slot]
    let head = transmission.head
    transmissions.slots[slot].state = .lost
    transmissions.slots[slot].verdict = loss.verdict
    transmissions.slots[slot].reason = loss.reason
    transmissions.slots[slot].grade = loss.grade
    if transmission.vantage == .client {
      if loss.evidence.contains(.pathUnobserved) {
        paths.noteDoubt(interface: transmission.pathInterface, isTranslated: isTranslated(transmission), at: now)
      }
      count {
        $0.open &-= 1
        if loss.verdict == .unknown {
          $0.unknown &+= 1
        } else {
          $0.lost &+= 1
        }
        $0.lostByVerdict[Int(loss.verdict.rawValue) * 3 + Int(loss.grade.rawValue)] &+= 1
      }
    } else {
      count { $0.serverLost &+= 1 }
    }
    if transmissions.slots[head].incidentID == 0 {
      transmissions.slots[head].incidentID = makeIncidentID()
      transmissions.slots[head].firstVerdict = loss.verdict
      transmissions.slots[head].firstReason = loss.reason
      transmissions.slots[head].firstGrade = loss.grade
      transmissions.slots[head].firstEvidence = loss.evidence
    }
    transmissions.slots[head].lostAttempts &+= 1
    if loss.reason == .wrongService { transmissions.slots[head].signs.marks.insert(.mayBeTaken) }
    records.append(.lost(record(slot, loss)))
    setTimer(slot, at: max(transmissions.slots[head].lastAsked + configuration.timeout, now))
  }

  private mutating func makeIncidentID() -> UInt64 {
    nextIncident &+= 1
    var hash = SeededHash(seed: configuration.seed)
    hash.combine(nextIncident)
    return max(1, hash.finish())
  }

  private mutating func record(_ slot: Int32, _ loss: Loss) -> LostQuery {
    let transmission = transmissions.slots[slot]
    var lost = LostQuery()
    lost.incidentID = transmissions.slots[transmission.head].incidentID
    lost.verdict = loss.verdict
    lost.reason = loss.reason
    lost.grade = loss.grade
    lost.vantage = transmission.vantage
    lost.evidence = loss.evidence
    lost.time = transmission.askedWall
    lost.observedTime = wallNow
    lost.dnsID = transmission.dnsID
    lost.name = names.bytes(transmission.name, length: Int(transmission.nameLength))
    lost.queryType = transmission.queryType
    lost.client = transmission.client
    lost.server = transmission.server
    lost.clientIsHost = transmission.isHostClient
    lost.clientIsServer = answersDNS(transmission.client.address)
    if transmission.wasSent && transmission.sentDestination != transmission.server {
      lost.backend = transmission.sentDestination
    } else {
      lost.backend = loss.backend
    }
    lost.winnerServer = loss.winnerServer
    lost.winnerClient = loss.winnerClient
    if transmission.hasSibling {
      lost.siblingID = transmission.siblingID
      lost.siblingType = transmission.siblingType
    }
    lost.attempt = transmission.attempt
    lost.insertFailedDelta = loss.insertFailed
    lost.dropDelta = loss.drop
    lost.clashResolveDelta = loss.clashResolve
    lost.invalidDelta = loss.invalid
    lost.blindSource = loss.blindSource
    if transmission.signs.isRefused {
      lost.icmpType = UInt8(transmission.signs.refusal >> 8)
      lost.icmpCode = UInt8(truncatingIfNeeded: transmission.signs.refusal)
      lost.icmpSender = transmission.signs.refusedBy
    }
    lost.libc = transmissions.slots[transmission.head].signs.libc
    lost.zone = node.zone(of: transmission.askedInterface)
    lost.flowID = flowID(slot)
    lost.cpu = loss.cpu
    return lost
  }

  /// True if this address also answers on a DNS port (CoreDNS, NodeLocal).
  private mutating func answersDNS(_ address: IPAddress) -> Bool {
    node.isServer(address)
  }

  // MARK: The end of a transmission and of its query

  /// A transmission's time is over. The first attempt of a query stays until the others are gone.
  mutating func retire(_ slot: Int32) {
    let head = transmissions.slots[slot].head
    if head == slot {
      let end = transmissions.slots[slot].lastAsked + configuration.timeout
      if transmissions.slots[slot].lostAttempts > 0 && now < end {
        setTimer(slot, at: end)
      } else if transmissions.slots[slot].openAttempts > 0 {
        transmissions.slots[slot].isRetired = true
      } else {
        closeQuery(slot)
        release(slot)
      }
      return
    }
    release(slot)
    transmissions.slots[head].openAttempts &-= 1
    if transmissions.slots[head].openAttempts == 0 && transmissions.slots[head].isRetired {
      transmissions.slots[head].isRetired = false
      retire(head)
    }
  }

  /// Tells how a query that lost a transmission ended. Attempts beside the first hold no losses of their own to tell.
  mutating func closeQuery(_ head: Int32) {
    guard transmissions.slots[head].lostAttempts > 0, transmissions.slots[head].head == head, transmissions.slots[head].vantage == .client
    else { return }
    tellClosed(head)
  }

  @inline(never) private mutating func tellClosed(_ head: Int32) {
    let query = transmissions.slots[head]
    var closed = ClosedQuery()
    closed.incidentID = query.incidentID
    closed.lookupID = lookupID(query)
    closed.lookupTime = query.lookupTime
    closed.time = query.askedWall
    closed.observedTime = wallNow
    closed.verdict = query.firstVerdict
    closed.reason = query.firstReason
    closed.evidence = query.firstEvidence
    closed.grade = query.firstGrade
    if query.isAnsweredElsewhere {
      closed.impact = .none
    } else if query.accepted != .zero {
      closed.impact = .delayed
      closed.delay = max(0, query.accepted - query.asked)
    } else {
      closed.impact = .failed
      closed.delay = max(0, query.lastAsked - query.asked)
    }
    // An agent that stops does not see the end, and nobody sees what a client takes from an address that it did not ask.
    closed.impactObserved =
      !query.isJoined && !blind.isOpen(.shutdown) && (query.isAnsweredElsewhere || !query.signs.marks.contains(.mayBeTaken))
    closed.attempts = query.attempts
    closed.dnsID = query.dnsID
    closed.name = names.bytes(query.name, length: Int(query.nameLength))
    closed.queryType = query.queryType
    closed.client = query.client
    closed.server = query.server
    closed.clientIsServer = answersDNS(query.client.address)
    closed.libc = query.signs.libc
    records.append(.closed(closed))
  }

  private mutating func lookupID(_ query: Transmission) -> UInt64 {
    var hash = SeededHash(seed: configuration.seed)
    hash.combine(query.lookupSocket)
    hash.combine(query.nameHash)
    return hash.finish()
  }

  /// Gives a transmission's slot and name back.
  mutating func release(_ slot: Int32) {
    // Nearly all are answered queries of clients, of which nothing is kept.
    if transmissions.slots[slot].vantage != .client || transmissions.slots[slot].state == .lost { remember(slot) }
    names.release(transmissions.slots[slot].name, length: Int(transmissions.slots[slot].nameLength))
    clearTimer(slot)
    transmissions.give(back: slot)
  }
}
