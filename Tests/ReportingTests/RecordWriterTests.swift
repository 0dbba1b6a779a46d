import Flows
import Foundation
import Reporting
import Testing

@Suite struct RecordWriterTests {
  @Test func linesAreTheGoldenOnes() throws {
    var out: [UInt8] = Array("before\n".utf8)
    appendExamples(to: &out)
    #expect(out.starts(with: Array("before\n".utf8)))
    let lines = text(Array(out.dropFirst(7)))
    #expect(try lines == Oracle.golden("records.jsonl", lines))
  }

  @Test func everyLineIsOneJSONObjectOfASCII() throws {
    var out: [UInt8] = []
    appendExamples(to: &out)
    #expect(out.allSatisfy { $0 == 0x0A || (0x20...0x7E).contains($0) })
    let lines = out.split(separator: 0x0A)
    #expect(lines.count == 24)
    for line in lines {
      let record = try #require(try JSONSerialization.jsonObject(with: Data(line)) as? [String: Any])
      #expect(record["schema_version"] as? Int == 1)
      #expect(!record.values.contains { $0 is NSNull })
    }
  }

  @Test(.enabled(if: Oracle.hasJSONSchema, "no Python package jsonschema (set RACETRACK_PYTHON)"))
  func everyLineIsValidAgainstTheSchema() throws {
    var out: [UInt8] = []
    appendExamples(to: &out)
    let script = Oracle.repository.appendingPathComponent("Tests/records/validate.py").path
    let schema = Oracle.repository.appendingPathComponent("docs/records.schema.json").path
    let good = try Oracle.run([Oracle.python, script, schema], input: out)
    #expect(good.status == 0, "\(good.output)")
    #expect(good.output == "24 lines, 0 invalid\n")
    // And the schema refuses what is not a record.
    let spoilt = text(out).replacingOccurrences(of: "\"dns.id\"", with: "\"dns.ID\"")
    #expect(try Oracle.run([Oracle.python, script, schema], input: Array(spoilt.utf8)).status == 1)
  }

  @Test func keysOfTheContractStandInItsOrder() throws {
    var out: [UInt8] = []
    RecordWriter(options: RecordOptions(nodeName: "n1")).append(.lost(lostQuery()), to: &out)
    let line = text(out)
    #expect(
      line.hasPrefix(
        #"{"time":"2026-11-21T06:00:00.123456789Z","observed_time":"2026-11-21T06:00:00.151000000Z","schema_version":1,"severity":"WARN","event":"dns_query_lost","incident.id":"0123456789abcdef","flow.id":"00000000000000fe","verdict":"reply_clash_dropped","grade":"observed","vantage":"client","dns.id":22522,"dns.question.name":"api.Example.svc.cluster.local","dns.question.type":"AAAA","client.address":"10.40.0.17","client.port":36882,"server.address":"10.96.0.10","server.port":53,"network.transport":"udp","backend.address":"10.32.1.6","backend.port":53,"winner.server.address":"10.96.0.11","winner.server.port":53,"sibling.dns.id":4711,"sibling.dns.question.type":"A","attempt":1,"evidence":["asked","no_sent","no_own_entry","winner","counters_exact","insert_failed+1","drop+1"],"k8s.node.name":"n1","advice":""#
      ))
    #expect(line.hasSuffix("\"}\n"))
  }

  @Test func hostileTextCannotLeaveItsString() throws {
    var lost = lostQuery()
    let label: [UInt8] = [0x0A, 0x22, 0xFF, 0x00, 0x2E, 0x5C, 0x7F, 0x7D]
    lost.name = [UInt8(label.count)] + label + [0]
    var out: [UInt8] = []
    RecordWriter(options: RecordOptions(nodeName: "a\"b\\c\n\u{0}\u{7F}é")).append(.lost(lost), to: &out)
    #expect(out.filter { $0 == 0x0A }.count == 1)
    let record = try #require(try JSONSerialization.jsonObject(with: Data(out)) as? [String: Any])
    #expect(record["dns.question.name"] as? String == #"\010\"\255\000\.\\\127}"#)
    #expect(record["k8s.node.name"] as? String == "a\"b\\c\n\u{0}\u{7F}é")
  }

  @Test func everyVerdictAndReasonHasOneSentenceOfAdvice() throws {
    for verdict in Verdict.allCases {
      for reason in Reason.allCases {
        var lost = lostQuery()
        lost.verdict = verdict
        lost.reason = reason
        var out: [UInt8] = []
        RecordWriter().append(.lost(lost), to: &out)
        let record = try #require(try JSONSerialization.jsonObject(with: Data(out)) as? [String: Any])
        let advice = try #require(record["advice"] as? String)
        #expect(advice.hasSuffix(".") && advice.count > 40 && advice.count < 400 && !advice.contains("\n") && !advice.contains("  "), "\(advice)")
        #expect(record["reason"] as? String == (reason == .none ? nil : "\(reason.name)"))
      }
    }
  }

  /// What is only inferred, or missing on a path that hides it, is not said to be something else than the race.
  @Test func adviceClaimsNoMoreThanTheEvidence() {
    var lost = lostQuery()
    lost.verdict = .droppedOnNode
    lost.reason = .policyOrRoute
    lost.grade = .observed
    lost.evidence = [.asked, .noSent, .noOwnEntry, .countersQuiet]
    #expect("\(Advice.sentence(lost))".contains("not the race"))
    lost.grade = .inferred
    #expect(!"\(Advice.sentence(lost))".contains("not the race") && "\(Advice.sentence(lost))".contains("not certain"))
    for verdict in [Verdict.droppedOnNode, .answerDroppedOnNode, .noAnswer] {
      lost.verdict = verdict
      lost.evidence = [.asked, .pathUnobserved]
      #expect("\(Advice.sentence(lost))".hasPrefix("This path does not show"))
    }
  }

  /// musl ignores the options that help glibc.
  @Test func adviceIsRightForTheClientsLibrary() {
    func advice(_ verdict: Verdict, _ libc: CLibrary, isServer: Bool = false) -> String {
      var lost = lostQuery()
      lost.verdict = verdict
      lost.libc = libc
      lost.clientIsServer = isServer
      return "\(Advice.sentence(lost))"
    }
    #expect(advice(.dnatClashDropped, .glibc).contains("single-request-reopen") && !advice(.dnatClashDropped, .glibc).contains("musl"))
    #expect(advice(.dnatClashDropped, .musl).contains("musl ignores") && !advice(.dnatClashDropped, .musl).contains("single-request"))
    #expect(advice(.dnatClashDropped, .unknown).contains("which musl ignores"))
    #expect(advice(.dnatClashDropped, .glibc, isServer: true) == advice(.dnatClashDropped, .unknown))
    #expect(advice(.replyClashDropped, .musl) != advice(.replyClashDropped, .glibc))
  }
}

@Suite struct NamePrivacyTests {
  /// Computed with Python's hmac; the second is RFC 4231 4.3 in lower case.
  @Test(arguments: [
    (Array(repeating: UInt8(0x0B), count: 20), "Hi There", UInt64(0x457D_CB1B_1C1B_F655)),
    (Array("jefe".utf8), "what do ya want for nothing?", 0xF588_6A27_76D4_0A67), ([], "", 0xB613_679A_0814_D9EC),
    (Array(repeating: UInt8(ascii: "k"), count: 100), "\u{3}API\u{0}", 0xEF28_DE4B_52DD_751A),
  ])
  func knownDigests(key: [UInt8], data: String, expected: UInt64) {
    #expect(NamePrivacy.hash(wire: Array(data.utf8), key: key) == expected)
  }

  @Test func caseDoesNotMatterAndTheKeyDoes() {
    let key: [UInt8] = [1, 2, 3]
    #expect(NamePrivacy.hash(wire: wire("API", "Example"), key: key) == NamePrivacy.hash(wire: wire("api", "example"), key: key))
    #expect(NamePrivacy.hash(wire: wire("api"), key: key) != NamePrivacy.hash(wire: wire("apj"), key: key))
    #expect(NamePrivacy.hash(wire: wire("api"), key: key) != NamePrivacy.hash(wire: wire("api"), key: [1, 2]))
  }
}

@Suite struct CivilTimeTests {
  @Test(arguments: [
    (Int64(0), "1970-01-01T00:00:00.000000000Z"), (951_782_399_999_999_999, "2000-02-28T23:59:59.999999999Z"),
    (951_782_400_000_000_000, "2000-02-29T00:00:00.000000000Z"), (951_868_800_000_000_001, "2000-03-01T00:00:00.000000001Z"),
    (1_709_164_800_000_000_000, "2024-02-29T00:00:00.000000000Z"), (4_107_542_399_000_000_000, "2100-02-28T23:59:59.000000000Z"),
    (4_107_542_400_000_000_000, "2100-03-01T00:00:00.000000000Z"), (1_795_240_800_123_456_789, "2026-11-21T06:00:00.123456789Z"),
    (.max, "2262-04-11T23:47:16.854775807Z"), (-1, "1970-01-01T00:00:00.000000000Z"), (.min, "1970-01-01T00:00:00.000000000Z"),
  ])
  func known(nanoseconds: Int64, expected: String) {
    var out: [UInt8] = []
    CivilTime(WallTime(nanoseconds: nanoseconds)).appendRFC3339(to: &out)
    #expect(text(out) == expected)
  }

  /// Every day from 1970 to 2262 follows the one before, by the rule of the calendar itself.
  @Test func everyDayFollowsTheOneBefore() {
    var year: Int64 = 1970
    var month = 1
    var day = 1
    for index in Int64(0)..<106_751 {
      let civil = CivilTime(WallTime(nanoseconds: index * 86_400_000_000_000))
      guard civil.year == year, civil.month == UInt8(month), civil.day == UInt8(day) else {
        Issue.record("day \(index): \(civil), expected \(year)-\(month)-\(day)")
        return
      }
      let isLeap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
      let length = [31, isLeap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month - 1]
      day += 1
      if day > length { (day, month) = (1, month + 1) }
      if month > 12 { (month, year) = (1, year + 1) }
    }
    #expect(year == 2262)
  }
}
