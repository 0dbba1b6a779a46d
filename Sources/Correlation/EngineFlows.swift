package import Flows

/// What a trace is answered from: transmissions that still have a slot, the flows of the last minute that came for workloads of this node, and the
/// latest losses of this node's clients. A healthy query of a client costs nothing here.
extension Engine {
  /// Answers to one question at most; more attempts than that no resolver makes.
  static let flowsPerAnswer = 16

  /// Keeps what a trace may ask for, before the slot is given back.
  @inline(never) mutating func remember(_ slot: Int32) {
    switch transmissions.slots[slot].vantage {
    case .client:
      guard transmissions.slots[slot].state == .lost else { return }
      let (id, flow) = (flowID(slot), flowRecord(slot))
      let length = Int(transmissions.slots[slot].nameLength)
      names.withName(transmissions.slots[slot].name, length: length) { lostFlows.append(id, flow, name: $0, at: now) }
    case .transit where transmissions.slots[slot].wasSent:
      // It went on to another node: nobody's here.
      break
    case .server, .transit: flowLog.append(flowID(slot), flowRecord(slot), at: now)
    }
  }

  /// The same number on the client's node, by the tuple that it sent, and on the server's node, by the tuple that arrived.
  mutating func flowID(_ slot: Int32) -> UInt64 {
    let tuple =
      transmissions.slots[slot].wasSent && transmissions.slots[slot].vantage == .client
      ? transmissions.slots[slot].sentTuple : transmissions.slots[slot].originalTuple
    let (dnsID, type) = (transmissions.slots[slot].dnsID, transmissions.slots[slot].queryType)
    var id: UInt64 = 0
    names.withName(transmissions.slots[slot].name, length: Int(transmissions.slots[slot].nameLength)) {
      id = FlowID.hash(tuple, id: dnsID, type: type, name: $0)
    }
    return id
  }

  private mutating func flowRecord(_ slot: Int32) -> FlowRecord {
    let interface = transmissions.slots[slot].sentInterface
    let (wasSent, isServer) = (transmissions.slots[slot].wasSent, transmissions.slots[slot].vantage == .server)
    return transmissions.slots[slot].flow(
      isOver: transmissions.slots[slot].isVantageSettled ? nil : now >= transmissions.slots[slot].asked + Self.forwardingTime,
      incidentID: transmissions.slots[slot].state == .lost ? transmissions.slots[transmissions.slots[slot].head].incidentID : 0,
      isLocalServer: !wasSent && isServedHere(transmissions.slots[slot]),
      isHandedOver: wasSent && (isServer || node.kind(of: interface) == .workload))
  }

  /// What this node knows of a flow: the latest sixteen transmissions, the oldest first. Reads every number that is kept and hashes what is open:
  /// callers bound how often.
  package mutating func flows(_ id: UInt64) -> [TracedFlow] {
    var found: [TracedFlow] = []
    lostFlows.find(id) { flow, name in
      var traced = flow.traced
      traced.name = name
      found.append(traced)
    }
    flowLog.find(id) { found.append($0.traced) }
    for index in 0..<transmissions.touched {
      let slot = Int32(index)
      guard transmissions.slots[slot].state != .free, flowID(slot) == id else { continue }
      var traced = flowRecord(slot).traced
      traced.name = names.bytes(transmissions.slots[slot].name, length: Int(transmissions.slots[slot].nameLength))
      found.append(traced)
    }
    found.sort { $0.asked.time.nanoseconds < $1.asked.time.nanoseconds }
    return Array(found.suffix(Self.flowsPerAnswer))
  }

  /// Since when every query that arrived for this node's workloads is known.
  package var serverFlowsSince: WallTime { wall(of: flowLog.completeSince) }
  /// Since when every lost query of this node's clients is known.
  package var lostFlowsSince: WallTime { wall(of: lostFlows.completeSince) }

  /// True if this address was seen to answer DNS from a workload of this node, or is the node's own.
  package mutating func serves(_ address: IPAddress) -> Bool { node.isServer(address) || node.isLocal(address) }

  package mutating func deviceKind(_ index: UInt32) -> NetworkDevice.Kind { node.kind(of: index) }

  /// The latest times at which packets were not all seen, or found no room; the oldest first.
  package mutating func packetBlindWindows() -> [BlindWindow] {
    var windows: [BlindWindow] = []
    for source in [BlindSource.packets, .start, .tables] { windows += blind.latest(source, now: now, wall: wallNow) }
    return windows
  }

  private func wall(of instant: Instant) -> WallTime { WallTime(nanoseconds: wallNow.nanoseconds &- (now - instant)) }
}

extension Transmission {
  /// What is kept of it.
  ///
  /// - Parameter isOver: of one whose vantage is not settled: that it was not seen to go on in time.
  fileprivate func flow(isOver: Bool?, incidentID: UInt64, isLocalServer: Bool, isHandedOver: Bool) -> FlowRecord {
    let shown: TracedFlow.State =
      switch state {
      case .answered: .answered
      case .lost: .lost
      case .open, .free: isOver == true ? .notForwarded : .open
      }
    return FlowRecord(
      asked: askedWall, client: client.address, server: server.address, sentSource: sentSource.address, sentDestination: sentDestination.address,
      incidentID: incidentID, legs: FlowRecord.Legs(sent: leg(sent), came: leg(came), delivered: leg(delivered), untranslated: leg(untranslated)),
      askedInterface: askedInterface, sentInterface: sentInterface, cameInterface: cameInterface, deliveredInterface: deliveredInterface,
      clientPort: client.port, serverPort: server.port, sentSourcePort: sentSource.port, sentDestinationPort: sentDestination.port, dnsID: dnsID,
      queryType: queryType, attempt: UInt16(clamping: attempt), vantage: vantage, state: shown, verdict: verdict, reason: reason, grade: grade,
      isLocalServer: isLocalServer, isHandedOver: isHandedOver)
  }

  private func leg(_ at: Instant) -> UInt32 {
    at == .zero ? 0 : UInt32(clamping: max(0, at - asked) / Nanoseconds.perMicrosecond + 1)
  }
}
