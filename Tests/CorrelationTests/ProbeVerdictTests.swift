import Flows
import Testing

@testable import Correlation

extension Scenario {
  /// The kernel probe tells that this query was dropped at insertion.
  func probe(_ ask: Ask, exact: Bool = true, host: Bool = false, cpu: UInt32 = 1, counted: Bool = true, kind: ProbeObservation.Kind = .dropped) {
    if counted {
      counters.insertFailed += 1
      counters.drop += 1
    }
    var observation = ProbeObservation(
      kind: kind, time: at, cpu: cpu, interface: host ? 0 : ask.device, isExact: exact, original: FiveTuple(udp: ask.client, ask.server),
      reply: FiveTuple(udp: ask.backend, ask.sentFrom))
    observation.wallTime = wall
    observation.dns = ask.query
    let wire = Scenario.wire(ask.name)
    engine.observe(observation, name: wire.span.bytes)
    pass(microsecond)
  }
}

@Suite struct ProbeVerdictTests {
  private func watched() -> Scenario {
    let scenario = Scenario()
    scenario.engine.probeStarted(at: scenario.at)
    scenario.warmUp()
    return scenario
  }

  /// Both orders: the ring of packets is emptied after that of the probe, but not always filled before it.
  @Test(arguments: [false, true]) func dropIsProvenAtOnce(isFirst: Bool) throws {
    let scenario = watched()
    let winner = Ask(scenario, port: 40000, id: 7, name: "race.example")
    let loser = Ask(scenario, port: 40000, to: scenario.secondVIP, id: 8, name: "race.example", type: QueryType.aaaa)
    winner.entry()
    winner.asked()
    if isFirst {
      // As the sweep hands it over: later than the copy, and seen before it.
      scenario.pass(30 * microsecond)
      scenario.probe(loser)
      scenario.pass(-20 * microsecond)
      loser.asked()
    } else {
      loser.asked()
      scenario.probe(loser)
    }
    winner.sent()
    winner.came()
    winner.delivered()
    scenario.wait(200 * millisecond)
    let lost = try #require(scenario.losses.first)
    #expect(lost.verdict == .replyClashDropped && lost.grade == .proven && lost.cpu == 1)
    #expect(lost.evidence.isSuperset(of: [.probeDrop, .asked, .noSent, .winner]))
    #expect(lost.winnerServer == scenario.vip && lost.backend == scenario.backend && lost.siblingID == 7)
    #expect(lost.insertFailedDelta == 1 && lost.dropDelta == 1)
    scenario.wait(20 * second)
    #expect(scenario.losses.count == 1 && scenario.closings.count == 1 && scenario.isConserved)
    #expect(scenario.engine.totals.probeUnmatched == 0)
  }

  @Test func causesByWhoHoldsTheTuple() throws {
    let scenario = watched()
    // The same original tuple: A and AAAA of one socket on a kernel that resolves no clash.
    let first = Ask(scenario, port: 40001, id: 1, name: "one.example")
    let second = Ask(scenario, port: 40001, id: 2, name: "one.example", type: QueryType.aaaa)
    first.entry()
    first.asked()
    second.asked()
    scenario.probe(second)
    first.sent()
    // Another client, masqueraded to the same tuple.
    var near = Ask(scenario, port: 40002, id: 3, name: "two.example")
    var far = Ask(scenario, port: 40002, id: 4, name: "two.example", from: scenario.otherPod, device: 12)
    near.natted = Endpoint(scenario.nodeAddress, 1111)
    far.natted = near.natted
    near.entry()
    near.asked()
    far.asked()
    scenario.probe(far)
    near.sent()
    scenario.wait(200 * millisecond)
    let dnat = try #require(scenario.losses.first { $0.dnsID == 2 })
    let snat = try #require(scenario.losses.first { $0.dnsID == 4 })
    #expect(dnat.dnsID == 2 && dnat.verdict == .dnatClashDropped && dnat.grade == .proven && dnat.winnerServer == scenario.vip)
    #expect(snat.dnsID == 4 && snat.verdict == .snatClashDropped && snat.grade == .proven && snat.winnerClient == near.client)
  }

  @Test func anUnknownWinnerAndUnsureCountersAreNotProven() throws {
    let scenario = watched()
    let alone = Ask(scenario, port: 40003, id: 1, name: "alone.example")
    alone.asked()
    scenario.probe(alone)
    let winner = Ask(scenario, port: 40004, id: 2)
    let loser = Ask(scenario, port: 40004, to: scenario.secondVIP, id: 3)
    winner.entry()
    winner.asked()
    loser.asked()
    scenario.probe(loser, exact: false)
    winner.sent()
    scenario.wait(200 * millisecond)
    let grades = Dictionary(uniqueKeysWithValues: scenario.losses.map { ($0.dnsID, $0.grade) })
    #expect(grades == [1: .inferred, 3: .observed])
  }

  /// send() failed with EPERM: no copy, no path, no entry. The program asks again at once with the same ID and is answered.
  @Test func processesOfTheNode() throws {
    let scenario = watched()
    let client = Endpoint(scenario.nodeAddress, 41000)
    var loser = Ask(scenario, port: 41000, to: scenario.secondVIP, id: 9, name: "host.example", from: scenario.nodeAddress)
    loser.device = 0
    scenario.new((client, scenario.vip), reply: (scenario.backend, client))
    scenario.probe(loser, host: true)
    scenario.pass(50 * microsecond)
    scenario.new((client, scenario.secondVIP), reply: (scenario.secondBackend, client))
    scenario.copy(client, scenario.secondBackend, on: 22, out: true, loser.query, name: loser.name)
    scenario.pass(200 * microsecond)
    scenario.copy(scenario.secondBackend, client, on: 22, out: false, loser.answerMessage(), name: loser.name)
    scenario.wait(20 * second)
    let lost = try #require(scenario.losses.first)
    #expect(scenario.losses.count == 1)
    #expect(lost.verdict == .replyClashDropped && lost.grade == .proven && lost.clientIsHost && lost.vantage == .client)
    #expect(lost.name == Scenario.wire("host.example") && lost.client == client && lost.server == scenario.secondVIP)
    #expect(!lost.evidence.contains(.asked))
    #expect(scenario.closings.map(\.impact) == [.delayed])
    #expect(scenario.closings.allSatisfy { $0.attempts == 2 && $0.delay < millisecond })
    #expect(scenario.isConserved)
  }

  /// A rule drops a query whose tuple a sibling holds, while the counters move for others: without the probe an ambiguous case.
  @Test(arguments: [true, false]) func silenceOfTheProbeRefutesAClash(isSeeing: Bool) throws {
    let scenario = watched()
    if !isSeeing { scenario.engine.blindBegan(.kernelProbe, at: scenario.at, wall: scenario.wall, lost: 1) }
    let winner = Ask(scenario, port: 40005, id: 2)
    let victim = Ask(scenario, port: 40005, to: scenario.secondVIP, id: 3)
    winner.entry()
    winner.asked()
    victim.asked()
    winner.sent()
    scenario.counters.insertFailed += 3
    scenario.counters.drop += 3
    scenario.wait(5 * second)
    let lost = try #require(scenario.losses.first { $0.dnsID == 3 })
    #expect(lost.evidence.contains(.probeQuiet) == isSeeing)
    if isSeeing {
      #expect(lost.verdict == .droppedOnNode && lost.reason == .policyOrRoute)
    }
    // The probe may have missed it: a counter moved for somebody, and nobody knows for whom.
    #expect(lost.grade == .inferred)
  }

  /// Drops of the probe count as candidates: what else is lost in the same second is judged by what remains of the counters.
  @Test func provenDropsAccountForTheirCounters() throws {
    let scenario = Scenario()
    scenario.warmUp()
    for index in 0..<20 {
      let (port, id) = (UInt16(42000 + index), UInt16(index))
      let winner = Ask(scenario, port: port, id: id)
      let loser = Ask(scenario, port: port, to: scenario.secondVIP, id: id)
      winner.entry()
      winner.asked()
      loser.asked()
      if index % 2 == 0 {
        scenario.probe(loser)
      } else {
        scenario.counters.insertFailed += 1
        scenario.counters.drop += 1
      }
      winner.sent()
      winner.came()
      winner.delivered()
      scenario.wait(20 * millisecond)
    }
    scenario.wait(15 * second)
    #expect(scenario.losses.count == 20)
    #expect(scenario.losses.allSatisfy { $0.verdict == .replyClashDropped && $0.grade == ($0.dnsID % 2 == 0 ? .proven : .observed) })
  }

  @Test func whatIsOpenAtTheEndIsStillProven() throws {
    let scenario = watched()
    let winner = Ask(scenario, port: 40006, id: 2)
    let loser = Ask(scenario, port: 40006, to: scenario.secondVIP, id: 3)
    winner.entry()
    winner.asked()
    loser.asked()
    scenario.probe(loser)
    scenario.engine.shutDown(at: scenario.at, wall: scenario.wall)
    scenario.wait(10 * millisecond)
    #expect(scenario.losses.contains { $0.dnsID == 3 && $0.grade == .proven })
    #expect(scenario.isConserved)
  }

  @Test func mergedLosersAreNamed() throws {
    let scenario = watched()
    scenario.probe(Ask(scenario, port: 40007, id: 77, name: "merged.example"), counted: false, kind: .merged)
    scenario.wait(10 * millisecond)
    let resolved = scenario.records.compactMap { if case .clashResolved(let clash) = $0 { clash } else { nil } }
    #expect(resolved.map(\.query?.dnsID) == [77] && resolved.map(\.query?.name) == [Scenario.wire("merged.example")] && resolved.first?.cpu == 1)
    #expect(scenario.losses.isEmpty)
  }
}
