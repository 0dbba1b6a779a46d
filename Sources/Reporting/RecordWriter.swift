package import Flows

/// What every record of this node shares.
package struct RecordOptions: Sendable {
  /// `k8s.node.name`; empty leaves it out.
  package var nodeName: String
  package var names: NamePrivacy

  package init(nodeName: String = "", names: NamePrivacy = .full) {
    self.nodeName = nodeName
    self.names = names
  }
}

/// Writes records as JSON lines (docs/records.md, docs/records.schema.json). Values in, bytes out: it opens nothing and keeps nothing.
///
/// A field that is not known is left out, never null. `time` is when the transmission was sent; a record without a transmission carries the time it
/// was made.
package struct RecordWriter: Sendable {
  package static let schemaVersion: UInt64 = 1

  package var options: RecordOptions

  package init(options: RecordOptions = RecordOptions()) { self.options = options }

  package func append(_ record: Record, to out: inout [UInt8]) {
    switch record {
    case .lost(let lost): append(lost, to: &out)
    case .closed(let closed): append(closed, to: &out)
    case .clashResolved(let clash): append(clash, to: &out)
    case .blind(let window): append(window, to: &out)
    }
  }

  /// `dns_query_lost`.
  package func append(_ lost: LostQuery, to out: inout [UInt8]) {
    var line = begin("dns_query_lost", severity: "WARN", time: lost.time, observed: lost.observedTime, to: &out)
    line.member("incident.id", identifier: lost.incidentID)
    if lost.flowID != 0 { line.member("flow.id", identifier: lost.flowID) }
    line.member("verdict", lost.verdict.name)
    if lost.reason != .none { line.member("reason", lost.reason.name) }
    line.member("grade", lost.grade.name)
    line.member("vantage", lost.vantage.name)
    appendQuestion(id: lost.dnsID, name: lost.name, type: lost.queryType, to: &line)
    appendEndpoint("client.address", "client.port", lost.client, to: &line)
    if lost.clientIsHost { line.member("client.host", isTrue: true) }
    if lost.clientIsServer { line.member("client.role", "dns_server") }
    appendEndpoint("server.address", "server.port", lost.server, to: &line)
    line.member("network.transport", "udp")
    appendEndpoint("backend.address", "backend.port", lost.backend, to: &line)
    appendEndpoint("winner.server.address", "winner.server.port", lost.winnerServer, to: &line)
    appendEndpoint("winner.client.address", "winner.client.port", lost.winnerClient, to: &line)
    if let id = lost.siblingID {
      line.member("sibling.dns.id", UInt64(id))
      if lost.siblingType != 0 { line.member("sibling.dns.question.type", text: QueryType.name(lost.siblingType)) }
    }
    line.member("attempt", UInt64(lost.attempt))
    if lost.zone != 0 { line.member("conntrack.zone", UInt64(lost.zone)) }
    if let type = lost.icmpType {
      line.member("icmp.type", UInt64(type))
      line.member("icmp.code", UInt64(lost.icmpCode))
      line.member("icmp.sender.address", lost.icmpSender)
    }
    if let cpu = lost.cpu { line.member("cpu", UInt64(cpu)) }
    if let source = lost.blindSource { line.member("blind.source", source.name) }
    line.array("evidence") { line in
      for (item, name) in Evidence.names where lost.evidence.contains(item) { line.element(name) }
      if lost.insertFailedDelta > 0 { line.element("insert_failed", delta: lost.insertFailedDelta) }
      if lost.dropDelta > 0 { line.element("drop", delta: lost.dropDelta) }
      if lost.clashResolveDelta > 0 { line.element("clash_resolve", delta: lost.clashResolveDelta) }
      if lost.invalidDelta > 0 { line.element("invalid", delta: lost.invalidDelta) }
    }
    appendNode(to: &line)
    if lost.libc != .unknown { line.member("libc", lost.libc.name) }
    line.member("advice", Advice.sentence(lost))
    line.end(&out)
  }

  /// `dns_query_closed`. A query that cost its client nothing is not a warning.
  package func append(_ closed: ClosedQuery, to out: inout [UInt8]) {
    let severity: StaticString = closed.impact == .none ? "INFO" : "WARN"
    var line = begin("dns_query_closed", severity: severity, time: closed.time, observed: closed.observedTime, to: &out)
    line.member("incident.id", identifier: closed.incidentID)
    line.member("verdict", closed.verdict.name)
    if closed.reason != .none { line.member("reason", closed.reason.name) }
    line.member("grade", closed.grade.name)
    line.member("impact", closed.impact.name)
    line.member("impact.grade", closed.impactObserved ? "observed" : "inferred")
    // How long one attempt was waited for in vain only the client knows.
    if closed.impact != .failed || closed.delay > 0 { line.member("delay_seconds", seconds: closed.delay) }
    line.member("attempts", UInt64(closed.attempts))
    appendQuestion(id: closed.dnsID, name: closed.name, type: closed.queryType, to: &line)
    appendEndpoint("client.address", "client.port", closed.client, to: &line)
    if closed.clientIsServer { line.member("client.role", "dns_server") }
    appendEndpoint("server.address", "server.port", closed.server, to: &line)
    line.member("network.transport", "udp")
    appendNode(to: &line)
    if closed.libc != .unknown { line.member("libc", closed.libc.name) }
    line.end(&out)
  }

  /// `clash_resolved`.
  package func append(_ clash: ResolvedClash, to out: inout [UInt8]) {
    var line = begin(
      "clash_resolved", severity: "INFO", time: clash.query?.time ?? clash.observedTime, observed: clash.query == nil ? nil : clash.observedTime,
      to: &out)
    if let query = clash.query { appendQuestion(id: query.dnsID, name: query.name, type: query.queryType, to: &line) }
    appendEndpoint("client.address", "client.port", clash.client, to: &line)
    appendEndpoint("server.address", "server.port", clash.server, to: &line)
    line.member("network.transport", "udp")
    appendEndpoint("backend.address", "backend.port", clash.backend, to: &line)
    if clash.zone != 0 { line.member("conntrack.zone", UInt64(clash.zone)) }
    if let cpu = clash.cpu { line.member("cpu", UInt64(cpu)) }
    appendNode(to: &line)
    line.end(&out)
  }

  /// `blind_window`.
  package func append(_ window: BlindWindow, to out: inout [UInt8]) {
    var line = begin("blind_window", severity: "WARN", time: window.end, to: &out)
    line.member("blind.source", window.source.name)
    line.member("start", time: window.start)
    line.member("end", time: window.end)
    // The wall clock may have been set between the two: a wrapped or negative span is written as 0.
    let (span, wrapped) = window.end.nanoseconds.subtractingReportingOverflow(window.start.nanoseconds)
    line.member("blind_seconds", seconds: wrapped ? 0 : span)
    if window.lost > 0 { line.member("lost", window.lost) }
    appendNode(to: &line)
    line.end(&out)
  }

  /// `agent_started`: a warning if a source that is wanted does not run.
  package func append(_ started: AgentStarted, to out: inout [UInt8]) {
    let severity: StaticString = started.sources.contains { $0.state == .down } ? "WARN" : "INFO"
    var line = begin("agent_started", severity: severity, time: started.time, to: &out)
    line.member("service.version", text: started.version)
    if !started.kernelRelease.isEmpty { line.member("kernel.release", text: started.kernelRelease) }
    line.array("sources") { line in
      for source in started.sources {
        line.element { line in
          line.member("source", text: source.source)
          line.member("state", source.state.name)
          if !source.reason.isEmpty { line.member("reason", text: source.reason) }
        }
      }
    }
    appendNode(to: &line)
    line.end(&out)
  }

  /// `agent_stopped`.
  package func append(_ stopped: AgentStopped, to out: inout [UInt8]) {
    var line = begin("agent_stopped", severity: "INFO", time: stopped.time, to: &out)
    line.member("service.version", text: stopped.version)
    line.member("cause", text: stopped.cause)
    line.member("uptime_seconds", seconds: stopped.uptime)
    appendNode(to: &line)
    line.end(&out)
  }

  /// `losses_suppressed`. Verdicts of which nothing was kept back are left out.
  package func append(_ suppressed: LossesSuppressed, to out: inout [UInt8]) {
    var line = begin("losses_suppressed", severity: "WARN", time: suppressed.end, to: &out)
    line.member("start", time: suppressed.start)
    line.member("end", time: suppressed.end)
    line.object("lost") { line in
      for verdict in Verdict.allCases where Int(verdict.rawValue) < suppressed.lost.count {
        let count = suppressed.lost[Int(verdict.rawValue)]
        if count > 0 { line.member(verdict.name, count) }
      }
    }
    if suppressed.closed > 0 { line.member("closed", suppressed.closed) }
    if suppressed.resolved > 0 { line.member("resolved", suppressed.resolved) }
    appendNode(to: &line)
    line.end(&out)
  }

  func begin(
    _ event: StaticString, severity: StaticString, time: WallTime, observed: WallTime? = nil, to out: inout [UInt8]
  ) -> JSONLine {
    var line = JSONLine.begin(&out)
    line.member("time", time: time)
    if let observed { line.member("observed_time", time: observed) }
    line.member("schema_version", Self.schemaVersion)
    line.member("severity", severity)
    line.member("event", event)
    return line
  }

  func appendQuestion(id: UInt16, name: [UInt8], type: UInt16, to line: inout JSONLine) {
    line.member("dns.id", UInt64(id))
    appendName(name, type: type, to: &line)
  }

  func appendName(_ name: [UInt8], type: UInt16, to line: inout JSONLine) {
    if !name.isEmpty {
      switch options.names {
      case .full:
        var text: [UInt8] = []
        DNSName.appendPresentation(name, to: &text)
        line.member("dns.question.name", text: text)
      case .hash(let key):
        line.member("dns.question.name_hash", identifier: NamePrivacy.hash(wire: name, key: key))
      case .off: break
      }
    }
    if type != 0 { line.member("dns.question.type", text: QueryType.name(type)) }
  }

  func appendEndpoint(_ address: StaticString, _ port: StaticString, _ endpoint: Endpoint?, to line: inout JSONLine) {
    guard let endpoint, endpoint != .none else { return }
    line.member(address, endpoint.address)
    if endpoint.port != 0 { line.member(port, UInt64(endpoint.port)) }
  }

  func appendNode(to line: inout JSONLine) {
    if !options.nodeName.isEmpty { line.member("k8s.node.name", text: options.nodeName) }
  }
}
