import Agent
import Glibc

/// The executable: subcommands and nothing else.
@main struct Racetrack {
  static func main() {
    let subcommands = [
      Subcommand.agent(run: AgentCommand.run),
      Subcommand(name: "selftest", summary: "make races in private namespaces and show that every loss is named", run: SelfTestCommand.run),
      Subcommand(name: "trace", summary: "follow one flow.id across the nodes that saw it", run: TraceCommand.run),
      CheckConfigCommand.subcommand,
    ]
    exit(Subcommand.dispatch(Array(CommandLine.arguments.dropFirst()), among: subcommands))
  }
}
