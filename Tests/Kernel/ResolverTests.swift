import TestSupport
import Testing

extension KernelTests {
  /// Real resolvers as clients of a real server: what they do about a lost query, and what the agent says of it.
  @Suite(.serialized, .enabled(if: Resolver.missing.isEmpty, "needs the resolvers of Makefile's TEST_PACKAGES"))
  struct ResolverTests {
    /// One run serves all cases: they wait side by side.
    private static let run = Result { try ResolverOutcome.perform() }

    /// The client's side: ports, IDs, time-outs. Fails if a resolver changes its habits, and docs/resolvers.md with it.
    @Test(arguments: ResolverCase.losing) func resolverDoesWhatIsWrittenDown(_ which: ResolverCase) throws {
      let run = try Self.run.get()
      let queries = run.queries(which)
      Self.show(which, run)
      let lookup = try #require(run.lookups[which])
      #expect(abs(lookup.seconds - which.seconds) < (which.resolver.isTimedWhole ? 1 : 0.15))
      let start = try #require(queries.first).time
      let late = queries.filter { $0.time - start > 0.25 }
      #expect(late.map(\.type) == which.resent)
      for type in which.lost where which.resent.contains(type) {
        let first = try #require(queries.first { $0.type == type && $0.server == which.lostAt })
        let retry = try #require(late.first { $0.type == type })
        #expect(abs(retry.time - first.time - which.seconds) < 0.1)
        #expect((retry.port != first.port) == which.changesPort)
        #expect((retry.id != first.id) == which.changesID)
      }
    }

    /// The agent's side: one record for each lost transmission and one for its query, with the delay that the client measured.
    @Test(arguments: ResolverCase.losing) func everyLossIsNamedAndTimed(_ which: ResolverCase) throws {
      let run = try Self.run.get()
      let losses = run.records(which, "dns_query_lost")
      let closings = run.records(which, "dns_query_closed")
      #expect(Set(losses.compactMap(\.type)) == Set(which.lost) && losses.count == which.lost.count)
      #expect(closings.count == losses.count)
      for loss in losses {
        #expect(loss.verdict == "dropped_on_node" && loss.reason == "policy_or_route" && loss.grade == "observed")
        #expect(loss.attempt == 1)
        let sent = run.queries(which)
        let transmission = sent.first { $0.type == loss.type && $0.server == which.lostAt }
        #expect(loss.clientPort == transmission?.port && loss.dnsID == transmission?.id)
        let sibling = sent.first { $0.type != loss.type && $0.port == loss.clientPort }
        #expect(loss.siblingID == (which.asksFromOneSocket ? sibling?.id : nil))
        #expect(loss.siblingType == (which.asksFromOneSocket ? sibling?.type : nil))
        let closing = try #require(closings.first { $0.incident == loss.incident })
        #expect(closing.libc == which.library)
        try check(closing, which, run)
      }
    }

    private func check(_ closing: AgentRecord, _ which: ResolverCase, _ run: ResolverOutcome) throws {
      #expect(closing.impact == which.impact)
      #expect(closing.attempts == (which.impact == "delayed" ? 2 : 1))
      #expect(closing.impactGrade == (which.changesPort ? "inferred" : "observed"))
      guard which.impact == "delayed" else { return }
      let delay = try #require(closing.delaySeconds)
      #expect(abs(delay - which.seconds) < 0.1)
      let measured = try #require(run.lookups[which]).seconds
      #expect(abs(delay - measured) < (which.resolver.isTimedWhole ? 1 : 0.1))
    }

    /// TCP is not judged, and names tried one after the other along a search list are nobody's loss.
    @Test(arguments: ResolverCase.silent) func nothingIsSaid(of which: ResolverCase) throws {
      let run = try Self.run.get()
      Self.show(which, run)
      let lookup = try #require(run.lookups[which])
      #expect(lookup.status == 0 && lookup.seconds < 1)
      #expect(run.queries(which).count == which.asked)
      if which.isTruncated { #expect(lookup.v4 == 1 && lookup.v6 == 18, "more than a datagram holds") }
      #expect(!run.records.contains { $0.client == run.clients[which] })
    }

    @Test func totalsAreWhatWasSent() throws {
      let run = try Self.run.get()
      let page = run.metrics
      for problem in page.conservationProblems() { Issue.record("\(problem)") }
      let lost = ResolverCase.allCases.reduce(0) { $0 + $1.lost.count }
      #expect(run.agentStatus == 0, "\(run.agentLog.suffix(1000))")
      #expect(run.warmUps == ResolverCase.allCases.count * 12)
      #expect(page.clientTransmissions == Double(run.captured.count))
      #expect(page.sum("racetrack_dns_fates_total", ["fate": "lost"]) == Double(lost))
      #expect(page.sum("racetrack_dns_fates_total", ["fate": "answered"]) == Double(run.captured.count - lost))
      #expect(page.sum("racetrack_lost_queries_total", ["verdict": "dropped_on_node", "grade": "observed"]) == Double(lost))
      #expect(!run.records.contains { $0.event == "alert_firing" && $0.client == run.clients[.muslTwoServers] })
      // Both queries of a lookup are one stall; what another copy answered stalls nobody.
      #expect(page.sum("racetrack_client_stalled_lookups_total") == Double(ResolverCase.losing.count { $0.impact != "none" }))
      // One segment each way at least, seen twice, of the program that is told to use TCP, and of the two whose answers were cut off.
      #expect(page.sum("racetrack_dns_tcp_messages_total") >= 12)
      // The same datagram again is an attempt of the same query, also where the query was answered before; and so is what was joined.
      let queries = Set(run.captured.map(\.identity))
      let joined = ResolverCase.losing.filter(\.changesPort).reduce(0) { $0 + $1.lost.count }
      #expect(page.sum("racetrack_dns_retries_total") == Double(run.captured.count - queries.count + joined))
    }

    private static func show(_ which: ResolverCase, _ run: ResolverOutcome) {
      let queries = run.queries(which)
      let took = run.lookups[which].map { "\($0.seconds) s, a=\($0.v4) aaaa=\($0.v6)" } ?? "-"
      print("\(which) (\(which.configuration.split(separator: "\n").joined(separator: "; "))): \(took)")
      let start = queries.first?.time ?? 0
      for query in queries {
        let after = Double(Int((query.time - start) * 1000)) / 1000
        print("  \(after) s  port \(query.port) > \(query.server)  id \(query.id)  \(query.type)  \(query.name)")
      }
      for record in run.records where record.client == run.clients[which] {
        print(
          "  \(record.event) \(record.type ?? "-") \(record.verdict ?? "-") \(record.reason ?? "-") \(record.grade ?? "-") impact \(record.impact ?? "-") "
            + "\(record.impactGrade ?? "-") delay \(record.delaySeconds.map { "\($0)" } ?? "-") attempts \(record.attempts.map { "\($0)" } ?? "-") "
            + "sibling \(record.siblingType ?? "-") evidence \(record.evidence ?? [])")
      }
    }
  }
}
