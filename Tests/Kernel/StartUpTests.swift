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

    @Test(arguments: [["--no.such.option"], ["--dns.timeout", "soon"], ["--kernel-probe", "maybe"], ["--web.listen-address", "nowhere"]])
    func badOptionIsOneLineAndStatusTwo(options: [String]) throws {
      let lab = try lab()
      let result = try agent(lab, options)
      #expect(result.status == 2)
      #expect(result.errors.split(separator: "\n").count == 1, "\(result.errors)")
      #expect(result.errors.contains(options[0]), "\(result.errors)")
    }
  }
}
