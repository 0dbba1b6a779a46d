package import Flows

/// What one agent answers to `/api/v1/flows/ID`: its own clock, how far back its memory reaches, and the transmissions that it saw of the flow.
package struct FlowAnswer {
  /// A leg's device as the node calls it; the name is empty where the device is gone.
  package struct Device: Sendable {
    package var name: String
    package var kind: StaticString

    package init(name: String, kind: StaticString) {
      self.name = name
      self.kind = kind
    }
  }

  package var id: UInt64
  /// When it was made, by this node's clock.
  package var time: WallTime
  package var version: String
  package var flows: [TracedFlow] = []
  /// Since when every query that arrived for a workload of this node is known, and every lost one of its clients.
  package var serverFlowsSince: WallTime
  package var lostFlowsSince: WallTime
  /// Times at which packets were not all seen.
  package var blind: [BlindWindow] = []
  /// Whether the backend that was asked about is of this node, as far as it was seen to answer; nil where none was named.
  package var isBackendHere: Bool?
  package var device: (UInt32) -> Device?

  package init(
    id: UInt64, time: WallTime, version: String, serverFlowsSince: WallTime, lostFlowsSince: WallTime, device: @escaping (UInt32) -> Device?
  ) {
    self.id = id
    self.time = time
    self.version = version
    self.serverFlowsSince = serverFlowsSince
    self.lostFlowsSince = lostFlowsSince
    self.device = device
  }
}

extension RecordWriter {
  /// Appends the answer as one JSON object (docs/flows.schema.json).
  package func append(_ answer: FlowAnswer, to out: inout [UInt8]) {
    var line = JSONLine.begin(&out)
    line.member("schema_version", Self.schemaVersion)
    line.member("flow.id", identifier: answer.id)
    if answer.flows.isEmpty { line.member("error", "this agent does not know the flow") }
    line.member("time", time: answer.time)
    line.member("service.version", text: answer.version)
    appendNode(to: &line)
    line.member("server_flows_since", time: answer.serverFlowsSince)
    line.member("lost_flows_since", time: answer.lostFlowsSince)
    if let isHere = answer.isBackendHere { line.member("backend.here", isTrue: isHere) }
    line.array("blind") { line in
      for window in answer.blind {
        line.element { line in
          line.member("blind.source", window.source.name)
          line.member("start", time: window.start)
          line.member("end", time: window.end)
        }
      }
    }
    line.array("flows") { line in
      for flow in answer.flows { line.element { append(flow, answer, to: &$0) } }
    }
    line.end(&out)
  }

  private func append(_ flow: TracedFlow, _ answer: FlowAnswer, to line: inout JSONLine) {
    line.member("vantage", flow.vantage.name)
    line.member("state", flow.state.name)
    if flow.state == .lost {
      line.member("verdict", flow.verdict.name)
      if flow.reason != .none { line.member("reason", flow.reason.name) }
      line.member("grade", flow.grade.name)
      if flow.incidentID != 0 { line.member("incident.id", identifier: flow.incidentID) }
    }
    appendQuestion(id: flow.dnsID, name: flow.name ?? [], type: flow.queryType, to: &line)
    appendEndpoint("client.address", "client.port", flow.client, to: &line)
    appendEndpoint("server.address", "server.port", flow.server, to: &line)
    appendEndpoint("sent.source.address", "sent.source.port", flow.sentSource, to: &line)
    appendEndpoint("sent.destination.address", "sent.destination.port", flow.sentDestination, to: &line)
    line.member("network.transport", "udp")
    line.member("attempt", UInt64(flow.attempt))
    if flow.isLocalServer { line.member("server.local", isTrue: true) }
    if flow.isHandedOver { line.member("sent.to_workload", isTrue: true) }
    line.array("legs") { line in
      append("asked", flow.asked, answer, to: &line)
      append("sent", flow.sent, answer, to: &line)
      append("came", flow.came, answer, to: &line)
      append("delivered", flow.delivered, answer, to: &line)
      append("untranslated", flow.untranslated, answer, to: &line)
    }
  }

  private func append(_ name: StaticString, _ leg: TracedFlow.Leg?, _ answer: FlowAnswer, to line: inout JSONLine) {
    guard let leg else { return }
    line.element { line in
      line.member("leg", name)
      line.member("time", time: leg.time)
      if leg.interface != 0, let device = answer.device(leg.interface) {
        if !device.name.isEmpty { line.member("device", text: device.name) }
        line.member("device.kind", device.kind)
      }
    }
  }
}
