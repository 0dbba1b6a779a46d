import Glibc

/// One word after `racetrack` and what it runs.
package struct Subcommand {
  package let name: String
  /// One line for the list of subcommands.
  package let summary: String
  /// Takes the arguments after the name; returns the exit status.
  package let run: ([String]) -> Int32

  package init(name: String, summary: String, run: @escaping ([String]) -> Int32) {
    self.name = name
    self.summary = summary
    self.run = run
  }
}

extension Subcommand {
  /// Finds the subcommand that `arguments` name and runs it; answers `--help` and `--version` itself.
  ///
  /// - Parameter arguments: without the program.
  package static func dispatch(_ arguments: [String], among subcommands: [Subcommand]) -> Int32 {
    guard let first = arguments.first else {
      writeText(overview(of: subcommands), to: STDERR_FILENO)
      return ExitCode.usage.rawValue
    }
    switch first {
    case "--help", "-h", "help":
      return printed(overview(of: subcommands))
    case "--version", "version":
      return printed(versionLine)
    default:
      break
    }
    guard let subcommand = subcommands.first(where: { $0.name == first }) else {
      let suggestion = nearest(to: first, among: subcommands.map(\.name))
      return usageError(
        "racetrack",
        "\(quoted(first)): no such subcommand; "
          + (suggestion.map { "did you mean \($0)?" } ?? "there are \(subcommands.map(\.name).joined(separator: ", "))"))
    }
    return subcommand.run(Array(arguments.dropFirst()))
  }

  /// `agent`: reads its configuration and hands it to `run`.
  package static func agent(run: @escaping (Configuration) -> Int32) -> Subcommand {
    Subcommand(name: "agent", summary: "watch this node and write what races cost") { arguments in
      let table = AgentOptions.table
      do throws(ConfigurationError) {
        let parsed = try table.parse(arguments: arguments)
        if parsed.wantsHelp {
          return printed(
            HelpText.text(
              of: table, usage: "[OPTION]...",
              summary: "Watches this node's conntrack table and its DNS traffic, and names each query that a connection-tracking race cost.",
              defaults: Configuration(), sources: true))
        }
        if parsed.wantsVersion { return printed(versionLine) }
        return run(try ConfigurationSources(arguments: arguments).load())
      } catch {
        return usageError(table.command, error.description)
      }
    }
  }

  /// Writes to standard output; a failure to is the only one there can be.
  package static func printed(_ text: String) -> Int32 {
    writeText(text, to: STDOUT_FILENO) ? ExitCode.ok.rawValue : ExitCode.failure.rawValue
  }

  /// The one line on standard error that goes with exit status 2.
  package static func usageError(_ command: String, _ problem: String) -> Int32 {
    writeText("\(command): \(problem)\n", to: STDERR_FILENO)
    return ExitCode.usage.rawValue
  }

  /// The one line on standard error that goes with exit status 3.
  package static func cannotRun(_ command: String, _ problem: String) -> Int32 {
    writeText("\(command): \(problem)\n", to: STDERR_FILENO)
    return ExitCode.cannotRun.rawValue
  }

  static var versionLine: String { "racetrack \(Version.text)\n" }

  private static func overview(of subcommands: [Subcommand]) -> String {
    var text = "Usage: racetrack SUBCOMMAND [OPTION]...\n\nNames the DNS query that a connection-tracking race cost.\n\nSubcommands\n"
    let width = subcommands.map(\.name.utf8.count).max() ?? 0
    for subcommand in subcommands {
      text += "  \(subcommand.name)" + String(repeating: " ", count: width - subcommand.name.utf8.count + 2) + subcommand.summary + "\n"
    }
    text += "\n\"racetrack SUBCOMMAND --help\" tells more. \"racetrack --version\" shows the version.\n"
    text += "Exit status: 0 all is well, 1 something was found, 2 wrong usage, 3 cannot run here, 4 failed.\n"
    return text
  }
}
