import Foundation
import TestSupport
import Testing

extension KernelTests {
  /// SIGHUP: what can change at run time does, what cannot is named, and a file with a fault changes nothing.
  @Suite(.serialized) struct ReloadTests {
    private let lab: Lab
    private let path = Lab.scratch + "/\(UUID().uuidString).yaml"

    init() throws {
      lab = try Lab(clients: 1, backends: 1)
      var rules = Ruleset()
      rules.fillerRules = 1
      rules.service("10.96.0.10", to: [lab.backends[0].v4])
      try lab.load(rules)
      try lab.serve(lab.backends[0])
    }

    private func write(_ text: String) throws { try text.write(toFile: path, atomically: true, encoding: .utf8) }

    private func line(_ agent: AgentProcess, _ text: String) -> String {
      agent.log.split(separator: "\n").first { $0.contains(text) }.map(String.init) ?? "nothing: \(agent.log.suffix(1000))"
    }

    private func isPerCPU(_ agent: AgentProcess) throws -> Bool {
      try agent.metrics().samples("racetrack_conntrack_drop_total").contains { $0.labels["cpu"] != nil }
    }

    private func ask(_ label: String) throws -> [AskedQuery] {
      let pod = lab.clients[0]
      let words = "ask --count 5 --types A --timeout-ms 300 --from \(pod.v4) --server 10.96.0.10 --label \(label)"
      return try lab.truth(in: pod, words.split(separator: " ").map(String.init))
    }

    @Test func readsItsConfigurationAgain() throws {
      defer { unlink(path) }
      try write("metrics.per-cpu: false\ndns.names: full\ndns.timeout: 2s\n")
      let agent = try AgentProcess(lab, options: ["--config.file", path])
      try agent.waitUntilSeeing()
      #expect(try !isPerCPU(agent))

      try write("metrics.per-cpu: true\ndns.names: \"off\"\ndns.timeout: 3s\n")
      agent.reload()
      try agent.waitForLog("configuration read again")
      let changed = line(agent, "configuration read again")
      #expect(changed.contains("metrics.per-cpu") && changed.contains("dns.names") && !changed.contains("dns.timeout"), "\(changed)")
      let waiting = line(agent, "options wait for a restart")
      #expect(waiting.contains("dns.timeout") && !waiting.contains("metrics.per-cpu"), "\(waiting)")
      #expect(try Clock.poll(seconds: 5) { try isPerCPU(agent) }, "the page is as the file says")

      try write("metrics.per-cpu: false\ndns.timeout: soon\n")
      agent.reload()
      try agent.waitForLog("configuration not changed")
      let refused = line(agent, "configuration not changed")
      #expect(refused.contains("dns.timeout") && refused.contains("soon"), "\(refused)")
      usleep(1_500_000)
      #expect(try isPerCPU(agent), "the old value stays")

      // Names are written as the signal said, and nothing was lost of the time in between.
      #expect(try ask("fine").allSatisfy { $0.answered != nil })
      var drops = Ruleset()
      (drops.table, drops.fillerRules) = ("drops", 0)
      drops.forward("ip saddr \(lab.clients[0].v4) udp dport 53 drop")
      try lab.load(drops)
      #expect(try ask("gone").allSatisfy { $0.answered == nil })
      let page = try agent.settle(transmissions: 10, seconds: 6)
      #expect(page.clientTransmissions == 10)
      #expect(try agent.stop() == 0)
      let losses = try agent.records().filter { $0.event == "dns_query_lost" }
      #expect(losses.count == 5 && losses.allSatisfy { $0.name == nil }, "names are off since the signal")
    }
  }
}
