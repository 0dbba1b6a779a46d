package import Flows

extension Engine {
  /// Takes one copy of an ICMP error about a DNS datagram.
  ///
  /// It is kept as a reason, should no answer come: the client waits on all the same, and whoever can send a packet can forge one. An answered
  /// query stays answered. Errors about answers (a client that has closed its socket) say nothing of a query.
  package mutating func observe(_ refusal: RefusalObservation) {
    if refusal.error.quotesID && refusal.dns.isResponse { return }
    // "Fragmentation needed" (RFC 1191) asks for smaller packets.
    if refusal.quoted.source.address.isV4 && refusal.error.type == 3 && refusal.error.code == 4 { return }
    let found = refused(refusal)
    guard found.slot >= 0 else {
      count { $0.unmatchedCopies &+= 1 }
      return
    }
    let transmission = transmissions.slots[found.slot]
    if !transmission.signs.isRefused {
      transmissions.slots[found.slot].signs.refusal = UInt16(refusal.error.type) << 8 | UInt16(refusal.error.code)
      transmissions.slots[found.slot].signs.refusedBy = refusal.error.sender
    } else if transmission.signs.refusedBy != refusal.error.sender && !node.isLocal(refusal.error.sender) {
      return
    }
    if !found.isAmbiguous && isFromThere(refusal, transmission) { transmissions.slots[found.slot].signs.marks.insert(.refusalIsSure) }
  }

  /// True if the error came the way that the transmission had gone, or was made by this node, which it did not leave.
  private mutating func isFromThere(_ refusal: RefusalObservation, _ transmission: Transmission) -> Bool {
    if !refusal.isOutgoing {
      return transmission.wasSent && (refusal.interface == transmission.sentInterface || transmission.isHostClient)
    }
    // A forged one came in before it leaves.
    return !transmission.wasSent && !transmission.signs.isRefused && node.isLocal(refusal.error.sender)
  }

  private struct Refused {
    var slot: Int32 = -1
    /// Without the ID: more than one waits on this tuple.
    var isAmbiguous = false
  }

  /// The newest open transmission that the quoted datagram can be, one without an error before one that has one.
  private mutating func refused(_ refusal: RefusalObservation) -> Refused {
    var client = refusal.quoted.source
    let entry = entries.find(reply: refusal.quoted.inverse, zone: nil)
    if entry >= 0 { client = entries.entries[entry].original.source }
    var found = Refused()
    var repeated: Int32 = -1
    var slot = transmissions.first(socket: transmissions.socketKey(client))
    var steps = 0
    while slot >= 0, steps < TransmissionTable.longestWalk {
      if isRefused(slot, refusal, client) {
        if transmissions.slots[slot].signs.isRefused {
          if repeated < 0 { repeated = slot }
        } else if found.slot < 0 {
          found.slot = slot
        } else if !refusal.error.quotesID {
          found.isAmbiguous = true
        }
      }
      slot = transmissions.after(socket: slot)
      steps += 1
    }
    if found.slot < 0 { found.slot = repeated }
    return found
  }

  private mutating func isRefused(_ slot: Int32, _ refusal: RefusalObservation, _ client: Endpoint) -> Bool {
    let transmission = transmissions.slots[slot]
    guard transmission.client == client, transmission.state == .open, transmission.isVantageSettled, !transmission.hasCome,
      transmission.asked <= refusal.time
    else { return false }
    // Nobody refuses his own query.
    if !refusal.isOutgoing && !transmission.isHostClient && refusal.interface == transmission.askedInterface
      && refusal.interface != transmission.sentInterface
    {
      return false
    }
    guard (transmission.wasSent && transmission.sentTuple == refusal.quoted) || transmission.originalTuple == refusal.quoted else { return false }
    guard refusal.error.quotesID else { return true }
    return transmission.dnsID == refusal.dns.id && (refusal.dns.questionCount == 0 || transmission.questionHash == refusal.dns.questionHash)
  }
}
