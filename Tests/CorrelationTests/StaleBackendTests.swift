import Flows
import Testing

@testable import Correlation

/// A client that keeps its port keeps its entry, also when the service has left the entry's backend.
@Suite struct StaleBackendTests {
  private let others = (0..<12).map { endpoint("10.1.7.\($0 + 1)") }

  /// An answered query makes the entry; the same socket asks again after `newer` entries of the service were made, and hears nothing.
  ///
  /// - Parameter rotating: the service gave its backends in turn before.
  private func ask(_ scenario: Scenario, rotating: Bool = true, after newer: () -> Void) -> Ask {
    scenario.warmUp()
    if rotating {
      for index in 0..<4 { choose(scenario, index % 2 == 0 ? scenario.backend : scenario.secondBackend, by: scenario.pod, port: 39000 + index) }
    }
    Ask(scenario, port: 40000, backend: scenario.secondBackend, id: 1).answered()
    scenario.wait(1 * second)
    newer()
    scenario.wait(1 * second)
    let ask = Ask(scenario, port: 40000, backend: scenario.secondBackend, id: 2, name: "b.example")
    ask.asked()
    ask.sent()
    return ask
  }

  private func choose(_ scenario: Scenario, _ backend: Endpoint, by client: IPAddress, port: Int) {
    scenario.new((Endpoint(client, UInt16(port)), scenario.vip), reply: (backend, Endpoint(client, UInt16(port))))
    scenario.pass(millisecond)
  }

  @Test func allNewerEntriesGoElsewhere() {
    let scenario = Scenario()
    _ = ask(scenario) { for index in 0..<21 { choose(scenario, scenario.backend, by: scenario.pod, port: 50000 + index) } }
    scenario.wait(30 * second)
    #expect(scenario.losses.map(\.verdict) == [.noAnswer] && scenario.losses.map(\.reason) == [.staleBackend])
    #expect(scenario.losses.map(\.grade) == [.observed])
    #expect(scenario.losses.first?.evidence.contains(.newerElsewhere) == true)
  }

  @Test func anICMPErrorBesideItIsToldToo() {
    let scenario = Scenario()
    ask(scenario) { for index in 0..<21 { choose(scenario, scenario.backend, by: scenario.pod, port: 50000 + index) } }.refused()
    scenario.wait(30 * second)
    #expect(scenario.losses.map(\.reason) == [.staleBackend])
    #expect(scenario.losses.first?.evidence.contains(.icmpError) == true)
  }

  @Test func fewNewerEntriesProveNothing() {
    let scenario = Scenario()
    _ = ask(scenario) { for index in 0..<20 { choose(scenario, scenario.backend, by: scenario.pod, port: 50000 + index) } }
    scenario.wait(30 * second)
    #expect(scenario.losses.map(\.reason) == [.silent])
  }

  /// With more backends chance passes over one of them more often.
  @Test(arguments: [(12, 150, Reason.silent), (12, 175, .staleBackend), (3, 48, .silent), (3, 49, .staleBackend)])
  func severalBackends(backends: Int, entries: Int, reason: Reason) {
    let scenario = Scenario()
    _ = ask(scenario) {
      for index in 0..<entries { choose(scenario, others[index % backends], by: scenario.pod, port: 50000 + index) }
    }
    scenario.wait(30 * second)
    #expect(scenario.losses.map(\.reason) == [reason])
  }

  @Test func oneThatIsStillChosenIsNotStale() {
    let scenario = Scenario()
    _ = ask(scenario) {
      for index in 0..<40 { choose(scenario, index == 30 ? scenario.secondBackend : scenario.backend, by: scenario.pod, port: 50000 + index) }
    }
    scenario.wait(30 * second)
    #expect(scenario.losses.map(\.reason) == [.silent])
  }

  /// Session affinity: a client that has a backend goes on getting it, however many entries it makes.
  @Test func oneClientsEntriesAreOneChoice() {
    let scenario = Scenario()
    _ = ask(scenario, rotating: false) { for index in 0..<200 { choose(scenario, scenario.backend, by: scenario.otherPod, port: 50000 + index) } }
    scenario.wait(30 * second)
    #expect(scenario.losses.map(\.reason) == [.silent])
  }

  /// The affinity of the only client that asks ended while its socket's entry lived: it got another backend, and goes on getting that.
  @Test(arguments: [1, 200]) func anAffinityThatEndedIsNoLeave(pause: Int64) {
    let scenario = Scenario()
    _ = ask(scenario, rotating: false) {
      scenario.wait(pause * second)
      for index in 0..<200 { choose(scenario, scenario.backend, by: scenario.pod, port: 50000 + index) }
    }
    scenario.wait(30 * second)
    #expect(scenario.losses.map(\.reason) == [.silent])
  }

  /// It ended more than once: each time it is one more choice, and not one an entry.
  @Test func affinitiesThatEndAreFewChoices() {
    let scenario = Scenario()
    _ = ask(scenario, rotating: false) {
      for index in 0..<200 {
        if index % 50 == 0 { scenario.wait(5 * second) }
        choose(scenario, others[index / 50 % 2], by: scenario.pod, port: 50000 + index)
      }
    }
    scenario.wait(30 * second)
    #expect(scenario.losses.map(\.reason) == [.silent])
  }

  /// One backend is taken away, and who was bound to it gets another at once: that is no rotation.
  @Test func aBackendThatWasTakenAwayIsNoRotation() {
    let scenario = Scenario()
    _ = ask(scenario, rotating: false) {
      for index in 0..<200 { choose(scenario, others[index < 100 ? 0 : 1], by: scenario.otherPod, port: 50000 + index) }
    }
    scenario.wait(30 * second)
    #expect(scenario.losses.map(\.reason) == [.silent])
  }

  /// One that went and came back seconds later is none either, however many entries a client makes meanwhile.
  @Test func aBackendThatCameBackIsNoRotation() {
    let scenario = Scenario()
    _ = ask(scenario, rotating: false) {
      for index in 0..<300 {
        choose(scenario, others[index / 100 == 1 ? 1 : 0], by: scenario.otherPod, port: 50000 + index)
        scenario.wait(20 * millisecond)
      }
    }
    scenario.wait(30 * second)
    #expect(scenario.losses.map(\.reason) == [.silent])
  }

  private func clients(_ scenario: Scenario, _ backend: Endpoint, port: Int) {
    for index in 0..<60 { choose(scenario, backend, by: v4("10.0.3.\(index + 1)"), port: port) }
  }

  /// Each had been given that backend, and got another since.
  @Test func manyClientsThatChangedAreManyChoices() {
    let scenario = Scenario()
    scenario.warmUp()
    clients(scenario, scenario.secondBackend, port: 49000)
    scenario.wait(1 * second)
    _ = ask(scenario, rotating: false) { clients(scenario, scenario.backend, port: 50000) }
    scenario.wait(30 * second)
    #expect(scenario.losses.map(\.reason) == [.staleBackend])
  }

  /// They may have been bound to the other backend before this one was there.
  @Test func manyClientsThatWereNotSeenToChangeAreNone() {
    let scenario = Scenario()
    _ = ask(scenario, rotating: false) { clients(scenario, scenario.backend, port: 50000) }
    scenario.wait(30 * second)
    #expect(scenario.losses.map(\.reason) == [.silent])
  }

  @Test func manyClientsOfARotatingServiceAreManyChoices() {
    let scenario = Scenario()
    _ = ask(scenario) { clients(scenario, scenario.backend, port: 50000) }
    scenario.wait(30 * second)
    #expect(scenario.losses.map(\.reason) == [.staleBackend])
  }

  /// What is still answered is alive, whatever new entries do.
  @Test func aBackendThatAnswersIsNotStale() {
    let scenario = Scenario()
    _ = ask(scenario) { for index in 0..<30 { choose(scenario, scenario.backend, by: scenario.pod, port: 50000 + index) } }
    scenario.wait(1 * second)
    let other = Ask(scenario, port: 40000, backend: scenario.secondBackend, id: 3, name: "c.example")
    other.asked()
    other.sent()
    other.came()
    other.delivered()
    scenario.wait(30 * second)
    #expect(scenario.losses.map(\.reason) == [.silent])
  }

  /// When the entries of a dump were made nobody knows.
  @Test func entriesOfADumpDoNotCount() {
    let scenario = Scenario()
    _ = ask(scenario) {
      for index in 0..<60 {
        let client = Endpoint(scenario.pod, UInt16(50000 + index))
        scenario.new((client, scenario.vip), reply: (scenario.backend, client), kind: .dumped)
      }
    }
    scenario.wait(30 * second)
    #expect(scenario.losses.map(\.reason) == [.silent])
  }

  /// The service left the backend after this query was asked: what it lost, it lost to a backend of its service.
  @Test func leavingLaterIsNoReason() {
    let scenario = Scenario()
    _ = ask(scenario) {}
    for index in 0..<60 { choose(scenario, scenario.backend, by: scenario.pod, port: 50000 + index) }
    scenario.wait(30 * second)
    #expect(scenario.losses.map(\.reason) == [.silent])
  }

  @Test func healthyServicesWithRandomBackendsAreNeverStale() {
    let scenario = Scenario { $0.entries = 8192 }
    scenario.warmUp()
    var state: UInt64 = 88
    func random(_ below: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int((state >> 33) % UInt64(below))
    }
    // Each query goes to one of three backends that all live; one in ten is not answered.
    for index in 0..<3000 {
      var ask = Ask(scenario, port: UInt16(20000 + index % 700), backend: others[random(3)], id: UInt16(index))
      let known = scenario.engine.entries.find(original: FiveTuple(udp: ask.client, ask.server), zone: nil)
      if known >= 0 { ask.backend = scenario.engine.entries.entries[known].reply.source } else { ask.entry() }
      ask.asked()
      ask.sent()
      if random(10) > 0 {
        ask.came()
        ask.delivered()
      }
      scenario.wait(10 * millisecond)
    }
    scenario.wait(30 * second)
    #expect(scenario.losses.count > 200)
    #expect(scenario.losses.allSatisfy { $0.reason == .silent })
  }
}
