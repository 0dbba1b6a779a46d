import Flows
import Testing

@testable import Correlation

/// What must hold after every step, whatever is observed in whatever order.
@Suite struct ConservationTests {
  /// xorshift64*: the same worlds in every run.
  fileprivate struct Dice {
    var state: UInt64
    mutating func next() -> UInt64 {
      state ^= state >> 12
      state ^= state << 25
      state ^= state >> 27
      return state &* 0x2545_F491_4F6C_DD1D
    }
    mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
    mutating func chance(_ percent: Int) -> Bool { below(100) < percent }
  }

  fileprivate struct Query: Hashable {
    var client: Endpoint
    var server: Endpoint
    var id: UInt16
    var type: UInt16
  }

  /// A world of few sockets, servers, IDs and names, so that everything collides with everything.
  fileprivate final class World {
    let scenario: Scenario
    var dice: Dice
    /// Copies of queries that could have opened a transmission, by client and ID and type; a superset of what may be reported.
    var asked: [Query: Int] = [:]
    var lost: [UInt64: Int] = [:]
    var closed: [UInt64: Int] = [:]
    var reached: Set<String> = []
    var lostByQuery: [Query: Int] = [:]

    init(_ seed: UInt64) {
      dice = Dice(state: seed &* 0x9E37_79B9_7F4A_7C15 | 1)
      let sizes = [16, 48, 1024]
      let size = sizes[Int(seed % 3)]
      scenario = Scenario {
        $0.transmissions = size
        $0.entries = size
        $0.services = 16
        $0.nameBytes = seed % 5 == 0 ? 1024 : 65536
        $0.capturesOutgoing = seed % 7 != 0
        $0.timeout = [2 * second, 10 * second, 60 * second][Int(seed / 3 % 3)]
        $0.seed = seed
      }
      scenario.features = seed % 4 == 0 ? [] : [.clashResolve, .chainTooLong]
    }

    func client() -> (Endpoint, UInt32) {
      let port = UInt16(40000 + dice.below(3))
      switch dice.below(8) {
      case 0...2: return (Endpoint(scenario.pod, port), 11)
      case 3...4: return (Endpoint(scenario.otherPod, port), 12)
      case 5: return (Endpoint(v4("10.9.9.9"), port), 2)
      case 6: return (Endpoint(v4("fd00::5"), port), 11)
      default: return (Endpoint(scenario.nodeAddress, port), 0)
      }
    }

    func server() -> Endpoint {
      switch dice.below(8) {
      case 0...2: scenario.vip
      case 3...4: scenario.secondVIP
      case 5: scenario.backend
      case 6: Endpoint(scenario.nodeAddress, 53)
      default: endpoint("fd00::53")
      }
    }

    func backend() -> (Endpoint, UInt32) { dice.chance(50) ? (scenario.backend, 21) : (scenario.secondBackend, 22) }

    func message(response: Bool) -> DNSMessage {
      let type = dice.chance(50) ? QueryType.a : QueryType.aaaa
      return scenario.message(
        UInt16(dice.below(3)), dice.chance(80) ? "a.example" : "b.example", type, response: response, code: UInt16(dice.below(7)))
    }

    func query(_ source: Endpoint, _ destination: Endpoint, on device: UInt32, out: Bool, _ dns: DNSMessage) {
      asked[Query(client: source, server: destination, id: dns.id, type: dns.queryType), default: 0] += 1
      if out {
        // The entry may say that somebody else had asked.
        for server in [scenario.vip, scenario.secondVIP, scenario.backend, Endpoint(scenario.nodeAddress, 53), endpoint("fd00::53")] {
          asked[Query(client: source, server: server, id: dns.id, type: dns.queryType), default: 0] += 1
        }
      }
      scenario.copy(source, destination, on: device, out: out, dns, name: dice.chance(50) ? "a.example" : "a-rather-long-name.of.many.labels.example")
    }

    func lookup() {
      let (client, device) = client()
      let server = server()
      let (backend, backendDevice) = backend()
      let query = message(response: false)
      var answer = query
      answer.isResponse = true
      if dice.chance(10) { answer.questionCount = 0 }
      let natted = dice.chance(20) ? Endpoint(scenario.nodeAddress, client.port) : client
      var legs: [() -> Void] = [
        { self.scenario.new((client, server), reply: (backend, natted), zone: self.dice.chance(5) ? 3 : 0) },
        { if device != 0 { self.query(client, server, on: device, out: false, query) } },
        { self.query(natted, backend, on: device == 0 ? 2 : backendDevice, out: true, query) },
        { self.scenario.copy(backend, natted, on: backendDevice, out: false, answer, name: "a.example") },
        { self.scenario.copy(server, client, on: device == 0 ? 2 : device, out: true, answer, name: "a.example") },
      ]
      if dice.chance(15) { legs.swapAt(dice.below(legs.count), dice.below(legs.count)) }
      for leg in legs where !dice.chance(12) {
        leg()
        if dice.chance(5) { leg() }
        if dice.chance(20) { step(Int64(dice.below(40)) * millisecond) }
      }
    }

    func event() {
      let (client, _) = client()
      let server = server()
      let (backend, _) = backend()
      let kinds: [ConntrackEvent.Kind] = [.new, .update, .destroy, .dumped]
      let statuses: [ConntrackStatus] = [[], [.natClash], [.natClash, .seenReply], [.seenReply]]
      let original = dice.chance(70) ? (client, server) : (backend, client)
      let reply = dice.chance(70) ? (backend, client) : (client, backend)
      scenario.new(original, reply: reply, zone: UInt16(dice.below(2)), kind: kinds[dice.below(4)], status: statuses[dice.below(4)])
    }

    func disturb() {
      let sources: [BlindSource] = [.conntrack, .packets, .counters, .tables, .start]
      let source = sources[dice.below(5)]
      switch dice.below(9) {
      case 0: scenario.engine.blindBegan(source, at: scenario.at + (-Int64(dice.below(50)) * millisecond), wall: scenario.wall, lost: 3)
      case 1, 2: scenario.engine.blindEnded(source, at: scenario.at, wall: scenario.wall)
      case 3: scenario.engine.forgetEntries()
      case 4:
        scenario.counters.insertFailed &+= UInt64(dice.below(3))
        scenario.counters.drop &+= UInt64(dice.below(3))
        scenario.counters.earlyDrop &+= UInt64(dice.below(2))
      case 5: scenario.engine.deviceChanged([11, 12, 21, 22, 2][dice.below(5)], dice.chance(80) ? .workload : .uplink)
      case 6: scenario.engine.deviceRemoved([11, 12, 21, 22, 2][dice.below(5)])
      case 7: scenario.engine.deviceChanged(2, .uplink)
      default:
        if dice.chance(50) { scenario.engine.addressAdded(v4("10.0.9.9")) } else { scenario.engine.addressRemoved(v4("10.0.9.9")) }
      }
    }

    func step(_ time: Int64) {
      if time > second {
        scenario.pass(time)
        scenario.wait(20 * millisecond)
      } else {
        scenario.wait(time)
      }
      check()
    }

    func check() {
      if !scenario.isConserved { Issue.record("not conserved") }
      for record in scenario.records {
        switch record {
        case .lost(let loss):
          if loss.vantage == .client { lost[loss.incidentID, default: 0] += 1 }
          let query = Query(client: loss.client, server: loss.server, id: loss.dnsID, type: loss.queryType)
          lostByQuery[query, default: 0] += 1
          if lostByQuery[query, default: 0] > asked[query, default: 0] { Issue.record("lost more often than asked: \(query)") }
          reached.insert("\(loss.verdict.name)/\(loss.reason.name)/\(loss.grade.name)")
          if loss.grade == .proven { Issue.record("proven without a probe") }
          if loss.verdict == .unknown && loss.blindSource == nil { Issue.record("unknown without a blind source") }
          if closed[loss.incidentID] != nil { Issue.record("lost after it was closed") }
        case .closed(let query):
          closed[query.incidentID, default: 0] += 1
          if query.delay < 0 { Issue.record("negative delay") }
        case .clashResolved, .blind:
          break
        }
      }
      scenario.records.removeAll()
    }

    func run(steps: Int) {
      for _ in 0..<steps {
        switch dice.below(20) {
        case 0...12: lookup()
        case 13...15: event()
        case 16...17: disturb()
        case 18:
          scenario.copy(
            client().0, server(), on: UInt32([11, 12, 21, 2, 5, 99][dice.below(6)]), out: dice.chance(50), message(response: true), name: "a.example")
        default: step([0, 10 * millisecond, 200 * millisecond, 1100 * millisecond, 45 * second, 7200 * second][dice.below(6)])
        }
        check()
      }
    }
  }

  private func verifyEnd(_ world: World) {
    let totals = world.scenario.engine.totals
    #expect(totals.open == 0)
    #expect(world.lost.count == world.closed.count)
    #expect(world.closed.values.allSatisfy { $0 == 1 })
    #expect(UInt64(world.lost.values.reduce(0, +)) == totals.lost + totals.unknown)
    var byVerdict: UInt64 = 0
    for verdict in Verdict.allCases { for grade in Grade.allCases { byVerdict += totals.lost(verdict, grade) } }
    #expect(byVerdict == totals.lost + totals.unknown)
  }

  @Test func whateverIsObservedNothingIsLostOrLeaks() {
    var reached: Set<String> = []
    for seed in 0..<200 {
      let world = World(UInt64(seed))
      world.run(steps: 60)
      reached.formUnion(world.reached)
      // Two minutes of silence.
      for _ in 0..<120 {
        world.scenario.pass(990 * millisecond)
        world.scenario.wait(10 * millisecond)
      }
      world.check()
      reached.formUnion(world.reached)
      world.verifyNothingHeld()
      verifyEnd(world)
    }
    print("verdicts reached by chance: \(reached.sorted().joined(separator: " "))")
    #expect(reached.count >= 12)
  }

  @Test func shutDownEndsEveryQuery() {
    for seed in 1000..<1060 { shutDown(World(UInt64(seed))) }
  }

  private func shutDown(_ world: World) {
    world.run(steps: 30)
    world.scenario.engine.shutDown(at: world.scenario.at, wall: world.scenario.wall)
    world.scenario.records += world.scenario.engine.records
    world.scenario.engine.records.removeAll()
    world.check()
    verifyEnd(world)
  }
}

extension ConservationTests.World {
  fileprivate func verifyNothingHeld() {
    let used = (scenario.engine.transmissions.count, scenario.engine.names.used, scenario.engine.timers.armed, scenario.engine.transmissions.stalled)
    #expect(used == (0, 0, 0, 0))
    #expect(scenario.engine.nextDeadline() == nil)
  }
}
