import Foundation
import TestSupport
import Testing

extension KernelTests {
  /// The kernel probe with more clashes than its ring holds, and with clashes of packets that somebody made to confuse it.
  @Suite(.serialized) struct ProbeFloodTests {
    typealias Saying = TopologyRun.Saying

    /// The agent does not run while one socket after the other races. The ring holds some 1,800 clashes: what the kernel counted is what was told and what
    /// was lost, the loss is a blind window, and nothing that is said of that time is both sure and wrong.
    @Test func moreClashesThanTheRingHolds() throws {
      let topology = try Topology()
      let (client, victim, backend) = (try topology.routed("c"), try topology.routed("lost"), try topology.routed("b"))
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
      let run = try TopologyRun(topology, ["--dns.timeout", "3s", "--kernel-probe", "require"])
      for pod in [client, victim] { try run.ask("warm" + pod.name, pod, "10.96.0.10", .answered) }
      try run.ask("warmtoo", client, "10.96.0.11", .answered)
      try run.join()
      let surely: Set<String> = ["inferred", "observed", "proven"]
      let verdicts = ["unknown", "dropped_on_node", "reply_clash_dropped", "snat_clash_dropped", "dnat_clash_dropped"]
      let unsure = verdicts.map { Saying($0, graded: ["inferred"]) }
      let race = "race --from \(client.v4) --servers 10.96.0.10,10.96.0.11 --wait-ms 1500"

      let paused = Clock.now
      run.agent.pause()
      try run.launch(
        "flood", in: "c", .untold, [], with: race + " --pairs 3000 --pace-us 450 --port-base 20000")
      try run.ask("during", victim, "10.96.0.11", .untold, [])
      usleep(2_300_000)
      run.agent.resume()
      let injected = Clock.now - paused
      try run.join()
      try run.agent.waitUntilSeeing()
      usleep(1_200_000)
      try run.launch(
        "after", in: "c", .mixed, [Saying("reply_clash_dropped", graded: ["proven"])],
        with: race + " --pairs 100 --pace-us 2000 --port-base 30000 ")
      try run.join()
      _ = try run.agent.settle(transmissions: 0, seconds: 8)
      let seen = try run.agent.metrics()
      // Queries of whose copies the capture ring had no room for one are not known: no more than it lost packets, and none twice.
      let notSeen = run.expectedTransmissions - Int(seen.clientTransmissions)
      run.furtherTransmissions = -notSeen
      let page = try run.finish()

      let told = page.sum("racetrack_kernel_probe_events_total", ["kind": "dropped"])
      let lost = page.sum("racetrack_kernel_probe_events_lost_total")
      let counted = page.sum("racetrack_conntrack_insert_failed_total")
      let blind = page.sum("racetrack_blind_seconds_total", ["source": "kernel_probe"])
      print(
        "more clashes than the ring holds: \(counted) counted, \(told) told, \(lost) lost; blind \(blind) s of \(injected);",
        "\(page.sum("racetrack_packets_lost_total")) packets lost, \(notSeen) queries not seen")
      #expect(notSeen >= 0 && Double(notSeen) <= page.sum("racetrack_packets_lost_total"))
      TopologyChecks.check("flood of clashes", run, page, allowsUnknown: true)
      #expect(lost > 100, "void: the ring held everything")
      #expect(told + lost == counted && counted == page.sum("racetrack_conntrack_drop_total"))
      #expect(blind > injected - 0.5 && blind < injected + 2)
      let windows = try run.agent.text().split(separator: "\n").filter { $0.contains(#""blind.source":"kernel_probe""#) }
      let inWindows = windows.compactMap { line in (try? JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])?["lost"] as? Int }
      #expect(inWindows.reduce(0, +) == Int(lost), "\(windows)")

      let flood = run.groups.first { $0.label == "flood" }!
      let answered = Set(flood.queries.filter { $0.answered != nil }.map(\.key))
      let right = [Saying("reply_clash_dropped", graded: surely)] + unsure
      for record in flood.said where !right.contains(where: { $0.fits(record) }) { Issue.record("\(record)") }
      for record in flood.said where record.verdict != "unknown" && record.grade != "inferred" {
        #expect(record.key.map { !answered.contains($0) } == true, "surely lost, but answered: \(record)")
      }
      #expect(flood.said.count { $0.grade == "proven" } >= 1500)
      let victims = run.groups.first { $0.label == "during" }!
      #expect(!victims.queries.isEmpty && victims.queries.allSatisfy { $0.answered == nil })
      let untold = [flood, victims].map { group in
        let told = Set(group.said.compactMap(\.key))
        return group.queries.count { $0.answered == nil && !told.contains($0.key) }
      }
      #expect(untold.reduce(0, +) <= notSeen, "losses without a record, of the flood and of the victims: \(untold)")
      let policy = [Saying("dropped_on_node", graded: ["inferred", "observed"])] + unsure
      for record in victims.said where !policy.contains(where: { $0.fits(record) }) { Issue.record("\(record)") }
      #expect(run.groups.first { $0.label == "after" }!.said.count >= 20, "void: too few races")
    }

    /// A pod's datagrams to a DNS port that are no queries clash as well as any. They are counted by what is wrong with them; nothing is blind, and the
    /// losses of others are as proven as ever.
    @Test(arguments: ["short", "garbage", "response"]) func clashesOfWhatIsNoQuery(_ payload: String) throws {
      let outcome = try Runs.valid(payload, { try Self.perform(payload) }) { outcome in
        let strange = Self.strange(outcome)
        return Self.void(outcome) ?? (strange < 50 ? "only \(strange) clashes of what is no query" : nil)
      }
      try Reported.check("hostile \(payload)", outcome, .probed)
      let page = try #require(outcome.metrics)
      let strange = Self.strange(outcome)
      let errors = page.samples("racetrack_decode_errors_total").filter { $0.labels["source"] == "kernel_probe" && $0.value > 0 }
      print("hostile \(payload): \(strange) clashes, \(errors.map { "\($0.labels["reason"]!) \($0.value)" })")
      let reason = ["short": "truncated_dns", "garbage": "bad_pointer"][payload]
      #expect(errors.map { $0.labels["reason"] } == (reason.map { [$0] } ?? []))
      if reason != nil { #expect(errors.first?.value == Double(strange)) }
      Self.checkUnharmed(outcome)
    }

    /// Queries of which the kernel keeps the headers apart from the rest, as zero-copy sockets make them. The probe cannot read them: they are counted,
    /// other evidence names them, and of everybody else's the probe speaks as before.
    @Test func clashesOfWhatCannotBeRead() throws {
      let outcome = try Runs.valid("paged", { try Self.perform("paged") }, void: Self.void)
      try Reported.check("paged", outcome, .mixed)
      let page = try #require(outcome.metrics)
      let losses = outcome.records.filter { $0.event == "dns_query_lost" }
      let (own, others) = (losses.filter { $0.name?.contains(".hostile.") == true }, losses.filter { $0.name?.contains(".clean.") == true })
      print("paged: \(Dictionary(grouping: own) { "\($0.verdict ?? "")/\($0.grade ?? "")" }.mapValues(\.count))")
      #expect(own.count >= 50 && others.count >= 50)
      #expect(page.sum("racetrack_decode_errors_total", ["source": "kernel_probe", "reason": "not_kept"]) == Double(own.count))
      #expect(page.sum("racetrack_decode_errors_total", ["source": "kernel_probe"]) == Double(own.count))
      #expect(own.allSatisfy { $0.evidence?.contains("probe_drop") == false && $0.evidence?.contains("probe_quiet") == false })
      #expect(others.count { $0.grade == "proven" } * 1000 >= others.count * 999)
      Self.checkUnharmed(outcome)
    }

    private static func checkUnharmed(_ outcome: Stage.Outcome) {
      #expect(outcome.metrics?.sum("racetrack_blind_seconds_total", ["source": "kernel_probe"]) == 0)
      #expect(outcome.metrics?.sum("racetrack_kernel_probe_events_total", ["kind": "dropped"]) == Double(outcome.counters.insertFailed))
      #expect(outcome.metrics?.sum("racetrack_kernel_probe_events_lost_total") == 0)
    }

    /// A race of queries in one pod, and one of something else in another.
    private static func perform(_ payload: String) throws -> Stage.Outcome {
      let stage = try Stage(
        clients: 2, backends: 2,
        { lab in
          var rules = Ruleset()
          for address in ["10.96.0.10", "10.96.0.11"] { rules.service(address, to: [lab.backends[0].v4]) }
          for address in ["10.96.0.20", "10.96.0.21"] { rules.service(address, to: [lab.backends[1].v4]) }
          return rules
        }, servers: { lab in for backend in lab.backends { try lab.serve(backend) } })
      let (clean, hostile) = (stage.lab.clients[0], stage.lab.clients[1])
      try stage.startAgent(["--dns.timeout", "4s", "--kernel-probe", "require"])
      for (pod, servers) in [(clean, ["10.96.0.10", "10.96.0.11"]), (hostile, ["10.96.0.20", "10.96.0.21"])] {
        for server in servers {
          let label = "warm\(pod.name)\(server.suffix(2))"
          try stage.launch(in: pod, .ordinary, "ask --count 10 --rate 100 --label \(label) --from \(pod.v4) --server \(server)")
        }
      }
      try stage.join()
      try stage.launch(
        in: clean, .replyRace, "race --label clean --port-base 20000 --pairs 300 --pace-us 3000 --from \(clean.v4) --servers 10.96.0.10,10.96.0.11")
      try stage.launch(
        in: hostile, payload == "paged" ? .replyRace : nil, "race --label hostile --payload \(payload) --port-base 30000 --pairs 300 --pace-us 3000",
        "--from \(hostile.v4) --servers 10.96.0.20,10.96.0.21")
      return try stage.finish(settling: 12)
    }

    /// Clashes that were not the clean pod's.
    private static func strange(_ outcome: Stage.Outcome) -> Int { outcome.counters.insertFailed - outcome.truth.count("reply_clash_dropped") }

    private static func void(_ outcome: Stage.Outcome) -> String? {
      let clashes = outcome.truth.count("reply_clash_dropped")
      if clashes < 50 { return "only \(clashes) clashes of queries" }
      if outcome.counters.insertFailed < clashes || outcome.counters.insertFailed < 100 { return "the kernel counted \(outcome.counters)" }
      return nil
    }
  }
}
