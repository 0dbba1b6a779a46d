import Foundation
import Glibc
import TestSupport
import Testing

extension KernelTests {
  /// How the agent begins and ends, seen from outside.
  @Suite(.serialized) struct StartUpTests {
    private func lab() throws -> Lab {
      let lab = try Lab(clients: 1, backends: 1)
      var rules = Ruleset()
      rules.fillerRules = 1
      rules.service("10.96.0.10", to: [lab.backends[0].v4])
      try lab.load(rules)
      return lab
    }

    private func agent(_ lab: Lab, _ options: [String]) throws -> CommandResult {
      try Command.result(["ip", "netns", "exec", lab.node, Executables.racetrack, "agent"] + options, seconds: 20)
    }

    @Test func terminatesCleanly() throws {
      let lab = try lab()
      let agent = try AgentProcess(lab)
      try agent.waitUntilSeeing()
      #expect(try agent.stop() == 0)
      let events = try agent.records().map(\.event)
      #expect(events.first == "agent_started")
      #expect(events.last == "agent_stopped")
      if let problem = try agent.recordProblem() { Issue.record("\(problem)") }
    }

    @Test func portInUseIsOneLine() throws {
      let lab = try lab()
      let first = try AgentProcess(lab)
      try first.waitUntilSeeing()
      let second = try agent(lab, ["--web.listen-address", AgentProcess.listenAddress, "--web.api-address", "127.0.0.1:10999"])
      #expect(second.status != 0 && second.status < 128)
      #expect(second.errors.split(separator: "\n").count == 1, "\(second.errors)")
      #expect(second.errors.contains("10553"), "\(second.errors)")
      #expect(try first.stop() == 0)
    }

    /// The numbers of streams that the caller closed go to no socket: records written there would be answers on it.
    @Test func closedStreamsAreNotTakenForSockets() throws {
      let lab = try lab()
      let agent = try Background(
        ["ip", "netns", "exec", lab.node, "sh", "-c", "exec \"$0\" agent --web.listen-address 127.0.0.1:10553 <&- >&- 2>&-", Executables.racetrack])
      let isUp = try Clock.poll(seconds: 20) {
        try Command.result(["ip", "netns", "exec", lab.node, Executables.racelab, "http", "127.0.0.1:10553", "/metrics", "*/*"]).status == 0
      }
      #expect(isUp)
      let streams = try (0...2).map { try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(agent.pid)/fd/\($0)") }
      #expect(streams == ["/dev/null", "/dev/null", "/dev/null"])
      // Counted as lost: nobody can have read them. A page is up to a second old.
      let isCounted = try Clock.poll(seconds: 5, every: 0.2) {
        try MetricsPage(Command.run(["ip", "netns", "exec", lab.node, Executables.racelab, "http", "127.0.0.1:10553", "/metrics", "*/*"]))
          .sum("racetrack_records_undelivered_total") >= 1
      }
      #expect(isCounted)
      agent.signal(SIGTERM)
      #expect(agent.wait(seconds: 15) == 0)
    }

    /// logrotate: move, then SIGHUP.
    @Test func recordsFollowTheirFilesNameAfterSIGHUP() throws {
      let lab = try lab()
      let path = Lab.scratch + "/rotated-\(getpid()).jsonl"
      defer { for name in [path, path + ".1"] { unlink(name) } }
      let agent = try Background(
        ["ip", "netns", "exec", lab.node, Executables.racetrack, "agent", "--incidents.output", path, "--web.listen-address", "127.0.0.1:10553"])
      #expect(Clock.poll(seconds: 20) { (try? String(contentsOfFile: path, encoding: .utf8))?.contains("agent_started") == true })
      #expect(rename(path, path + ".1") == 0)
      agent.signal(SIGHUP)
      #expect(Clock.poll(seconds: 10) { access(path, F_OK) == 0 })
      agent.signal(SIGTERM)
      #expect(agent.wait(seconds: 15) == 0)
      let (old, new) = (try String(contentsOfFile: path + ".1", encoding: .utf8), try String(contentsOfFile: path, encoding: .utf8))
      #expect(old.contains("agent_started") && !old.contains("agent_stopped") && new.contains("agent_stopped"))
    }

    @Test func aFIFOThatNobodyReadsIsOneLine() throws {
      let lab = try lab()
      let path = Lab.scratch + "/fifo-\(getpid())"
      #expect(mkfifo(path, 0o600) == 0)
      defer { unlink(path) }
      let result = try agent(lab, ["--incidents.output", path])
      #expect(result.status == 3)
      #expect(result.errors.contains("nobody reads it") && result.errors.split(separator: "\n").count == 1, "\(result.errors)")
    }

    @Test(arguments: [
      ["--no.such.option"], ["--dns.timeout", "soon"], ["--kernel-probe", "maybe"], ["--web.listen-address", "nowhere"],
      ["--web.api-address", "0.0.0.0:10554"],
    ])
    func badOptionIsOneLineAndStatusTwo(options: [String]) throws {
      let lab = try lab()
      let result = try agent(lab, options)
      #expect(result.status == 2)
      #expect(result.errors.split(separator: "\n").count == 1, "\(result.errors)")
      #expect(result.errors.hasPrefix("racetrack agent: \(options[0])"), "\(result.errors)")
    }
  }
}
