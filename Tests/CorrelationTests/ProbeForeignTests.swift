import Flows
import Testing

@testable import Correlation

/// What the kernel probe tells of packets that are no queries, or that it could not read.
@Suite struct ProbeForeignTests {
  /// Clashing packets that are no queries make nothing blind and nobody's verdict less sure: the probe saw what moved the counters.
  @Test(arguments: [false, true]) func whatIsNoQueryChangesNothing(isResponse: Bool) throws {
    let scenario = Scenario()
    scenario.warmUp()
    for index in 0..<200 {
      let port = UInt16(44000 + index)
      var hostile = Ask(scenario, port: port, id: UInt16(index), name: "junk.example", from: scenario.otherPod, device: 12)
      hostile.backend = scenario.backend
      // Not in the same moment as a reading of the counters.
      scenario.pass(millisecond)
      let observation = scenario.drop(of: hostile, isResponse: isResponse)
      if isResponse { scenario.engine.observe(observation, name: [UInt8]().span.bytes) } else { scenario.engine.observeForeign(observation) }
      if index % 10 == 0 {
        let winner = Ask(scenario, port: UInt16(45000 + index), id: UInt16(index))
        let loser = Ask(scenario, port: UInt16(45000 + index), to: scenario.secondVIP, id: UInt16(index))
        winner.entry()
        winner.asked()
        loser.asked()
        if index % 20 == 0 {
          scenario.probe(loser)
        } else {
          scenario.counters.insertFailed += 1
          scenario.counters.drop += 1
        }
        winner.sent()
        winner.came()
        winner.delivered()
      }
      scenario.wait(10 * millisecond)
    }
    #expect(!scenario.isProbeBlind)
    scenario.wait(15 * second)
    #expect(scenario.losses.count == 20 && scenario.losses.allSatisfy { $0.verdict == .replyClashDropped })
    for loss in scenario.losses { #expect(loss.grade == (loss.dnsID % 20 == 0 ? .proven : .observed), "\(loss.dnsID)") }
    #expect(scenario.probeBlindNanoseconds == 0 && scenario.engine.totals.probeUnmatched == 0)
  }

  /// They leave room for queries.
  @Test func whatIsNoQueryLeavesRoom() {
    let scenario = Scenario.watched()
    let hostile = Ask(scenario, port: 44000, id: 1, name: "junk.example", from: scenario.otherPod, device: 12)
    for _ in 0..<10000 { scenario.engine.observeForeign(scenario.drop(of: hostile, isResponse: false)) }
    #expect(scenario.probeDrops == [4096, 5904] && !scenario.isProbeBlind)
  }

  /// A packet that could not be read may have been the query: of its socket, and of no other, the probe's silence says nothing.
  @Test func anUnreadDropSpeaksOfItsSocketAlone() throws {
    let scenario = Scenario.watched()
    var victims: [Ask] = []
    for port in [46000, 46001] as [UInt16] {
      let winner = Ask(scenario, port: port, id: port)
      let victim = Ask(scenario, port: port, to: scenario.secondVIP, id: port)
      winner.entry()
      winner.asked()
      victim.asked()
      winner.sent()
      victims.append(victim)
    }
    scenario.engine.observeUnread(scenario.drop(of: victims[0], isResponse: false))
    scenario.counters.insertFailed += 1
    scenario.counters.drop += 1
    scenario.wait(second)
    // Long before the verdict others have pushed it out.
    for index in 0..<1000 {
      let other = Ask(scenario, port: UInt16(50000 + index), from: scenario.otherPod, device: 12)
      scenario.engine.observeUnread(scenario.drop(of: other, isResponse: false))
    }
    scenario.wait(15 * second)
    let losses = scenario.losses.sorted { $0.dnsID < $1.dnsID }
    #expect(losses.filter { $0.server == scenario.secondVIP }.map { $0.evidence.contains(.probeQuiet) } == [false, true])
    #expect(scenario.probeBlindNanoseconds == 0)
  }
}
