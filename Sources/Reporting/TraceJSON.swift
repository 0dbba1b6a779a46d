import Flows

/// An agent that was asked.
package struct TraceAgent: Sendable {
  package var url: String
  package var node: String?
  /// Why it did not answer; nil if it did.
  package var problem: String?
  package var knows = false
  package var clockOffset: Int64 = 0
  package var clockError: Int64 = 0

  package init(url: String) { self.url = url }
}

/// A trace for programs: one object (docs/flows.schema.json).
package enum TraceJSON {
  package static func append(_ id: UInt64, _ stories: [TraceStory], _ agents: [TraceAgent], to out: inout [UInt8]) {
    var line = JSONLine.begin(&out)
    line.member("schema_version", RecordWriter.schemaVersion)
    line.member("flow.id", identifier: id)
    line.array("agents") { line in
      for agent in agents {
        line.element { line in
          line.member("url", text: agent.url)
          if let node = agent.node { line.member("k8s.node.name", text: node) }
          line.member("reachable", isTrue: agent.problem == nil)
          if let problem = agent.problem { line.member("error", text: problem) }
          guard agent.problem == nil else { return }
          line.member("knows_flow", isTrue: agent.knows)
          line.member("clock_offset_seconds", signedSeconds: agent.clockOffset)
          line.member("clock_error_seconds", signedSeconds: agent.clockError)
        }
      }
    }
    line.array("transmissions") { line in
      for story in stories { line.element { append(story, to: &$0) } }
    }
    line.end(&out)
  }

  private static func append(_ story: TraceStory, to line: inout JSONLine) {
    line.member("attempt", UInt64(max(0, story.attempt)))
    line.member("ending", text: story.ending.rawValue)
    line.member("certain", isTrue: story.isCertain)
    line.member("sentence", text: story.sentence)
    if let node = story.clientNode { line.member("client.node", text: node) }
    if let node = story.serverNode { line.member("server.node", text: node) }
    let flow = story.flow
    for (key, value) in [
      ("verdict", flow.verdict), ("reason", flow.reason), ("grade", flow.grade), ("incident.id", flow.incident), ("impact", flow.impact),
    ] as [(StaticString, String?)] {
      if let value { line.member(key, text: value) }
    }
    if story.clientNode != nil, let verdict = story.serverFlow?.verdict { line.member("server.verdict", text: verdict) }
    if let advice = story.advice { line.member("advice", text: advice) }
    line.member("question", text: flow.question)
    line.member("client", text: flow.client)
    line.member("server", text: flow.server)
    if let destination = flow.destination { line.member("sent.destination", text: destination) }
    line.array("steps") { line in
      for step in story.steps {
        line.element { line in
          line.member("step", text: step.name)
          line.member("node", text: step.node)
          line.member("time", time: WallTime(nanoseconds: step.time))
          if !step.device.isEmpty { line.member("device", text: step.device) }
          line.member("since_first_seconds", signedSeconds: step.sinceFirst)
          if step.error > 0 { line.member("clock_error_seconds", signedSeconds: step.error) }
        }
      }
    }
  }
}
