/// What one agent said of a flow, as `racetrack trace` read it: times in nanoseconds since 1970 by that node's clock.
package struct TraceAnswer: Sendable, Equatable {
  package struct Blind: Sendable, Equatable {
    package var source: String
    package var start: Int64
    package var end: Int64

    package init(source: String, start: Int64, end: Int64) {
      self.source = source
      self.start = start
      self.end = end
    }
  }

  /// The node's name, or the agent's URL where it has none.
  package var node: String
  /// The node's clock less the clock of whoever asked, and by how much that may be wrong.
  package var clockOffset: Int64
  package var clockError: Int64
  package var serverFlowsSince: Int64
  package var lostFlowsSince: Int64
  /// Nil where the agent was not asked about the backend.
  package var isBackendHere: Bool?
  package var blind: [Blind] = []
  package var flows: [TraceFlow] = []

  package init(node: String, clockOffset: Int64, clockError: Int64, serverFlowsSince: Int64, lostFlowsSince: Int64) {
    self.node = node
    self.clockOffset = clockOffset
    self.clockError = clockError
    self.serverFlowsSince = serverFlowsSince
    self.lostFlowsSince = lostFlowsSince
  }
}

/// One transmission as one node saw it.
package struct TraceFlow: Sendable, Equatable {
  package struct Leg: Sendable, Equatable {
    package var time: Int64
    package var device: String

    package init(time: Int64, device: String) {
      self.time = time
      self.device = device
    }
  }

  /// `client`, `server` or `transit`.
  package var vantage: String
  /// `open`, `answered`, `lost` or `not_forwarded`.
  package var state: String
  package var verdict: String?
  package var reason: String?
  package var grade: String?
  package var incident: String?
  package var question = ""
  /// `ADDRESS:PORT`.
  package var client = ""
  package var server = ""
  package var destination: String?
  package var attempt = 1
  package var isLocalServer = false
  package var isHandedOver = false
  package var asked: Leg
  package var sent: Leg?
  package var came: Leg?
  package var delivered: Leg?
  package var untranslated: Leg?
  /// From the incident's records, where they were still there.
  package var impact: String?
  package var delaySeconds: Double?
  package var advice: String?

  package init(vantage: String, state: String, asked: Leg) {
    self.vantage = vantage
    self.state = state
    self.asked = asked
  }

  var isOpen: Bool { state == "open" }
  var isUnknown: Bool { verdict == "unknown" }
}
