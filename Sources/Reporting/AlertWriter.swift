package import Flows

extension RecordWriter {
  /// `alert_firing` or `alert_resolved`.
  ///
  /// - Parameter time: when the record is made.
  package func append(_ alert: Alert, time: WallTime, to out: inout [UInt8]) {
    var line =
      switch alert.state {
      case .firing: begin("alert_firing", severity: "WARN", time: time, to: &out)
      case .resolved: begin("alert_resolved", severity: "INFO", time: time, to: &out)
      }
    line.member("alert.id", identifier: alert.alertID)
    line.member("verdict", alert.verdict.name)
    if alert.reason != .none { line.member("reason", alert.reason.name) }
    line.member("grade", alert.grade.name)
    line.member("client.address", alert.client)
    line.member("first", time: alert.first)
    line.member("last", time: alert.last)
    line.member("stalled_lookups", alert.stalled)
    line.member("delayed_lookups", alert.delayed)
    line.member("failed_lookups", alert.failed)
    line.member("lost_seconds", seconds: alert.lostNanoseconds)
    line.array("examples") { line in
      for example in alert.examples { line.element { append(example, to: &$0) } }
    }
    appendNode(to: &line)
    line.member("advice", Advice.sentence(alert.verdict, alert.reason, alert.grade, libc: alert.libc))
    line.end(&out)
  }

  private func append(_ example: AlertExample, to line: inout JSONLine) {
    line.member("incident.id", identifier: example.incidentID)
    line.member("time", time: example.time)
    appendName(example.name, type: example.queryType, to: &line)
    appendEndpoint("server.address", "server.port", example.server, to: &line)
    line.member("impact", example.impact.name)
    if example.impact != .failed || example.delay > 0 { line.member("delay_seconds", seconds: example.delay) }
  }
}
