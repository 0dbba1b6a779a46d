package import Flows

/// What one of the agent's sources can do here and now.
package struct SourceState: Sendable, Equatable {
  package enum State: UInt8, Sendable {
    /// Open and delivering.
    case up
    /// Wanted, and not running.
    case down
    /// Switched off, or impossible on this kernel.
    case off

    package var name: StaticString {
      switch self {
      case .up: "up"
      case .down: "down"
      case .off: "off"
      }
    }
  }

  /// `conntrack`, `packets`, `counters`, `devices`, `kernel_probe`.
  package var source: String
  package var state: State
  /// Why it is not up: one line. Empty if there is nothing to say.
  package var reason: String

  package init(source: String, state: State, reason: String = "") {
    self.source = source
    self.state = state
    self.reason = reason
  }
}

/// The agent's first record: `agent_started`.
package struct AgentStarted: Sendable {
  package var time: WallTime
  package var version: String
  /// `utsname.release`.
  package var kernelRelease: String
  package var sources: [SourceState]

  package init(time: WallTime, version: String, kernelRelease: String, sources: [SourceState]) {
    self.time = time
    self.version = version
    self.kernelRelease = kernelRelease
    self.sources = sources
  }
}

/// The agent's last record: `agent_stopped`.
package struct AgentStopped: Sendable {
  package var time: WallTime
  package var version: String
  /// `SIGTERM`, or what else ended it.
  package var cause: String
  /// Nanoseconds since the start.
  package var uptime: Int64

  package init(time: WallTime, version: String, cause: String, uptime: Int64) {
    self.time = time
    self.version = version
    self.cause = cause
    self.uptime = uptime
  }
}

/// What the rate limit kept back between `start` and `end`: `losses_suppressed`.
package struct LossesSuppressed: Sendable, Equatable {
  package var start: WallTime
  package var end: WallTime
  /// `dns_query_lost` records by verdict (index: `Verdict.rawValue`).
  package var lost: [UInt64]
  /// `dns_query_closed` and `clash_resolved` records.
  package var closed: UInt64
  package var resolved: UInt64

  package init(start: WallTime, end: WallTime) {
    self.start = start
    self.end = end
    lost = Array(repeating: 0, count: Verdict.allCases.count)
    closed = 0
    resolved = 0
  }

  package var isEmpty: Bool { closed == 0 && resolved == 0 && lost.allSatisfy { $0 == 0 } }
}
