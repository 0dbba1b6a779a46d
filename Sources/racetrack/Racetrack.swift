import Agent
import Glibc

/// The executable: subcommands and nothing else.
@main struct Racetrack {
  static func main() {
    StandardDescriptors.fill()
    let subcommands = [
      Subcommand.agent(run: AgentCommand.run),
      Subcommand(name: "selftest", summary: "make races in private namespaces and show that every loss is named", run: SelfTestCommand.run),
      Subcommand(name: "trace", summary: "follow one flow.id across the nodes that saw it", run: TraceCommand.run),
      CheckConfigCommand.subcommand,
    ]
    // The runtime reads the command line from /proc/self/cmdline.
    guard !CommandLine.arguments.isEmpty else {
      exit(Subcommand.cannotRun("racetrack", "cannot read the command line from /proc; mount it: mount -t proc proc /proc"))
    }
    exit(Subcommand.dispatch(Array(CommandLine.arguments.dropFirst()), among: subcommands))
  }
}
