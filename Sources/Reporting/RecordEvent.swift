/// Every kind of record, in the order of docs/records.md.
package enum RecordEvent: UInt8, CaseIterable, Sendable {
  case agentStarted
  case lost
  case closed
  case clashResolved
  case alertFiring
  case alertResolved
  case lossesSuppressed
  case blindWindow
  case agentStopped

  /// `event` of the record.
  package var name: StaticString {
    switch self {
    case .agentStarted: "agent_started"
    case .lost: "dns_query_lost"
    case .closed: "dns_query_closed"
    case .clashResolved: "clash_resolved"
    case .alertFiring: "alert_firing"
    case .alertResolved: "alert_resolved"
    case .lossesSuppressed: "losses_suppressed"
    case .blindWindow: "blind_window"
    case .agentStopped: "agent_stopped"
    }
  }
}
