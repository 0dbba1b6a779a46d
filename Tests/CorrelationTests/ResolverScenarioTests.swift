import Flows
import Testing

@testable import Correlation

/// What real resolvers do (docs/resolvers.md), on the virtual clock.
@Suite struct ResolverScenarioTests {
  private func pair(_ scenario: Scenario, port: UInt16 = 40000) -> (a: Ask, aaaa: Ask) {
    (
      Ask(scenario, port: port, id: 501, name: "x.lab.test", type: QueryType.a),
      Ask(scenario, port: port, id: 502, name: "x.lab.test", type: QueryType.aaaa)
    )
  }

  /// A policy dropped the first of two queries of one socket; the entry that came into being is the second one's.
  @Test func theSiblingsEntryIsNotItsOwn() throws {
    let scenario = Scenario()
    scenario.warmUp()
    let (a, aaaa) = pair(scenario)
    a.asked()
    scenario.pass(300 * microsecond)
    aaaa.asked()
    aaaa.entry()
    aaaa.sent()
    aaaa.came()
    aaaa.delivered()
    scenario.wait(15 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.verdict == .droppedOnNode && lost.grade == .observed)
    #expect(lost.reason == .policyOrRoute)
  }

  /// The same in the race of kernels without clash resolution: the first query loses to the second.
  @Test func theFirstOfTwoCanLoseTheRace() throws {
    let scenario = Scenario()
    scenario.features = [.chainTooLong]
    scenario.warmUp()
    let (a, aaaa) = pair(scenario)
    a.asked()
    scenario.pass(5 * microsecond)
    aaaa.asked()
    aaaa.entry()
    aaaa.sent()
    scenario.counters.insertFailed += 1
    scenario.counters.drop += 1
    scenario.pass(200 * microsecond)
    aaaa.came()
    aaaa.delivered()
    scenario.wait(15 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.verdict == .dnatClashDropped && lost.grade == .observed)
  }

  /// glibc asks one after the other with a few milliseconds between; the first one's event is read after the second was asked.
  @Test func anEventReadLateDoesNotMakeAnEntryItsOwn() throws {
    let scenario = Scenario()
    scenario.warmUp()
    let (a, aaaa) = pair(scenario)
    a.asked()
    a.sent()
    a.came()
    a.delivered()
    scenario.pass(11 * millisecond)
    aaaa.asked()
    a.entry()
    scenario.wait(15 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.verdict == .droppedOnNode && lost.grade == .observed)
    #expect(lost.reason == .policyOrRoute)
  }

  /// glibc repeats the answered A before the lost AAAA, from the same port with the same IDs: two further attempts, no further query.
  @Test func glibcRepeatsWhatWasAnswered() throws {
    let scenario = Scenario()
    scenario.warmUp()
    let (a, aaaa) = pair(scenario)
    a.answered()
    aaaa.asked()
    scenario.wait(5 * second)
    a.answered()
    aaaa.answered()
    scenario.wait(15 * second)
    #expect(scenario.losses.map(\.queryType) == [QueryType.aaaa])
    let closed = try #require(scenario.closings.first)
    #expect(scenario.closings.count == 1)
    #expect(closed.impact == .delayed && closed.attempts == 2 && abs(closed.delay - 5 * second) < 50 * millisecond)
    #expect(scenario.engine.totals.retries == 2)
    #expect(scenario.isConserved)
  }

  /// dig, glibc's single-request and every second server: another port, the same ID. Such a retry needs no time-out to be known.
  @Test func theSameIDFromAnotherPortIsARetryAtAnyTime() throws {
    let scenario = Scenario()
    scenario.warmUp()
    Ask(scenario, port: 40000, id: 700, name: "x.lab.test", type: QueryType.aaaa).asked()
    scenario.wait(2 * second)
    Ask(scenario, port: 40001, to: scenario.secondVIP, id: 700, name: "x.lab.test", type: QueryType.aaaa).answered()
    scenario.wait(15 * second)
    let closed = try #require(scenario.closings.first)
    #expect(closed.impact == .delayed && !closed.impactObserved && closed.attempts == 2)
    #expect(abs(closed.delay - 2 * second) < 50 * millisecond)
  }

  /// musl with `timeout:1 attempts:3` repeats after a third of a second, before the loss is judged.
  @Test func aRetryBeforeTheVerdict() throws {
    let scenario = Scenario()
    scenario.warmUp()
    let (a, aaaa) = pair(scenario)
    a.answered()
    aaaa.asked()
    scenario.wait(second / 3)
    aaaa.answered()
    scenario.wait(15 * second)
    #expect(scenario.losses.map(\.attempt) == [1])
    #expect(scenario.losses.first?.siblingType == QueryType.a)
    let closed = try #require(scenario.closings.first)
    #expect(closed.impact == .delayed && closed.impactObserved && closed.attempts == 2)
    #expect(abs(closed.delay - second / 3) < 50 * millisecond)
    #expect(scenario.isConserved)
  }

  /// musl with two servers: one copy of the AAAA is lost, the other is answered.
  @Test func aCopyToAnotherServerMakesTheLossHarmless() throws {
    let scenario = Scenario()
    scenario.warmUp()
    for (type, id) in [(QueryType.a, UInt16(501)), (QueryType.aaaa, 502)] {
      Ask(scenario, port: 40000, id: id, name: "x.lab.test", type: type).answered()
      let copy = Ask(scenario, port: 40000, to: scenario.secondVIP, id: id, name: "x.lab.test", type: type)
      if type == QueryType.a { copy.answered() } else { copy.asked() }
    }
    scenario.wait(15 * second)
    #expect(scenario.losses.map(\.server) == [scenario.secondVIP])
    #expect(scenario.closings.map(\.impact) == [.none])
    #expect(scenario.closings.map(\.delay) == [0])
  }

  /// musl with two servers that share a backend, on a node that spreads packets over CPUs: A to one server and A to the other race for one reply
  /// tuple. Then the AAAA of the loser's server makes the entry of that server, on a port that the kernel chose because the tuple was taken.
  @Test(arguments: [true, false]) func muslLosesTheReplyRaceBeforeItsSiblingIsAsked(resolvesClashes: Bool) throws {
    let scenario = Scenario()
    if !resolvesClashes { scenario.features = [.chainTooLong] }
    scenario.warmUp()
    func ask(_ server: Endpoint, _ id: UInt16, _ type: UInt16) -> Ask {
      Ask(scenario, port: 40000, to: server, id: id, name: "x.lab.test", type: type)
    }
    let winner = ask(scenario.vip, 501, QueryType.a)
    let loser = ask(scenario.secondVIP, 501, QueryType.a)
    let follower = ask(scenario.vip, 502, QueryType.aaaa)
    var remapped = ask(scenario.secondVIP, 502, QueryType.aaaa)
    remapped.natted = Endpoint(scenario.pod, 61234)
    winner.asked()
    loser.asked()
    winner.entry()
    winner.sent()
    scenario.counters.insertFailed += 1
    scenario.counters.drop += 1
    scenario.pass(20 * microsecond)
    follower.asked()
    follower.sent()
    remapped.asked()
    scenario.new((remapped.client, remapped.server), reply: (remapped.backend, remapped.sentFrom))
    remapped.sent()
    for answered in [winner, follower, remapped] {
      scenario.pass(100 * microsecond)
      answered.came()
      answered.delivered()
    }
    scenario.wait(15 * second)
    #expect(scenario.losses.count == 1)
    let lost = try #require(scenario.losses.first)
    #expect(lost.server == scenario.secondVIP && lost.queryType == QueryType.a)
    #expect(lost.verdict == .replyClashDropped && lost.grade == .observed)
    #expect(lost.winnerServer == scenario.vip)
    #expect(scenario.closings.map(\.impact) == [.none])
  }

  /// Go sends A and AAAA from two ports and repeats only the lost one, from a third with another ID.
  @Test func goRepeatsFromAnotherPortWithAnotherID() throws {
    let scenario = Scenario()
    scenario.warmUp()
    Ask(scenario, port: 40000, id: 1, name: "x.lab.test", type: QueryType.a).answered()
    Ask(scenario, port: 40001, id: 2, name: "x.lab.test", type: QueryType.aaaa).asked()
    scenario.wait(5 * second)
    Ask(scenario, port: 40002, id: 3, name: "x.lab.test", type: QueryType.aaaa).answered()
    scenario.wait(15 * second)
    #expect(scenario.losses.map(\.siblingID) == [nil])
    let closed = try #require(scenario.closings.first)
    #expect(closed.impact == .delayed && !closed.impactObserved && closed.attempts == 2)
    #expect(abs(closed.delay - 5 * second) < 50 * millisecond)
    #expect(scenario.engine.totals.retries == 1)
  }

  /// Another lookup of the same name by the same pod, seconds after a lost one, is not its retry unless the time fits.
  @Test func aFreshLookupIsNotARetry() throws {
    let scenario = Scenario()
    scenario.warmUp()
    Ask(scenario, port: 40000, id: 1, name: "x.lab.test", type: QueryType.aaaa).asked()
    scenario.wait(3 * second)
    Ask(scenario, port: 40001, id: 9, name: "x.lab.test", type: QueryType.aaaa).answered()
    scenario.wait(15 * second)
    let closed = try #require(scenario.closings.first)
    #expect(closed.impact == .failed && closed.attempts == 1)
  }

  /// A lost AAAA and, after `gap`, the same from another port with another ID; `more` is what else happens then.
  private func retried(after gap: Int64, _ more: (Scenario) -> Void = { _ in }) throws -> (Scenario, ClosedQuery) {
    let scenario = Scenario()
    scenario.warmUp()
    Ask(scenario, port: 40000, id: 1, name: "x.lab.test", type: QueryType.a).answered()
    Ask(scenario, port: 40001, id: 2, name: "x.lab.test", type: QueryType.aaaa).asked()
    scenario.wait(gap)
    Ask(scenario, port: 40002, id: 3, name: "x.lab.test", type: QueryType.aaaa).answered()
    more(scenario)
    scenario.wait(20 * second)
    #expect(scenario.isConserved && scenario.losses.count == 1)
    return (scenario, try #require(scenario.closings.first))
  }

  /// Go with `timeout:1` or `timeout:2`: the retry is known by its time, and by coming alone.
  @Test(arguments: [second, 2 * second]) func aRetryAfterAnotherTimeOut(_ gap: Int64) throws {
    let (scenario, closed) = try retried(after: gap)
    #expect(closed.impact == .delayed && !closed.impactObserved && closed.attempts == 2)
    #expect(abs(closed.delay - gap) < 50 * millisecond)
    #expect(scenario.engine.totals.retries == 1 && scenario.closings.count == 1)
  }

  /// The retry is lost as well.
  @Test func aRetryThatIsLostToo() throws {
    let scenario = Scenario()
    scenario.warmUp()
    for (port, wait) in [(UInt16(40000), second), (40001, 20 * second)] {
      Ask(scenario, port: port, id: port, name: "x.lab.test", type: QueryType.aaaa).asked()
      scenario.wait(wait)
    }
    #expect(scenario.losses.count == 2 && scenario.isConserved)
    #expect(scenario.closings.contains { $0.impact == .failed && $0.attempts == 2 && !$0.impactObserved })
  }

  /// Who asks for the A again as well, before or after the AAAA, looks the name up afresh: the first lookup goes on waiting.
  @Test(arguments: [true, false]) func aFreshLookupAtTheTimeOfARetry(asksBefore: Bool) throws {
    let scenario = Scenario()
    scenario.warmUp()
    Ask(scenario, port: 40000, id: 1, name: "x.lab.test", type: QueryType.a).answered()
    Ask(scenario, port: 40001, id: 2, name: "x.lab.test", type: QueryType.aaaa).asked()
    scenario.wait(second)
    let a = Ask(scenario, port: 40002, id: 3, name: "x.lab.test", type: QueryType.a)
    let aaaa = Ask(scenario, port: 40003, id: 4, name: "x.lab.test", type: QueryType.aaaa)
    for ask in asksBefore ? [a, aaaa] : [aaaa, a] { ask.answered() }
    scenario.wait(20 * second)
    let closed = try #require(scenario.closings.first)
    #expect(closed.impact == .failed && closed.attempts == 1)
    #expect(scenario.engine.totals.retries == 0)
  }

  /// A probe that asks every second for one type is not a resolver that asks again.
  @Test func whoAsksEverySecondIsNoRetry() throws {
    let (_, closed) = try retried(after: second) { scenario in
      for port in UInt16(40003)...40006 {
        scenario.wait(second)
        Ask(scenario, port: port, id: port, name: "x.lab.test", type: QueryType.aaaa).answered()
      }
    }
    #expect(closed.impact == .failed && closed.attempts == 1)
  }

  /// Both are lost and both are asked again: two retries, no fresh lookup.
  @Test func bothAreRetriedAfterAnotherTimeOut() throws {
    let scenario = Scenario()
    scenario.warmUp()
    let types = [QueryType.a, QueryType.aaaa]
    for (index, type) in types.enumerated() {
      Ask(scenario, port: UInt16(40000 + index), id: UInt16(1 + index), name: "x.lab.test", type: type).asked()
    }
    scenario.wait(second)
    for (index, type) in types.enumerated() {
      Ask(scenario, port: UInt16(41000 + index), id: UInt16(9 + index), name: "x.lab.test", type: type).answered()
    }
    scenario.wait(20 * second)
    #expect(scenario.closings.count == 2)
    #expect(scenario.closings.allSatisfy { $0.impact == .delayed && $0.attempts == 2 && !$0.impactObserved })
    #expect(scenario.isConserved)
  }
}
