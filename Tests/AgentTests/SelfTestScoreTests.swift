import Flows
import Testing

@testable import Agent

/// A truth of one scenario with `pairs` pairs whose AAAA query was lost, and `answered` pairs without a loss.
private func truth(
  _ scenario: SelfTestScenario, pairs: Int, answered: Int = 0, counters: SelfTestCounters? = nil, receivedBy: Int = 0
) -> SelfTestTruth {
  let client = IPAddress(v4: 0x0AD2_0102)
  let server = Endpoint(IPAddress(v4: 0x0A60_6003), 53)
  var queries: [SelfTestQuery] = []
  for pair in 0..<pairs + answered {
    let isLost = pair < pairs
    let port = UInt16(2048 + scenario.rawValue * 1000 + pair)
    queries.append(SelfTestQuery(client: Endpoint(client, port), server: server, dnsID: UInt16(pair * 2), type: 1, pair: pair))
    queries.append(
      SelfTestQuery(
        client: Endpoint(client, port), server: server, dnsID: UInt16(pair * 2 + 1), type: 28, pair: pair, receivedBy: isLost ? receivedBy : 1,
        wasAnswered: !isLost, cameUntranslated: isLost && receivedBy != 0))
  }
  let dropped = UInt64(receivedBy == 0 ? pairs : 0)
  return SelfTestTruth(
    scenario: scenario, pairs: pairs + answered, seconds: 1.25, counters: counters ?? SelfTestCounters(insertFailed: dropped, drop: dropped),
    queries: queries)
}

private func lost(_ scenario: SelfTestScenario, _ query: SelfTestQuery, _ verdict: Verdict, _ grade: Grade = .observed) -> Record {
  var record = LostQuery()
  record.verdict = verdict
  record.grade = grade
  record.client = query.client
  record.server = query.server
  record.dnsID = query.dnsID
  record.queryType = query.type
  record.name = SelfTestScore.wireName(scenario, pair: query.pair)
  return .lost(record)
}

private func records(_ truth: SelfTestTruth, _ verdict: Verdict) -> [Record] {
  truth.queries.filter(\.isLost).map { lost(truth.scenario, $0, verdict) }
}

private func totals(sent: Int, lost: Int) -> EngineTotals {
  var totals = EngineTotals()
  totals.transmissions[0] = UInt64(sent)
  totals.lost = UInt64(lost)
  totals.answered = UInt64(sent - lost)
  return totals
}

@Suite struct SelfTestScoreTests {
  let truths = [
    truth(.ordinary, pairs: 0, answered: 5), truth(.lateReply, pairs: 3, answered: 2, receivedBy: 2), truth(.replyClash, pairs: 4),
    truth(.snatClash, pairs: 3),
  ]
  var right: [Record] {
    records(truths[1], .clashLateReply) + records(truths[2], .replyClashDropped) + records(truths[3], .snatClashDropped)
  }

  @Test func everyLossNamedIsProved() {
    let score = SelfTestScore(truths: truths, records: right, totals: totals(sent: 34, lost: 10))
    #expect(score.sent == 34)
    #expect(score.rows.map(\.named) == [0, 3, 4, 3])
    #expect(score.rows.map(\.missed) == [0, 0, 0, 0])
    #expect(score.rows[2].grades == [0, 4, 0])
    #expect(score.outcome(lossesWanted: 3) == .proved)
  }

  @Test func aMissedLossFails() {
    let score = SelfTestScore(truths: truths, records: Array(right.dropFirst()), totals: totals(sent: 34, lost: 10))
    #expect(score.rows[1].named == 2)
    #expect(score.rows[1].missed == 1)
    #expect(score.firstMissed?.dnsID == truths[1].queries[1].dnsID)
    #expect(score.outcome(lossesWanted: 3) == .failed)
  }

  @Test func aWrongVerdictIsMissedAndFalse() {
    let wrong = [lost(.replyClash, truths[2].queries[1], .noAnswer)]
    let rest = right.filter { if case .lost(let record) = $0 { record.name != SelfTestScore.wireName(.replyClash, pair: 0) } else { true } }
    let score = SelfTestScore(truths: truths, records: rest + wrong, totals: totals(sent: 34, lost: 10))
    #expect(score.rows[2].named == 3)
    #expect(score.rows[2].missed == 1)
    #expect(score.rows[2].wrong == 1)
    #expect(score.firstFalse?.verdict == .noAnswer)
    #expect(score.outcome(lossesWanted: 3) == .failed)
  }

  @Test func aRecordOfAnAnsweredQueryIsFalse() {
    let score = SelfTestScore(
      truths: truths, records: right + [lost(.ordinary, truths[0].queries[0], .replyClashDropped)], totals: totals(sent: 34, lost: 10))
    #expect(score.rows[0].wrong == 1)
    #expect(score.outcome(lossesWanted: 3) == .failed)
  }

  @Test func aSecondRecordOfOneLossIsFalse() {
    let score = SelfTestScore(truths: truths, records: right + [right[0]], totals: totals(sent: 34, lost: 10))
    #expect(score.rows[1].named == 3)
    #expect(score.rows[1].wrong == 1)
    #expect(score.outcome(lossesWanted: 3) == .failed)
  }

  @Test(arguments: ["client", "server", "id", "type", "name"])
  func aRecordThatDiffersInOneFieldIsAStranger(_ field: String) {
    guard case .lost(var record) = right[0] else { return }
    switch field {
    case "client": record.client.port &+= 1
    case "server": record.server.address = IPAddress(v4: 1)
    case "id": record.dnsID &+= 1
    case "type": record.queryType = 16
    default: record.name[1] = UInt8(ascii: "x")
    }
    let score = SelfTestScore(truths: truths, records: [.lost(record)] + right.dropFirst(), totals: totals(sent: 34, lost: 10))
    #expect(score.strangers == 1)
    #expect(score.rows[1].missed == 1)
    #expect(score.outcome(lossesWanted: 3) == .failed)
  }

  @Test func booksThatDoNotAddUpFail() {
    var short = totals(sent: 34, lost: 10)
    short.answered -= 1
    #expect(SelfTestScore(truths: truths, records: right, totals: short).outcome(lossesWanted: 3) == .failed)
    short.open = 1
    #expect(SelfTestScore(truths: truths, records: right, totals: short).outcome(lossesWanted: 3) == .proved)
    let unseen = totals(sent: 33, lost: 10)
    #expect(SelfTestScore(truths: truths, records: right, totals: unseen).outcome(lossesWanted: 3) == .failed)
  }

  @Test func tooFewLossesProveNothing() {
    let score = SelfTestScore(truths: truths, records: right, totals: totals(sent: 34, lost: 10))
    #expect(score.outcome(lossesWanted: 4) == .void("late reply: only 3 of 4 queries were lost in 5 pairs"))
  }

  @Test func aQueryThatWasNotSentIsNoTransmission() {
    var truth = truths[2]
    truth.queries[1].wasSent = false
    #expect(truth.lost == 3)
    #expect(truth.sent == 7)
  }

  @Test func withoutClashResolutionALateReplyIsADrop() {
    let old = truth(.lateReply, pairs: 2, counters: SelfTestCounters(insertFailed: 2, drop: 2, clashResolve: nil))
    #expect(old.contradiction == nil)
    #expect(old.expectedVerdict(of: old.queries[1]) == .dnatClashDropped)
    #expect(truths[1].expectedVerdict(of: truths[1].queries[1]) == .clashLateReply)
  }
}

@Suite struct SelfTestTruthTests {
  @Test(
    arguments: [
      // insert_failed, drop, clash_resolve, agrees with three dropped queries
      (3, 3, 0, true), (3, 3, 99, true), (4, 4, 0, false), (3, 2, 0, false), (2, 2, 0, false), (0, 0, 0, false),
      (3, 3, nil, true), (9, 3, nil, true), (3, 0, nil, true), (9, 0, nil, false), (2, 3, nil, false),
    ] as [(UInt64, UInt64, UInt64?, Bool)])
  func countersHaveToAgree(_ insertFailed: UInt64, _ drop: UInt64, _ resolved: UInt64?, _ agrees: Bool) {
    let counters = SelfTestCounters(insertFailed: insertFailed, drop: drop, clashResolve: resolved)
    #expect((truth(.replyClash, pairs: 3, counters: counters).contradiction == nil) == agrees)
  }

  @Test func lateRepliesMoveNoDropCounter() {
    #expect(truth(.lateReply, pairs: 3, counters: SelfTestCounters(clashResolve: 7), receivedBy: 2).contradiction == nil)
    #expect(truth(.lateReply, pairs: 3, counters: SelfTestCounters(insertFailed: 1, drop: 1), receivedBy: 2).contradiction != nil)
  }

  @Test func aReceivedQueryWithoutAnyAnswerIsNoRace() {
    #expect(truth(.replyClash, pairs: 3, receivedBy: 1).contradiction == "3 queries reached a server and no answer came back")
    var late = truth(.lateReply, pairs: 3, receivedBy: 1)
    late.queries[1].cameUntranslated = false
    #expect(late.contradiction == "1 queries reached a server and no answer came back")
  }

  @Test func ordinaryLookupsMustBeAnswered() {
    #expect(truth(.ordinary, pairs: 0, answered: 3).contradiction == nil)
    #expect(truth(.ordinary, pairs: 1, answered: 3).contradiction != nil)
    #expect(truth(.ordinary, pairs: 0, answered: 3, counters: SelfTestCounters(insertFailed: 1)).contradiction != nil)
  }

  @Test func procCountersAreReadByName() {
    let new = """
      entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop icmp_error  expect_new expect_create expect_delete search_restart
      00000010  0000000a 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000003 00000002 00000000 00000000  00000000 00000000 00000000 00000000
      00000010  00000001 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000010 00000001 00000000 00000000  00000000 00000000 00000000 00000000

      """
    #expect(SelfTestCounters(procText: new) == SelfTestCounters(insertFailed: 19, drop: 3, clashResolve: 11))
    let old = "entries searched insert_failed drop\n00000000 00000005 00000001 00000002\n"
    #expect(SelfTestCounters(procText: old) == SelfTestCounters(insertFailed: 1, drop: 2, clashResolve: nil))
    for bad in ["", "entries\n", "insert_failed drop\n", "insert_failed drop\n0001\n", "insert_failed drop\nxyz 0001\n"] {
      #expect(SelfTestCounters(procText: bad) == nil)
    }
  }

  @Test func conntrackCountersAreReadByName() {
    let text =
      "cpu=0   \tfound=0 invalid=0 insert=0 insert_failed=4 drop=4 early_drop=0 clash_resolve=1\ncpu=1 insert_failed=1 drop=1 clash_resolve=0\n"
    #expect(SelfTestCounters(conntrackText: text) == SelfTestCounters(insertFailed: 5, drop: 5, clashResolve: 1))
    #expect(SelfTestCounters(conntrackText: "cpu=0 found=1") == nil)
  }
}
