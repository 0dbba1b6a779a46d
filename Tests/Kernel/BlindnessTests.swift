import Foundation
import TestSupport
import Testing

extension KernelTests {
  /// An agent that does not run for three seconds: whatever it says of that time afterwards is right, or it says that it was blind.
  @Suite(.serialized) struct BlindnessTests {
    typealias Saying = TopologyRun.Saying

    @Test(arguments: [50, 6000]) func threeSecondsWithoutTheAgent(rate: Int) throws {
      let topology = try Topology()
      let (client, victim, backend) = (try topology.routed("c"), try topology.routed("lost"), try topology.routed("b"))
      try topology.nft(
        Topology.services([("10.96.0.10", backend.v4)]) + "table ip faults { chain forward { type filter hook forward priority 0; }\n}\n")
      try topology.serve(in: "b", "\(backend.v4):53")
      let run = try TopologyRun(topology, ["--dns.timeout", "3s"])
      try run.ask("warm", victim, "10.96.0.10", .answered)
      try run.ask("warm2", client, "10.96.0.10", .answered)
      try run.join()
      try topology.nft("add rule ip faults forward ip saddr \(victim.v4) udp dport 53 drop")
      let dropped = Saying("dropped_on_node", "policy_or_route", graded: ["observed", "inferred"])
      run.agent.pause()
      usleep(100_000)
      try run.launch(
        "load", in: "c", .untold,
        with: "ask --from \(client.v4) --server 10.96.0.10 --count \(rate * 4) --rate \(rate) --types A --timeout-ms 1500")
      try run.launch(
        "during", in: "lost", .untold,
        with: "ask --from \(victim.v4) --server 10.96.0.10 --count 100 --rate 50 --types A --timeout-ms 500")
      usleep(2_900_000)
      run.agent.resume()
      try run.join()
      try run.agent.waitUntilSeeing()
      usleep(1_500_000)
      try run.ask("after", client, "10.96.0.10", .answered)
      try run.ask("lostafter", victim, "10.96.0.10", .lost, Saying("dropped_on_node", "policy_or_route"))
      try run.join()
      _ = try run.agent.settle(transmissions: 0, seconds: 8)
      let seen = try run.agent.metrics()
      let missing = run.expectedTransmissions - Int(seen.clientTransmissions)
      run.furtherTransmissions = -missing
      let page = try run.finish()
      let blind = page.sum("racetrack_blind_seconds_total", ["source": "packets"])
      let unknown = page.sum("racetrack_dns_fates_total", ["fate": "unknown"])
      let lost = page.sum("racetrack_packets_lost_total")
      print("without the agent, \(rate)/s: \(missing) not seen, \(lost) packets lost, blind \(blind) s, unknown \(unknown)")
      TopologyChecks.check("paused at \(rate)/s", run, page, allowsUnknown: true)
      #expect(missing >= 0)
      #expect(lost > 0 ? blind > 1.5 && blind < 6 : blind < 0.5 && missing == 0 && unknown == 0)
      // Little traffic waits in the ring until the agent is back.
      #expect((lost > 0) == (rate > 1000))
      let load = run.groups.first { $0.label == "load" }!
      #expect(load.said.allSatisfy { $0.verdict == "unknown" || $0.grade == "inferred" }, "said surely of answered queries: \(load.table)")
      #expect(load.said.allSatisfy { $0.verdict == "unknown" }, "answered queries called lost: \(load.table)")
      let victims = run.groups.first { $0.label == "during" }!
      #expect(victims.said.allSatisfy { $0.verdict == "unknown" || dropped.fits($0) }, "\(victims.table)")
    }
  }
}
