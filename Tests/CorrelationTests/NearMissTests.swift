import Flows
import Testing

@testable import Correlation

/// What looks like trouble and is none: nothing may be said.
@Suite struct NearMissTests {
  private func warm() -> Scenario {
    let scenario = Scenario()
    scenario.warmUp()
    return scenario
  }

  private func expectSilence(_ scenario: Scenario, _ comment: Comment? = nil, sourceLocation: SourceLocation = #_sourceLocation) {
    scenario.wait(30 * second)
    #expect(scenario.records.isEmpty, comment, sourceLocation: sourceLocation)
    #expect(scenario.isConserved, sourceLocation: sourceLocation)
  }

  /// ndots:5 and a search list: three names that do not exist before one that does, A and AAAA each, all from one socket.
  @Test func aChainOfSearchDomains() {
    let scenario = warm()
    var id: UInt16 = 100
    for (index, domain) in ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "example"].enumerated() {
      for type in [QueryType.a, QueryType.aaaa] {
        id += 1
        let ask = Ask(scenario, port: 40000, id: id, name: "api.\(domain)", type: type)
        if index == 0 && type == QueryType.a { ask.entry() }
        ask.asked()
        ask.sent()
        ask.came(index < 3 ? 3 : 0)
        ask.delivered(index < 3 ? 3 : 0)
      }
      scenario.pass(500 * microsecond)
    }
    expectSilence(scenario)
    #expect(scenario.engine.totals.answersByCode[3] == 6 && scenario.engine.totals.retries == 0)
  }

  @Test func theSameIDFromManyPortsAtOnce() {
    let scenario = warm()
    let asks = (0..<50).map { Ask(scenario, port: UInt16(41000 + $0), id: 7) }
    for ask in asks {
      ask.entry()
      ask.asked()
    }
    for ask in asks { ask.sent() }
    for ask in asks.reversed() {
      ask.came()
      ask.delivered()
    }
    expectSilence(scenario)
  }

  /// One port, one ID, one name, again and again: each is a query of its own.
  @Test func anIDThatIsUsedAgain() {
    let scenario = warm()
    let ask = Ask(scenario, port: 40000, id: 7)
    ask.entry()
    for _ in 0..<20 {
      ask.asked()
      ask.sent()
      ask.came()
      ask.delivered()
      scenario.wait(300 * millisecond)
    }
    expectSilence(scenario)
    #expect(scenario.engine.totals.answered >= 20)
  }

  @Test func aRetryWhoseFirstAttemptIsAnsweredToo() {
    let scenario = warm()
    let ask = Ask(scenario, port: 40000, id: 7)
    ask.entry()
    ask.asked()
    ask.sent()
    scenario.wait(600 * millisecond)
    ask.asked()
    ask.sent()
    for _ in 0..<2 {
      ask.came()
      ask.delivered()
    }
    scenario.wait(30 * second)
    // The first attempt's answer came after its query had been asked again and answered.
    #expect(scenario.losses.allSatisfy { $0.verdict == .lateAnswer })
    #expect(!scenario.losses.contains { $0.verdict.isClash } && scenario.isConserved)
  }

  @Test func multicastDNS() {
    let scenario = Scenario()
    for group in [endpoint("224.0.0.251", 5353), endpoint("ff02::fb", 5353)] {
      for (source, device) in [(endpoint("10.0.1.2", 5353), UInt32(11)), (endpoint("fd00::2", 40000), 11), (endpoint("192.168.7.1", 5353), 2)] {
        scenario.copy(source, group, on: device, out: device == 2, scenario.message(0, "printer.local", QueryType.a), name: "printer.local")
        scenario.copy(source, group, on: device, out: false, scenario.message(0, "printer.local", QueryType.a, response: true), name: "printer.local")
      }
    }
    expectSilence(scenario)
    #expect(scenario.engine.totals.transmissions[0] == 0)
  }

  /// `conntrack -F`: every entry ends, and the next query of an old socket makes a new one.
  @Test func aFlushedTable() {
    let scenario = warm()
    let asks = (0..<20).map { Ask(scenario, port: UInt16(41000 + $0), id: UInt16($0)) }
    for ask in asks { ask.answered() }
    scenario.wait(100 * millisecond)
    for ask in asks { scenario.new((ask.client, ask.server), reply: (ask.backend, ask.client), kind: .destroy, status: [.confirmed, .seenReply]) }
    scenario.wait(50 * millisecond)
    for ask in asks { ask.answered() }
    expectSilence(scenario)
  }

  /// The entry is flushed while a query is on its way, and its retransmission on the wire makes another: the answer is translated by that.
  @Test func aFlushThatCostsNothing() {
    let scenario = warm()
    let ask = Ask(scenario, port: 40000, id: 7)
    ask.entry()
    ask.asked()
    ask.sent()
    scenario.new((ask.client, ask.server), reply: (ask.backend, ask.client), kind: .destroy, status: [.confirmed])
    ask.entry()
    ask.came()
    ask.delivered()
    expectSilence(scenario)
  }

  @Test func aDeviceThatIsRenamedWhileQueriesWait() {
    let scenario = warm()
    let ask = Ask(scenario, port: 40000, id: 7)
    ask.entry()
    ask.asked()
    ask.sent()
    scenario.engine.deviceChanged(11, .workload)
    scenario.engine.deviceChanged(21, .workload)
    ask.came()
    ask.delivered()
    expectSilence(scenario)
  }

  /// The pod is gone, and with it whoever waited: the path vouches for nothing any more, so nobody is woken.
  @Test func aDeviceThatIsRemovedWhileQueriesWait() {
    let scenario = warm()
    let ask = Ask(scenario, port: 40000, id: 7)
    ask.entry()
    ask.asked()
    ask.sent()
    scenario.engine.deviceRemoved(11)
    ask.came()
    scenario.wait(30 * second)
    #expect(scenario.losses.allSatisfy { $0.grade == .inferred && $0.evidence.contains(.pathUnobserved) })
    #expect(scenario.isConserved)
  }

  /// The wall clock is stepped by an hour: what is written follows it, and nothing is judged by it.
  @Test(arguments: [3600, -3600] as [Int64]) func theWallClockIsStepped(seconds: Int64) throws {
    let scenario = warm()
    let ask = Ask(scenario, port: 40000, id: 7)
    ask.entry()
    ask.asked()
    ask.sent()
    scenario.wallStep = seconds * second
    scenario.wait(20 * millisecond)
    ask.came()
    ask.delivered()
    for index in 0..<50 {
      Ask(scenario, port: UInt16(42000 + index), id: UInt16(index)).answered()
      scenario.wait(10 * millisecond)
    }
    expectSilence(scenario)
    // A query across the step is delayed by what the monotonic clock says.
    let late = Ask(scenario, port: 40001, id: 8)
    late.asked()
    scenario.wait(2500 * millisecond)
    scenario.wallStep = 0
    scenario.wait(2500 * millisecond)
    late.answered()
    scenario.wait(30 * second)
    let closed = try #require(scenario.closings.first)
    #expect(abs(closed.delay - 5 * second) < 50 * millisecond)
  }
}
