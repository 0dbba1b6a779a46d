import Flows
import Testing

@testable import Correlation

/// Insertions that fail because the chain is too long: insert_failed and chain_too_long move, drop does not (`__nf_conntrack_confirm` in
/// net/netfilter/nf_conntrack_core.c at v6.1).
@Suite struct LongChainTests {
  /// A and AAAA of one socket: the first meets a long chain, the second gets through, for the limit is drawn anew for each.
  private func pair(toSecondVIP: Bool = false, alsoCounted drops: UInt64 = 0) -> Scenario {
    let scenario = Scenario()
    scenario.warmUp()
    Ask(scenario, port: 30000, to: scenario.secondVIP, id: 1).answered()
    scenario.wait(2 * second)
    let lost = Ask(scenario, port: 40000, id: 7, type: QueryType.a)
    let passed = Ask(scenario, port: 40000, to: toSecondVIP ? scenario.secondVIP : scenario.vip, id: 8, type: QueryType.aaaa)
    lost.asked()
    scenario.counters.insertFailed += 1 + drops
    scenario.counters.chainTooLong += 1
    scenario.counters.drop += drops
    scenario.pass(20 * microsecond)
    passed.answered()
    scenario.wait(12 * second)
    return scenario
  }

  @Test(arguments: [false, true]) func whoGotThroughIsNoWinner(toSecondVIP: Bool) throws {
    let scenario = pair(toSecondVIP: toSecondVIP)
    let loss = try #require(scenario.losses.first)
    #expect(scenario.losses.count == 1)
    #expect(loss.verdict == .droppedOnNode && loss.reason == .chainTooLong && loss.grade == .inferred, "\(loss)")
    #expect(scenario.isConserved)
  }

  /// Where something clashed in the same second it may have been this one: said, and not as sure.
  @Test func besideAClashItStaysOpen() throws {
    let loss = try #require(pair(toSecondVIP: true, alsoCounted: 1).losses.first)
    #expect(loss.verdict == .replyClashDropped && loss.grade == .inferred, "\(loss)")
  }

  /// An insertion that failed for another reason (a namespace that goes, a flush) is no clash either.
  @Test func withoutADropThereWasNoClash() throws {
    let scenario = Scenario()
    scenario.warmUp()
    Ask(scenario, port: 30000, to: scenario.secondVIP, id: 1).answered()
    scenario.wait(2 * second)
    let lost = Ask(scenario, port: 40000, id: 7, type: QueryType.a)
    lost.asked()
    scenario.counters.insertFailed += 1
    scenario.pass(20 * microsecond)
    Ask(scenario, port: 40000, to: scenario.secondVIP, id: 8, type: QueryType.aaaa).answered()
    scenario.wait(12 * second)
    let loss = try #require(scenario.losses.first)
    #expect(loss.verdict == .droppedOnNode && loss.reason == .policyOrRoute && loss.grade == .inferred, "\(loss)")
  }
}
