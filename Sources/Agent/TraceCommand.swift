import Flows
import Glibc
import LinuxIO
import Reporting

/// `racetrack trace FLOW-ID`.
package enum TraceCommand {
  /// - Returns: 0 if a story was told, 1 if no agent that answered knows the flow, 2 for a wrong option, 3 where no agent answered.
  package static func run(_ arguments: [String]) -> Int32 {
    let table = TraceOptions.table
    var options = TraceOptions()
    let id: UInt64
    do throws(ConfigurationError) {
      let parsed = try table.parse(arguments: arguments, operandsAllowed: 1)
      if parsed.wantsHelp { return Subcommand.printed(help) }
      if parsed.wantsVersion { return Subcommand.printed(Subcommand.versionLine) }
      try table.apply(table.settings(environment: environment(of: table)), to: &options)
      try table.apply(parsed.settings, to: &options)
      guard let operand = parsed.operands.first else {
        return Subcommand.usageError(table.command, "needs a flow: racetrack trace FLOW-ID (the flow.id of a record)")
      }
      guard let number = flowID(operand) else {
        return Subcommand.usageError(table.command, "\(quoted(operand)): is not a flow.id, sixteen hexadecimal digits")
      }
      id = number
    } catch {
      return Subcommand.usageError(table.command, error.description)
    }
    var authorization: String?
    if let path = options.userFile {
      do throws(FileError) {
        authorization = try basicAuthorization(BoundedFile.read(path, limit: 4096))
      } catch {
        return Subcommand.usageError(table.command, "--web.user-file: \(quoted(path)): \(error.problem)")
      }
    }
    return trace(id, options, authorization)
  }

  private static func environment(of table: OptionTable<TraceOptions>) -> [String: String] {
    var environment: [String: String] = [:]
    for option in table.options {
      if let text = unsafe getenv(option.environmentName) { environment[option.environmentName] = unsafe String(cString: text) }
    }
    return environment
  }

  private static var help: String {
    HelpText.text(
      of: TraceOptions.table, usage: "FLOW-ID [OPTION]...",
      summary: "Follows one query, by the flow.id of its record, across the nodes that saw it: asked, sent, arrived, handed to the backend, "
        + "answered, left, came, delivered. Name an agent of the client's node and one of the backend's node. A node remembers the queries that it "
        + "received for a minute, and the latest 1,024 that its own clients lost. Exit status: 0 the story is told, 1 no agent knows the flow, "
        + "2 wrong usage, 3 no agent answered.",
      defaults: TraceOptions(), sources: false)
  }

  /// Sixteen hexadecimal digits, in either case.
  package static func flowID(_ text: String) -> UInt64? {
    guard text.utf8.count == 16, text.utf8.allSatisfy({ (0x30...0x39).contains($0) || (0x41...0x46).contains($0) || (0x61...0x66).contains($0) })
    else { return nil }
    return UInt64(text, radix: 16)
  }

  private static func trace(_ id: UInt64, _ options: TraceOptions, _ authorization: String?) -> Int32 {
    let (answers, agents) = TraceQuestions(id: id, options: options, authorization: authorization).ask()
    let stories = TraceMerge.stories(answers)
    for agent in agents {
      if let problem = agent.problem { writeText("racetrack trace: \(agent.url): \(problem)\n", to: STDERR_FILENO) }
    }
    if options.json {
      var text: [UInt8] = []
      TraceJSON.append(id, stories, agents, to: &text)
      writeText(String(decoding: text, as: UTF8.self), to: STDOUT_FILENO)
    }
    guard !answers.isEmpty else {
      writeText("racetrack trace: no agent answered; name those of the client's and of the backend's node with --agent\n", to: STDERR_FILENO)
      return ExitCode.cannotRun.rawValue
    }
    guard !stories.isEmpty else {
      let asked = answers.map(\.node).joined(separator: ", ")
      writeText(
        "racetrack trace: no flow of this number is known to \(asked): a node remembers the queries that it received for a minute, the latest 1,024 "
          + "that its own clients lost, and forgets an answered one at once\n", to: STDERR_FILENO)
      return ExitCode.findings.rawValue
    }
    if !options.json { return Subcommand.printed(TraceText.render(id, stories)) }
    return ExitCode.ok.rawValue
  }

  /// `Basic` and the user and password of a file's first line (RFC 7617).
  static func basicAuthorization(_ bytes: [UInt8]) throws(FileError) -> String {
    let line = bytes.prefix { $0 != 0x0A && $0 != 0x0D }
    guard line.contains(UInt8(ascii: ":")), line.allSatisfy({ $0 >= 0x20 && $0 != 0x7F }) else {
      throw FileError(problem: "the first line is not user:password")
    }
    let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    var out = Array("Basic ".utf8)
    var rest = line[...]
    while !rest.isEmpty {
      let group = Array(rest.prefix(3))
      rest = rest.dropFirst(group.count)
      let word = group.enumerated().reduce(UInt32(0)) { $0 | UInt32($1.element) << UInt32(16 - 8 * $1.offset) }
      for index in 0..<4 {
        out.append(index <= group.count ? digits[Int(word >> UInt32(18 - 6 * index)) & 63] : UInt8(ascii: "="))
      }
    }
    return String(decoding: out, as: UTF8.self)
  }
}
