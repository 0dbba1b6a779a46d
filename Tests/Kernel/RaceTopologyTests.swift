import Foundation
import TestSupport
import Testing

extension KernelTests {
  /// Races in other set-ups than a routed pod's: on a bridge and behind masquerading.
  @Suite(.serialized) struct RaceTopologyTests {
    typealias Saying = TopologyRun.Saying

    enum Place: String, CaseIterable, Sendable { case bridge, bridgeWithIPTables, masqueraded }

    /// Services .10 and .11 share a backend, .20 has two which answer after 1.5 s: longer than a loser's entry lives.
    @Test(arguments: Place.allCases) func racesElsewhere(_ place: Place) throws {
      let topology = try Topology()
      if place != .masqueraded { try topology.bridge(callsIPTables: place == .bridgeWithIPTables) }
      let client = place == .masqueraded ? try topology.routed("c") : try topology.bridged("c")
      let (one, slow1, slow2) = (try topology.routed("b1"), try topology.routed("s1"), try topology.routed("s2"))
      let filler = String(repeating: "    ip daddr 203.0.113.1 udp dport 9 drop\n", count: 2500)
      try topology.nft(
        """
        table ip services {
          chain prerouting { type nat hook prerouting priority -100;
            ip daddr { 10.96.0.10, 10.96.0.11 } udp dport 53 dnat to \(one.v4)
            ip daddr 10.96.0.20 udp dport 53 dnat to numgen random mod 2 map { 0 : \(slow1.v4), 1 : \(slow2.v4) }
          }
          chain postrouting { type nat hook postrouting priority 100;
            \(place == .masqueraded ? "ip saddr \(client.v4) masquerade" : "")
          }
          chain late { type filter hook postrouting priority 200;
        \(filler)  }
        }
        """)
      try topology.serve(in: "b1", "\(one.v4):53")
      for slow in [slow1, slow2] { try topology.serve(in: slow.name, "\(slow.v4):53", "--delay-ms 1500") }
      let run = try TopologyRun(topology, ["--dns.timeout", "4s"])
      for server in ["10.96.0.10", "10.96.0.11", "10.96.0.20"] {
        try run.ask("warm\(server.suffix(2))", client, server, .answered, with: "--timeout-ms 3000")
      }
      try run.join()
      let before = try KernelCounters.read(in: topology.node)
      let sure: Set<String> = ["observed", "inferred"]
      try run.launch(
        "reply", in: "c", .mixed, [Saying("reply_clash_dropped", graded: sure)],
        with: "race --from \(client.v4) --servers 10.96.0.10,10.96.0.11 --pairs 300 --port-base 20000 --wait-ms 1500")
      try run.join()
      let moved = try KernelCounters.read(in: topology.node) - before
      try run.launch(
        "late", in: "c", .mixed, [Saying("clash_late_reply", graded: sure)],
        with: "race --from \(client.v4) --servers 10.96.0.20 --pairs 300 --port-base 22000 --wait-ms 2500")
      try run.join()
      TopologyChecks.check("races, \(place.rawValue)", run, try run.finish(settling: 12))
      print("races, \(place.rawValue): the kernel counted \(moved)")
      for label in ["reply", "late"] {
        let group = run.groups.first { $0.label == label }!
        let lost = group.queries.count { $0.answered == nil }
        if label == "reply" && moved.insertFailed != lost { Issue.record("void: the kernel counted \(moved), \(lost) were lost") }
        #expect(lost >= 20, "void: too few races, \(label)")
        let observed = group.said.count { $0.grade == "observed" }
        #expect(observed * 100 >= lost * 95, "\(label): \(observed) of \(lost) observed: \(group.table)")
      }
    }
  }
}
