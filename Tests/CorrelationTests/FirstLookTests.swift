import Flows
import Testing

@testable import Correlation

/// What brings a transmission up: its place in the queue of first looks, or its timer, and never those of who had its slot before.
@Suite struct FirstLookTests {
  /// A query that comes in over the uplink, and its way out there: somebody else's.
  private static func transit(_ scenario: Scenario, port: UInt16, waiting nanoseconds: Int64 = 0) {
    let ask = Ask(scenario, port: port, to: endpoint("203.0.113.9"), id: port, from: v4("198.51.100.7"), device: 2)
    ask.asked()
    scenario.wait(nanoseconds)
    scenario.copy(ask.client, ask.server, on: 2, out: true, ask.query, name: ask.name)
  }

  private static func used(_ scenario: Scenario) -> Int { scenario.engine.tableUse().first { "\($0.name)" == "transmissions" }?.used ?? -1 }

  /// Two attempts went to two backends, and the first was answered: its slot holds the query until the other's fate is known.
  @Test func anAnsweredHeadStaysForItsAttempts() throws {
    let scenario = Scenario()
    scenario.warmUp()
    let first = Ask(scenario, port: 40000, id: 7)
    let again = Ask(scenario, port: 40000, backend: scenario.secondBackend, id: 7)
    first.entry()
    first.asked()
    first.sent()
    scenario.wait(50 * millisecond)
    again.entry()
    again.asked()
    again.sent()
    scenario.pass(millisecond)
    first.came()
    first.delivered()
    // Another query would take a slot that was given back, and the rest of the story.
    scenario.wait(400 * millisecond)
    Ask(scenario, port: 41000, id: 9, name: "other.example").answered()
    scenario.wait(25 * second)
    let lost = try #require(scenario.losses.first)
    #expect(scenario.losses.count == 1 && lost.attempt == 2 && lost.verdict == .noAnswer)
    let closed = try #require(scenario.closings.first)
    #expect(scenario.closings.count == 1 && closed.dnsID == 7 && closed.attempts == 2 && closed.impact == .delayed)
    #expect(closed.incidentID == lost.incidentID)
    #expect(Self.used(scenario) == 0 && scenario.isConserved)
  }

  /// A slot that was given back keeps its old place in the queue: it is not the next holder's, who is looked at in its own time.
  @Test func theNextHolderOfASlotIsLookedAtInItsOwnTime() {
    let scenario = Scenario()
    Self.transit(scenario, port: 50000)
    #expect(Self.used(scenario) == 0)
    scenario.wait(200 * millisecond)
    let next = Ask(scenario, port: 40000, id: 7)
    next.answered()
    #expect(Self.used(scenario) == 1)
    // The place of the first one is due.
    scenario.wait(100 * millisecond)
    #expect(Self.used(scenario) == 1)
    scenario.wait(200 * millisecond)
    #expect(Self.used(scenario) == 0)
  }

  /// The same of a timer: the first one left so late that it had one.
  @Test func aTimerGoesWithItsHolder() {
    let scenario = Scenario()
    Self.transit(scenario, port: 50000, waiting: 900 * millisecond)
    #expect(Self.used(scenario) == 0)
    Ask(scenario, port: 40000, id: 7).answered()
    scenario.wait(150 * millisecond)
    #expect(Self.used(scenario) == 1)
    scenario.wait(2 * second)
    #expect(Self.used(scenario) == 0)
  }

  /// A place in the queue of which nothing will come is no reason to wake.
  @Test func whatWasGivenUpCausesNoSweep() {
    let scenario = Scenario()
    #expect(scenario.engine.nextDeadline() == nil)
    Self.transit(scenario, port: 50000)
    #expect(scenario.engine.nextDeadline() == nil)
    let ask = Ask(scenario, port: 40000, id: 7)
    let asked = scenario.at
    ask.answered()
    #expect(scenario.engine.nextDeadline() == asked + Engine.suspectAge)
    scenario.wait(50 * millisecond)
    #expect(scenario.engine.nextDeadline() == TimerWheel.due(after: asked + Engine.firstLook))
    scenario.wait(300 * millisecond)
    #expect(scenario.engine.nextDeadline() == nil)
  }

  /// The probe's stamp is the kernel's, but not the ring's: one that lies far ahead holds up nobody.
  @Test func aStampOfTheProbeHoldsUpNobody() {
    let scenario = Scenario.watched()
    let host = Ask(scenario, port: 45000, id: 3, from: scenario.nodeAddress)
    let here = scenario.at
    scenario.at = here + 3600 * second
    scenario.probe(host, host: true)
    scenario.at = here
    for index in 0..<20 { Ask(scenario, port: UInt16(40000 + index), id: UInt16(100 + index)).answered() }
    let lost = Ask(scenario, port: 41000, id: 9)
    lost.entry()
    lost.asked()
    lost.sent()
    scenario.wait(15 * second)
    #expect(scenario.losses.contains { $0.dnsID == 9 && $0.verdict == .noAnswer })
    // None but the one from the future.
    #expect(Self.used(scenario) <= 1)
  }
}
