import Flows
import Testing

@testable import Agent

@Suite struct SelfTestTableTests {
  @Test func tableIsAligned() {
    let truths = [
      SelfTestTruth(scenario: .ordinary, pairs: 1000, seconds: 2.04, counters: SelfTestCounters(), queries: []),
      SelfTestTruth(
        scenario: .lateReply, pairs: 12, seconds: 0.96, counters: SelfTestCounters(insertFailed: 7, drop: 7, clashResolve: nil), queries: []),
    ]
    let text = SelfTestTable.render(SelfTestScore(truths: truths, records: [], totals: EngineTotals()))
    #expect(
      text == """
        race        pairs  lost  named  missed  false  proven  observed  inferred  insert_failed  drop  clash_resolve  seconds
        ordinary     1000     0      0       0      0       -         -         -              0     0              0      2.0
        late reply     12     0      0       0      0       0         0         0              7     7              -      1.0

        queries sent 0, seen 0 = answered 0 + lost 0 + unknown 0 + evicted 0 + open 0

        """)
  }

  @Test func conclusionsSayWhatIsWrong() {
    let score = SelfTestScore(truths: [], records: [], totals: EngineTotals())
    #expect(SelfTestTable.conclusion(score, .proved).hasPrefix("PROVED: all 0 "))
    #expect(SelfTestTable.conclusion(score, .void("no query was lost")) == "CANNOT TELL: this run is void: no query was lost.")
    var stray = LostQuery()
    stray.verdict = .noAnswer
    stray.dnsID = 77
    let failed = SelfTestScore(truths: [], records: [.lost(stray)], totals: EngineTotals())
    #expect(failed.outcome(lossesWanted: 0) == .failed)
    #expect(SelfTestTable.conclusion(failed, .failed).hasPrefix("FAILED: wrongly named no_answer: ID 77"))
  }

  @Test func optionsAreParsed() throws {
    #expect(try SelfTestOptions(arguments: []) == SelfTestOptions())
    let options = try SelfTestOptions(arguments: ["--quick", "--pairs", "900", "--seconds=7"])
    #expect(options.losses == 50)
    #expect(options.ordinaryLookups == 250)
    #expect(options.pairs == 900)
    #expect(options.seconds == 7)
    #expect(try SelfTestOptions(arguments: ["--help"]).wantsHelp)
  }

  @Test(arguments: [["--pairs"], ["--pairs", "0"], ["--pairs=x"], ["--pairs", "99999"], ["--seconds", "-1"], ["--quick=1"], ["--json"], ["more"]])
  func badOptionsAreRefused(_ arguments: [String]) {
    #expect(throws: SelfTestObstacle.self) { try SelfTestOptions(arguments: arguments) }
  }
}

@Suite struct SelfTestTopologyTests {
  let topology = SelfTestTopology()

  @Test func podsAreRoutedWithoutARP() {
    let node = topology.nodeLinks(pods: [11, 12, 13, 14, 15])
    #expect(node.contains("link add selftest2 address 02:52:54:00:01:02 type veth peer name eth0 address 02:52:54:00:02:02 netns 12\n"))
    #expect(node.contains("neighbour replace 10.210.5.2 lladdr 02:52:54:00:02:05 dev selftest5 nud permanent\n"))
    #expect(node.split(separator: "\n").count == 20)
    #expect(topology.podLinks(1).contains("address add 10.210.2.2/30 dev eth0\n"))
    #expect(topology.podLinks(1).hasSuffix("route add default via 10.210.2.1\n"))
  }

  @Test(arguments: [SelfTestTopology.RuleProgram.nft, .iptables])
  func everyServiceHasItsRules(_ program: SelfTestTopology.RuleProgram) {
    let rules = topology.rules(program)
    for service in 1...5 { #expect(rules.contains("10.96.96.\(service)")) }
    #expect(rules.contains("10.210.4.2") && rules.contains("10.210.5.2"))
  }

  @Test func scenariosAskTheServicesTheyNeed() {
    #expect(topology.services(.replyClash).0 != topology.services(.replyClash).1)
    #expect(topology.services(.lateReply).0 == topology.services(.lateReply).1)
    #expect(
      SelfTestScore.wireName(.snatClash, pair: 7) == [6] + Array("snat-7".utf8) + [9] + Array("racetrack".utf8) + [4] + Array("test".utf8) + [0])
  }
}
