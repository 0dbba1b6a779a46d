import Foundation
import TestSupport
import Testing

extension KernelTests {
  /// Races in other set-ups than a routed pod's: on a bridge and behind masquerading.
  @Suite(.serialized) struct RaceTopologyTests {
    typealias Saying = TopologyRun.Saying

    enum Place: String, CaseIterable, Sendable { case bridge, bridgeWithIPTables, masqueraded }

    /// Services .10 and .11 (fd96::10, 11) share a backend, .20 has two which answer after 1.5 s: longer than a loser's entry lives. On the bridge
    /// with br_netfilter the backends answer on port 5353.
    @Test(arguments: Place.allCases) func racesElsewhere(_ place: Place) throws {
      let topology = try Topology()
      if place != .masqueraded { try topology.bridge(callsIPTables: place == .bridgeWithIPTables) }
      let client = place == .masqueraded ? try topology.routed("c") : try topology.bridged("c")
      let other = place == .masqueraded ? try topology.routed("d") : nil
      let backends = try ["b1", "s1", "s2"].map { try topology.routed($0) }
      let port = place == .bridgeWithIPTables ? 5353 : 53
      try topology.nft(rules(backends, port: port, masqueraded: [client, other].compactMap { place == .masqueraded ? $0 : nil }))
      for (backend, options) in zip(backends, ["", "--delay-ms 1500", "--delay-ms 1500"]) {
        try topology.serve(in: backend.name, "\(backend.v4):\(port),[\(backend.v6)]:\(port)", options)
      }
      let run = try TopologyRun(topology, ["--dns.timeout", "4s"])
      for server in ["10.96.0.10", "10.96.0.11", "10.96.0.20", "fd96::10", "fd96::11", "fd96::20"] {
        let label = "warm" + server.map { $0 == ":" || $0 == "." ? "x" : String($0) }.joined()
        try run.ask(label, client, server, .answered, with: "--timeout-ms 3000")
        if let other, server.hasSuffix("10") { try run.ask(label + "d", other, server, .answered) }
      }
      try run.join()
      let before = try KernelCounters.read(in: topology.node)
      let sure: Set<String> = ["observed", "inferred"]
      var drops: [String] = []
      for (family, own, servers) in [("four", client.v4, "10.96.0.10,10.96.0.11"), ("six", client.v6, "fd96::10,fd96::11")] {
        drops.append("reply" + family)
        try run.launch(
          "reply" + family, in: "c", .mixed, [Saying("reply_clash_dropped", graded: sure)],
          with: "race --from \(own) --servers \(servers) --pairs 300 --port-base 20000 --wait-ms 1000")
        try run.join()
      }
      if let other {
        // Two pods, one port, one address outside.
        drops.append("sourcesix")
        try run.launch(
          "sourcesix", in: nil, .mixed, [Saying("snat_clash_dropped", graded: sure)],
          with:
            "race --from \(client.v6),\(other.v6) --netns \(client.namespace),\(other.namespace) --servers fd96::10 --pairs 300 --port-base 26000 "
            + "--wait-ms 1000")
        try run.join()
      }
      let moved = try KernelCounters.read(in: topology.node) - before
      var late: [String] = []
      for (family, own, server) in [("four", client.v4, "10.96.0.20"), ("six", client.v6, "fd96::20")] {
        late.append("late" + family)
        try run.launch(
          "late" + family, in: "c", .mixed, [Saying("clash_late_reply", graded: sure)],
          with: "race --from \(own) --servers \(server) --pairs 300 --port-base 22000 --wait-ms 2200")
        try run.join()
      }
      TopologyChecks.check("races, \(place.rawValue)", run, try run.finish(settling: 12))
      print("races, \(place.rawValue): the kernel counted \(moved)")
      var dropped = 0
      for label in drops + late {
        let group = run.groups.first { $0.label == label }!
        let lost = group.queries.count { $0.answered == nil }
        if drops.contains(label) { dropped += lost }
        #expect(lost >= 20, "void: too few races, \(label)")
        let observed = group.said.count { $0.grade == "observed" }
        #expect(observed * 100 >= lost * 95, "\(label): \(observed) of \(lost) observed: \(group.table)")
      }
      if moved.insertFailed != dropped { Issue.record("void: the kernel counted \(moved), \(dropped) were lost") }
    }

    private func rules(_ backends: [Topology.Pod], port: Int, masqueraded: [Topology.Pod]) -> String {
      [("ip", "10.96.0.", backends.map { "\($0.v4)" }, masqueraded.map(\.v4)), ("ip6", "fd96::", backends.map(\.v6), masqueraded.map(\.v6))]
        .map { family, services, to, sources in
          let filler = String(repeating: "    \(family) daddr \(family == "ip" ? "203.0.113.1" : "2001:db8::1") udp dport 9 drop\n", count: 2500)
          let one = family == "ip" ? to[0] : "[\(to[0])]"
          return """
            table \(family) services {
              chain prerouting { type nat hook prerouting priority -100;
                \(family) daddr { \(services)10, \(services)11 } udp dport 53 dnat to \(one):\(port)
                \(family) daddr \(services)20 udp dport 53 dnat to numgen random mod 2 map { 0 : \(to[1]), 1 : \(to[2]) }\(port == 53 ? "" : ":\(port)")
              }
              chain postrouting { type nat hook postrouting priority 100;
                \(sources.isEmpty ? "" : "\(family) saddr { \(sources.joined(separator: ", ")) } masquerade")
              }
              chain late { type filter hook postrouting priority 200;
            \(filler)  }
            }

            """
        }.joined()
    }
  }
}
