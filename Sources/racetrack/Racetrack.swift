import Agent
import Glibc

/// The executable: subcommands and nothing else.
@main struct Racetrack {
  static func main() {
    exit(Subcommand.dispatch(Array(CommandLine.arguments.dropFirst()), among: [CheckConfigCommand.subcommand]))
  }
}
