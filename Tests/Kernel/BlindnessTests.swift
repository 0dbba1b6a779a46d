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
      let paused = Clock.now
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
      let injected = Clock.now - paused
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
      // From the last look before to the first after it; the rest of a ring that ran full is told with the next look.
      #expect(lost > 0 ? blind > injected - 0.2 && blind < injected + 2 : blind < 0.5 && missing == 0 && unknown == 0)
      // Lost and taken together are all that passed: four copies of an answered query, one of what is dropped.
      #expect(page.sum("racetrack_packets_total") == Double(Self.copies(run)))
      // Little traffic waits in the ring until the agent is back.
      #expect((lost > 0) == (rate > 1000))
      let load = run.groups.first { $0.label == "load" }!
      #expect(load.said.allSatisfy { $0.verdict == "unknown" || $0.grade == "inferred" }, "said surely of answered queries: \(load.table)")
      #expect(load.said.allSatisfy { $0.verdict == "unknown" }, "answered queries called lost: \(load.table)")
      let victims = run.groups.first { $0.label == "during" }!
      #expect(victims.said.allSatisfy { $0.verdict == "unknown" || dropped.fits($0) }, "\(victims.table)")
    }

    /// Copies that the devices of a routed node show of what was asked of a pod's backend. Who is not answered is dropped on the way there.
    private static func copies(_ run: TopologyRun) -> Int {
      run.groups.flatMap(\.queries).reduce(0) { $0 + ($1.answered != nil ? 4 : 1) }
    }

    /// A race, a policy and ordinary lookups, while something is taken from the agent and after it has it back.
    private struct Scene {
      let topology: Topology
      let client, victim, backend: Topology.Pod

      init() throws {
        topology = try Topology()
        (client, victim, backend) = (try topology.routed("c"), try topology.routed("lost"), try topology.routed("b"))
        let filler = String(repeating: "    ip daddr 203.0.113.1 udp dport 9 drop\n", count: 2500)
        try topology.nft(
          Topology.services([("10.96.0.10", backend.v4), ("10.96.0.11", backend.v4)]) + """
            table ip faults {
              chain forward { type filter hook forward priority 0;
                ip saddr \(victim.v4) ct original ip daddr 10.96.0.11 udp dport 53 drop
              }
              chain late { type filter hook postrouting priority 200;
                ip saddr != \(client.v4) accept
            \(filler)  }
            }

            """)
        try topology.serve(in: "b", "\(backend.v4):53")
      }

      func warm(_ run: TopologyRun) throws {
        for pod in [client, victim] { try run.ask("warm" + pod.name, pod, "10.96.0.10", .answered) }
        try run.ask("warmtoo", client, "10.96.0.11", .answered)
        try run.join()
      }

      /// The policy's losses share their second with the race's: counters that moved for those may lower them.
      ///
      /// - Parameter isBlind: what is said may be less sure, never wrong.
      func lose(_ run: TopologyRun, _ label: String, isBlind: Bool, port: Int) throws {
        let grades: Set<String> = ["inferred", "observed"]
        let unknown = isBlind ? [Saying("unknown", graded: ["inferred"])] : []
        let ambiguous = isBlind ? [Saying("dropped_on_node", "ambiguous", "policy_or_route", graded: ["inferred"])] : []
        try run.ask("policy" + label, victim, "10.96.0.11", .lost, [Saying("dropped_on_node", "policy_or_route", graded: grades)] + unknown)
        try run.launch(
          "race" + label, in: "c", .mixed, [Saying("reply_clash_dropped", graded: grades)] + unknown + ambiguous,
          with: "race --from \(client.v4) --servers 10.96.0.10,10.96.0.11 --pairs 100 --pace-us 2000 --port-base \(port) --wait-ms 600")
      }
    }

    /// A receive buffer of 2 KiB for events, under load: what was lost is counted to the event, and the table that is read again is true.
    /// An event ring needs no buffer.
    @Test(arguments: [false, true]) func aTinyEventBuffer(hasRing: Bool) throws {
      let scene = try Scene()
      let run = try TopologyRun(scene.topology, ["--conntrack.ring", hasRing ? "auto" : "off"])
      #expect(run.agent.log.contains("conntrack events come through a ring") == hasRing)
      try scene.warm(run)
      func setBuffer(_ bytes: Int) throws {
        try Command.run([Executables.racelab, "meddle", "--pid", "\(run.agent.pid)", "--event-buffer", "\(bytes)"])
      }
      let began = Clock.now
      try setBuffer(2048)
      try run.ask("load", scene.client, "10.96.0.10", .answered, with: "--count 6000 --rate 3000")
      try scene.lose(run, "blind", isBlind: !hasRing, port: 20000)
      try run.join()
      try setBuffer(8 << 20)
      try run.agent.waitUntilSeeing()
      let injected = Clock.now - began
      usleep(1_200_000)
      try scene.lose(run, "after", isBlind: false, port: 23000)
      try run.ask("fine", scene.client, "10.96.0.10", .answered)
      let page = try run.finish()
      let lost = page.sum("racetrack_conntrack_events_lost_total")
      let blind = page.sum("racetrack_blind_seconds_total", ["source": "conntrack"])
      let seen = page.sum("racetrack_conntrack_events_total")
      print("a tiny event buffer, \(hasRing ? "ring" : "socket"): \(lost) events lost, \(seen) seen, blind \(blind) s of \(injected)")
      TopologyChecks.check("tiny event buffer", run, page, allowsUnknown: !hasRing)
      if hasRing {
        #expect(lost == 0 && blind == 0)
      } else {
        #expect(lost > 500, "void: the buffer held everything")
        #expect(blind > 0.2 && blind < injected + 2)
      }
      // Each socket that was answered by a server made one entry; those of dropped queries were never inserted.
      let answered = run.groups.flatMap(\.queries).filter { $0.answered != nil }
      #expect(seen + lost == Double(Set(answered.map { "\($0.key.client) \($0.key.clientPort) \($0.key.server)" }).count))
      Self.checkAfter(run)
      #expect(
        page.sum("racetrack_dns_fates_total", ["fate": "unknown"])
          == Double(run.records.count { $0.event == "dns_query_lost" && $0.verdict == "unknown" }))
      #expect(!run.groups.contains { $0.label.hasSuffix("after") && $0.said.contains { $0.verdict == "unknown" } })
    }

    /// Nothing answers the agent's requests any more: counters are blind until it has opened another socket, and clashes are not sure.
    @Test func countersThatDieAndReturn() throws {
      let scene = try Scene()
      let run = try TopologyRun(scene.topology)
      try scene.warm(run)
      let began = Clock.now
      try Command.run([Executables.racelab, "meddle", "--pid", "\(run.agent.pid)", "--deafen-requests"])
      let source = ["source": "counters"]
      guard try Clock.poll(seconds: 10, { try run.agent.metrics().sum("racetrack_source_up", source) == 0 }) else {
        throw LabError("the agent did not notice: \(run.agent.log.suffix(500))")
      }
      try scene.lose(run, "blind", isBlind: true, port: 20000)
      try run.join()
      guard try Clock.poll(seconds: 15, { try run.agent.metrics().sum("racetrack_source_up", source) == 1 }) else {
        throw LabError("the counters did not return: \(run.agent.log.suffix(500))")
      }
      try run.agent.waitUntilSeeing()
      let injected = Clock.now - began
      usleep(1_200_000)
      try scene.lose(run, "after", isBlind: false, port: 23000)
      let page = try run.finish()
      let blind = page.sum("racetrack_blind_seconds_total", source)
      print("counters that die and return: blind \(blind) s of \(injected)")
      TopologyChecks.check("counters return", run, page)
      // The agent waits 2 s for an answer before it gives the socket up; a page is a second old at most.
      #expect(blind > injected - 5 && blind < injected + 2)
      #expect(page.sum("racetrack_blind_seconds_total", ["source": "packets"]) < 1)
      let during = run.groups.first { $0.label == "raceblind" }!
      #expect(during.said.allSatisfy { $0.grade == "inferred" }, "\(during.table)")
      Self.checkAfter(run)
      #expect(run.records.contains { $0.event == "blind_window" })
    }

    /// No descriptor is left for the capture ring when the agent starts, and there is one 10 s later.
    @Test func packetsThatComeLater() throws {
      let scene = try Scene()
      let first = try AgentProcess(in: scene.topology.node, options: ["--kernel-probe", "off"])
      try first.waitUntilSeeing()
      let number = try Self.packetDescriptor(first.pid)
      #expect(try first.stop() == 0)
      let agent = try AgentProcess(
        in: scene.topology.node, options: ["--dns.timeout", "2s", "--kernel-probe", "off"], wrapper: ["prlimit", "--nofile=\(number):4096"])
      try agent.waitForLog("source cannot run")
      let began = Clock.now
      let run = TopologyRun(scene.topology, agent)
      try Command.run(["prlimit", "--pid", "\(agent.pid)", "--nofile=4096:4096"])
      #expect(Clock.poll(seconds: 5) { (try? agent.metrics().sum("racetrack_source_up", ["source": "packets"])) == 0 })
      // Seen by nobody, lost or not.
      try run.ask("unseen", scene.client, "10.96.0.10", .answered)
      try run.ask("unseenlost", scene.victim, "10.96.0.11", .untold)
      try run.join()
      run.furtherTransmissions = -run.expectedTransmissions
      try agent.waitUntilSeeing()
      let injected = Clock.now - began
      usleep(1_200_000)
      try scene.warm(run)
      try scene.lose(run, "after", isBlind: false, port: 23000)
      let page = try run.finish()
      let blind = page.sum("racetrack_blind_seconds_total", ["source": "packets"])
      print("packets that come later: blind \(blind) s of \(injected)")
      TopologyChecks.check("packets come later", run, page)
      #expect(blind > injected - 2 && blind < injected + 2)
      #expect(run.groups.first { $0.label == "unseenlost" }!.said.isEmpty)
      Self.checkAfter(run)
    }

    /// The race after it all is as sure as any.
    private static func checkAfter(_ run: TopologyRun) {
      let said = run.groups.first { $0.label == "raceafter" }!.said
      #expect(said.count >= 20, "void: too few races")
      #expect(said.count { $0.grade == "observed" } * 100 >= said.count * 95)
    }

    /// The number of a process's packet socket.
    private static func packetDescriptor(_ pid: pid_t) throws -> Int {
      let table = try String(contentsOfFile: "/proc/\(pid)/net/packet", encoding: .utf8)
      let inodes = table.split(separator: "\n").dropFirst().compactMap { $0.split(separator: " ").last.map(String.init) }
      for name in try FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/fd") {
        let target = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(pid)/fd/\(name)")) ?? ""
        if let number = Int(name), inodes.contains(where: { target == "socket:[\($0)]" }) { return number }
      }
      throw LabError("process \(pid) has no packet socket")
    }
  }
}
