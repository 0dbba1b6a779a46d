/// What the process says by its exit status.
package enum ExitCode: Int32, Sendable {
  case ok = 0
  /// `doctor`, `report`, `selftest`: it ran, and found something.
  case findings = 1
  /// An option, a variable or a file is wrong. One line on standard error says which and what would be right.
  case usage = 2
  /// This node or these privileges do not allow it; the line names the remedy.
  case cannotRun = 3
  /// It ran and broke.
  case failure = 4
}

/// The version that `--version`, `racetrack_build_info` and `agent_started` show.
package enum Version {
  package static let text = "0.1.0"
}
