import LinuxIO

/// The command line of `racetrack trace`.
package struct TraceOptions: Equatable, Sendable {
  package static let defaultAgent = "http://127.0.0.1:10554"
  package static let defaultPort: UInt16 = 10554
  package static let mostAgents = 64

  package var agents = [defaultAgent]
  package var userFile: String?
  package var timeout: Int64 = 5_000_000_000
  package var json = false

  package init() {}

  package static let table = OptionTable<TraceOptions>(
    command: "racetrack trace",
    options: [
      .list(
        "agent", \.agents, .agentURL, atMost: mostAgents, group: "Agents",
        help: "Address behind which an agent answers /api: those of the client's and of the backend's node. Port 10554 where none is given."),
      .value(
        "web.user-file", \.userFile, .optional(.path()), group: "Agents",
        help: "A file with user:password, where the agents ask for one (basic authentication)."),
      .value("timeout", \.timeout, .duration(1_000_000_000...60_000_000_000), group: "Agents", help: "How long one agent may take to answer."),
      .value("json", \.json, .boolean, group: "Output", help: "One JSON object instead of text."),
    ])
}

extension OptionValue where Value == String {
  fileprivate static var agentURL: Self {
    OptionValue(
      placeholder: "URL",
      parse: { text throws(BadValue) in
        do throws(HTTPBaseURL.Invalid) {
          _ = try HTTPBaseURL(text, defaultPort: TraceOptions.defaultPort)
        } catch {
          throw BadValue(problem: error.problem)
        }
        return text
      },
      show: { $0 })
  }
}
