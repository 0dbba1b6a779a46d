import Flows
import Testing

@testable import Correlation

extension Scenario {
  /// A node whose kernel probe runs.
  static func watched(_ change: (inout EngineConfiguration) -> Void = { _ in }) -> Scenario {
    let scenario = Scenario(change)
    scenario.engine.probeStarted(at: scenario.at)
    scenario.warmUp()
    return scenario
  }

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

  // The engine is not copyable, which #expect would need.
  var isProbeBlind: Bool { engine.isBlind(.kernelProbe) }
  var probeBlindNanoseconds: Int64 { engine.blindNanoseconds(.kernelProbe) }
  /// Slots in use and drops that found no room.
  var probeDrops: [Int] { engine.tableUse().filter { "\($0.name)" == "probe_drops" }.flatMap { [$0.used, Int($0.evictions)] } }

  /// The same of a packet in which there is no query to be found; it moves the counters.
  func drop(of ask: Ask, isResponse: Bool) -> ProbeObservation {
    counters.insertFailed += 1
    counters.drop += 1
    var observation = ProbeObservation(
      kind: .dropped, time: at, cpu: 1, interface: ask.device, isExact: true, original: FiveTuple(udp: ask.client, ask.server),
      reply: FiveTuple(udp: ask.backend, ask.sentFrom))
    observation.wallTime = wall
    observation.dns.isResponse = isResponse
    pass(microsecond)
    return observation
  }
}

@Suite struct ProbeVerdictTests {
  /// Both orders: the ring of packets is emptied after that of the probe, but not always filled before it.
  @Test(arguments: [false, true]) func dropIsProvenAtOnce(isFirst: Bool) throws {
    let scenario = Scenario.watched()
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
    let scenario = Scenario.watched()
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
    let scenario = Scenario.watched()
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
    // They moved by more than one, and nobody told by how much.
    #expect(scenario.losses.allSatisfy { ($0.insertFailedDelta == 1) == ($0.dnsID == 1) && $0.insertFailedDelta == $0.dropDelta })
  }

  /// send() failed with EPERM: no copy, no path, no entry. The program asks again at once with the same ID and is answered.
  @Test func processesOfTheNode() throws {
    let scenario = Scenario.watched()
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
    let scenario = Scenario.watched()
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

  /// A clash that the probe tells of, each from a port of its own.
  private func told(_ scenario: Scenario, _ index: Int, exact: Bool = true) {
    let winner = Ask(scenario, port: UInt16(43000 + index), id: UInt16(1000 + index), name: "told.example")
    let loser = Ask(scenario, port: UInt16(43000 + index), to: scenario.secondVIP, id: UInt16(1000 + index), name: "told.example")
    winner.entry()
    winner.asked()
    loser.asked()
    scenario.probe(loser, exact: exact)
    winner.sent()
    winner.came()
    winner.delivered()
  }

  /// A rule drops a query whose tuple a sibling holds; who failed to insert in that second was told, and was another. Where the counters
  /// moved by more than one beside a drop that was told of, it explains nothing.
  @Test(arguments: [0, 1], [true, false]) func silenceBesideFailuresThatWereAllToldRefutesAClash(untold: UInt64, areExact: Bool) throws {
    let scenario = Scenario.watched()
    for index in 0..<3 {
      told(scenario, index, exact: areExact || index != 2)
      scenario.wait(50 * millisecond)
    }
    let winner = Ask(scenario, port: 40005, id: 2)
    let victim = Ask(scenario, port: 40005, to: scenario.secondVIP, id: 3)
    winner.entry()
    winner.asked()
    victim.asked()
    winner.sent()
    scenario.wait(100 * millisecond)
    scenario.counters.insertFailed += untold
    scenario.counters.drop += untold
    told(scenario, 4)
    scenario.wait(5 * second)
    let lost = try #require(scenario.losses.first { $0.dnsID == 3 })
    #expect(lost.verdict == .droppedOnNode && lost.evidence.contains(.probeQuiet))
    let isExplained = untold == 0 && areExact
    #expect(lost.evidence.contains(.countersExact) == isExplained && lost.grade == (isExplained ? .observed : .inferred))
  }

  /// A drop that was told of and whose stamp did not fit its copy is no proof that this copy was not dropped: neither where a winner is known, nor where
  /// none is.
  @Test(arguments: [true, false]) func aDropThatWasNotMatchedExplainsNothing(hasWinner: Bool) throws {
    let scenario = Scenario.watched()
    told(scenario, 0)
    scenario.wait(100 * millisecond)
    let winner = Ask(scenario, port: 40005, id: 2)
    let loser = Ask(scenario, port: 40005, to: scenario.secondVIP, id: 3)
    scenario.probe(loser)
    scenario.pass(20 * millisecond)
    if hasWinner {
      winner.entry()
      winner.asked()
    }
    loser.asked()
    if hasWinner { winner.sent() }
    scenario.wait(100 * millisecond)
    told(scenario, 1)
    scenario.wait(5 * second)
    #expect(scenario.engine.totals.probeUnmatched == 1)
    let lost = try #require(scenario.losses.first { $0.dnsID == 3 })
    #expect(lost.grade == .inferred)
  }

  /// Two attempts of one query are one to the probe: the drop that it told of may be either's.
  @Test func anotherAttemptsDropExplainsNothing() throws {
    let scenario = Scenario.watched()
    told(scenario, 0)
    scenario.wait(100 * millisecond)
    let loser = Ask(scenario, port: 40005, to: scenario.secondVIP, id: 3)
    loser.asked()
    scenario.wait(10 * millisecond)
    loser.asked()
    scenario.probe(loser)
    scenario.wait(100 * millisecond)
    told(scenario, 1)
    scenario.wait(5 * second)
    let unproven = scenario.losses.filter { $0.dnsID == 3 && !$0.evidence.contains(.probeDrop) }
    #expect(unproven.map(\.grade) == [.inferred])
  }

  /// The counters are read between the step and the stamp of the drop.
  @Test func aReadingBetweenTheStepAndTheStampIsNotSettled() throws {
    let scenario = Scenario.watched()
    told(scenario, 0)
    scenario.wait(300 * millisecond)
    Ask(scenario, port: 40002, id: 3).asked()
    scenario.wait(10 * millisecond)
    let winner = Ask(scenario, port: 40001, id: 1)
    let loser = Ask(scenario, port: 40001, to: scenario.secondVIP, id: 2)
    winner.entry()
    winner.asked()
    loser.asked()
    scenario.counters.insertFailed += 1
    scenario.counters.drop += 1
    scenario.read()
    scenario.pass(100 * microsecond)
    scenario.probe(loser, counted: false)
    winner.sent()
    scenario.wait(5 * second)
    let lost = try #require(scenario.losses.first { $0.dnsID == 3 })
    #expect(lost.verdict == .droppedOnNode && lost.reason == .policyOrRoute && lost.grade == .observed)
  }

  /// The reading that ends the second around has counted a clash that is not half a second old when the verdict falls: nobody can say whose that is.
  @Test func aReadingOfWhichNotEveryCandidateIsKnownIsNotTaken() throws {
    let scenario = Scenario.watched()
    told(scenario, 0)
    scenario.wait(100 * millisecond)
    scenario.pass(10 * millisecond - scenario.at.nanoseconds % (10 * millisecond))
    Ask(scenario, port: 40002, id: 3).asked()
    scenario.wait(480 * millisecond)
    scenario.readsCounters = false
    scenario.wait(49 * millisecond)
    scenario.readsCounters = true
    told(scenario, 1)
    scenario.read()
    scenario.wait(5 * second)
    let lost = try #require(scenario.losses.first { $0.dnsID == 3 })
    #expect(lost.verdict == .droppedOnNode && lost.reason == .policyOrRoute && lost.grade == .observed)
  }

  /// A rule's drops beside clashes without pause.
  @Test(arguments: [2, 3, 7]) func ruleDropsBesideToldClashes(pace: Int64) {
    let scenario = Scenario.watched()
    for index in 0..<200 {
      told(scenario, index)
      scenario.wait(pace * millisecond)
      scenario.pass(Int64(index * 37 % 1000) * microsecond)
      Ask(scenario, port: UInt16(50000 + index), id: UInt16(5000 + index), name: "rule.example", from: scenario.otherPod, device: 12).asked()
      scenario.pass(Int64(index * 91 % 1000) * microsecond)
    }
    scenario.wait(10 * second)
    let dropped = scenario.losses.filter { $0.verdict == .droppedOnNode }
    #expect(dropped.count == 200)
    #expect(dropped.count { $0.grade == .observed } == 200)
    #expect(scenario.losses.count { $0.grade == .proven } == 200)
  }

  /// What was dropped without a failed insertion, by a table that was full for a moment, the probe does not tell of: it may have been this one.
  @Test func plainDropsAreToldByNobody() throws {
    let scenario = Scenario.watched()
    for index in 0..<4 {
      told(scenario, index)
      scenario.wait(7 * millisecond)
    }
    Ask(scenario, port: 50000, id: 5000, name: "full.example", from: scenario.otherPod, device: 12).asked()
    scenario.counters.drop += 1
    scenario.wait(10 * second)
    let lost = try #require(scenario.losses.first { $0.name == Scenario.wire("full.example") })
    #expect(lost.verdict == .droppedOnNode && lost.grade == .inferred)
    #expect(scenario.losses.count { $0.grade == .proven } == 4)
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

  /// Records of two CPUs that crossed: microseconds out of order, over two sweeps. Each finds its transmission, and the counters stay exact.
  @Test func recordsThatCrossedBetweenCPUs() throws {
    let scenario = Scenario()
    scenario.warmUp()
    var losers: [Ask] = []
    for index in 0..<40 {
      let (port, id) = (UInt16(43000 + index), UInt16(index))
      let winner = Ask(scenario, port: port, id: id)
      let loser = Ask(scenario, port: port, to: scenario.secondVIP, id: id)
      winner.entry()
      winner.asked()
      loser.asked()
      winner.sent()
      winner.came()
      winner.delivered()
      losers.append(loser)
      // Two at a time, told in the wrong order; beside each pair a loss that the probe missed.
      if index % 4 == 1 {
        scenario.pass(300 * microsecond)
        scenario.probe(losers[index], cpu: 1)
        scenario.pass(-250 * microsecond)
        scenario.probe(losers[index - 1], cpu: 0)
        scenario.pass(250 * microsecond)
      } else if index % 4 > 1 {
        scenario.counters.insertFailed += 1
        scenario.counters.drop += 1
      }
      if index % 2 == 1 { scenario.wait(20 * millisecond) }
    }
    scenario.wait(15 * second)
    #expect(scenario.losses.count == 40 && scenario.losses.allSatisfy { $0.verdict == .replyClashDropped })
    for loss in scenario.losses { #expect(loss.grade == (loss.dnsID % 4 < 2 ? .proven : .observed), "\(loss.dnsID)") }
    #expect(scenario.losses.filter { $0.grade == .proven }.allSatisfy { $0.cpu == UInt32($0.dnsID % 2) })
    #expect(scenario.engine.totals.probeUnmatched == 0 && scenario.isConserved)
  }

  /// More drops of the node's own processes in half a second than the table holds: what finds no room is counted, and the probe blind.
  @Test func dropsBeyondTheTableAreCounted() throws {
    let scenario = Scenario.watched {
      $0.transmissions = 16384
      $0.nameBytes = 4 << 20
    }
    let (cap, more) = (8192, 100)
    for index in 0..<(cap + more) {
      var loser = Ask(
        scenario, port: UInt16(10000 + index), to: scenario.secondVIP, id: UInt16(index), name: "host.example", from: scenario.nodeAddress)
      loser.device = 0
      scenario.probe(loser, host: true)
    }
    #expect(scenario.probeDrops == [cap, more] && scenario.isProbeBlind)
    scenario.engine.blindEnded(.kernelProbe, at: scenario.at, wall: scenario.wall)
    scenario.wait(20 * second)
    let windows = scenario.records.compactMap { if case .blind(let window) = $0 { window } else { nil } }
    #expect(windows.filter { $0.source == .kernelProbe }.map(\.lost) == [UInt64(more)])
    #expect(scenario.losses.count == cap && scenario.isConserved)
    #expect(scenario.probeDrops == [0, more])
  }

  @Test func whatIsOpenAtTheEndIsStillProven() throws {
    let scenario = Scenario.watched()
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
    let scenario = Scenario.watched()
    scenario.probe(Ask(scenario, port: 40007, id: 77, name: "merged.example"), counted: false, kind: .merged)
    scenario.wait(10 * millisecond)
    let resolved = scenario.records.compactMap { if case .clashResolved(let clash) = $0 { clash } else { nil } }
    #expect(resolved.map(\.query?.dnsID) == [77] && resolved.map(\.query?.name) == [Scenario.wire("merged.example")] && resolved.first?.cpu == 1)
    #expect(scenario.losses.isEmpty)
  }
}
