import Flows
import Foundation
import Glibc
import LinuxIO
import Reporting
import TestSupport
import Testing

@testable import Agent

/// Many losses at once: few lines, and every loss in a sum.
@Suite struct StormTests {
  private static func lost(_ index: Int, _ verdict: Verdict) -> Record {
    var lost = LostQuery()
    lost.incidentID = UInt64(index)
    lost.verdict = verdict
    lost.grade = .observed
    lost.name = [3, 0x61, 0x62, 0x63, 0]
    lost.client = Endpoint(IPAddress(v4: 0x0A28_0000 + UInt32(index % 500)), UInt16(1024 + index % 60_000))
    lost.time = WallTime(nanoseconds: 1_795_240_800_000_000_000 + Int64(index) * 10_000)
    lost.observedTime = lost.time
    return .lost(lost)
  }

  private static func closed(_ index: Int, _ verdict: Verdict) -> Record {
    var closed = ClosedQuery()
    closed.incidentID = UInt64(index)
    closed.lookupID = UInt64(index) &* 0x9E37_79B9_7F4A_7C15
    closed.verdict = verdict
    closed.grade = .observed
    closed.impact = .failed
    closed.delay = Nanoseconds.perSecond
    closed.name = [3, 0x61, 0x62, 0x63, 0]
    closed.client = Endpoint(IPAddress(v4: 0x0A28_0000 + UInt32(index % 500)), UInt16(1024 + index % 60_000))
    closed.time = WallTime(nanoseconds: 1_795_240_800_000_000_000 + Int64(index) * 10_000)
    return .closed(closed)
  }

  private static let verdicts: [Verdict] = [.replyClashDropped, .noAnswer, .droppedOnNode, .clashLateReply, .unknown]

  private struct Line: Decodable {
    var event: String
    var verdict: String?
    var lost: [String: Int]?
    var closed: Int?
    private enum CodingKeys: String, CodingKey { case event, verdict, closed, lost }
    init(from decoder: any Decoder) throws {
      let box = try decoder.container(keyedBy: CodingKeys.self)
      event = try box.decode(String.self, forKey: .event)
      verdict = try box.decodeIfPresent(String.self, forKey: .verdict)
      closed = try box.decodeIfPresent(Int.self, forKey: .closed)
      lost = try? box.decodeIfPresent([String: Int].self, forKey: .lost)
    }
  }

  @Test func oneHundredThousandLossesInASecondAreFewLinesAndAllCounted() throws {
    let file = try TemporaryFile("")
    var configuration = Configuration()
    configuration.incidentsOutput = .file(file.path)
    configuration.nodeName = "n1"
    let start = Instant(nanoseconds: Nanoseconds.perSecond)
    let wall = WallTime(nanoseconds: 1_795_240_800_000_000_000)
    let incidents = try Incidents(configuration, seed: 1, now: start, wall: wall)
    let began = Clock.now
    for sweep in 0..<100 {
      let records = (0..<1_000).map { Self.lost(sweep * 1_000 + $0, Self.verdicts[$0 % Self.verdicts.count]) }
      incidents.take(records, now: start + Int64(sweep) * 10_000_000, wall: wall)
    }
    let elapsed = Clock.now - began
    // Eleven seconds later their queries close.
    let later = start + 11 * Nanoseconds.perSecond
    for sweep in 0..<100 {
      incidents.take((0..<1_000).map { Self.closed(sweep * 1_000 + $0, Self.verdicts[$0 % Self.verdicts.count]) }, now: later, wall: wall)
    }
    incidents.writeDue(start + 61 * Nanoseconds.perSecond, wall)
    incidents.writeDue(start + 62 * Nanoseconds.perSecond, wall, isLast: true)
    incidents.finish()

    let text = try String(contentsOfFile: file.path, encoding: .utf8)
    let lines = try text.split(separator: "\n").map { try JSONDecoder().decode(Line.self, from: Data($0.utf8)) }
    print("storm of 100,000 losses: \(lines.count) lines, \(text.utf8.count) bytes, \(Int(elapsed * 1e3)) ms for the losses (this build)")
    // Clashes: 20,000 at once and 1,000 a second. Others: five a client. The same for closed queries; then alerts and sums.
    #expect(lines.count < 2 * (21_100 + 500 * 5) + 800 + 10)
    for verdict in Self.verdicts {
      let name = "\(verdict.name)"
      let written = lines.count { $0.event == "dns_query_lost" && $0.verdict == name }
      let summed = lines.filter { $0.event == "losses_suppressed" }.reduce(0) { $0 + ($1.lost?[name] ?? 0) }
      #expect(written + summed == 20_000, "\(name): \(written) written, \(summed) summed up")
      #expect(incidents.workloads.rows[0].lost[Int(verdict.rawValue)] == 20_000)
      #expect(incidents.workloads.rows[0].stalled[2 * Int(verdict.rawValue) + 1] == 20_000)
    }
    let closings = lines.count { $0.event == "dns_query_closed" }
    #expect(closings + lines.filter { $0.event == "losses_suppressed" }.reduce(0) { $0 + ($1.closed ?? 0) } == 100_000)
    #expect(incidents.written[Int(RecordEvent.lost.rawValue)] + incidents.limiter.suppressedLost == 100_000)
    #expect(lines.count == Int(incidents.written.reduce(0, +)) && incidents.undelivered == 0)
    // Each client stalls from one cause here, and `unknown` is none: 400 alerts, told twice at most.
    #expect(incidents.alerts.count == 400 && incidents.alerts.overflow == 0)
    #expect((400...800).contains(lines.count { $0.event == "alert_firing" }))
    #expect(incidents.alerts.firing.reduce(0) { $0 + $1.stalled } == 80_000)
    let sample = text.split(separator: "\n").enumerated().filter { $0.offset % 20 == 0 || !$0.element.contains("\"dns_query_") }.map(\.element)
    try file.write(sample.joined(separator: "\n") + "\n")
    if let problem = try RecordSchema.problem(in: file.path) { Issue.record("\(problem)") }
  }

  /// Nobody reads: lines are dropped and told, the loop does not wait.
  @Test func whatFindsNoReaderIsSummedUp() throws {
    let file = try TemporaryFile("")
    unlink(file.path)
    #expect(mkfifo(file.path, 0o600) == 0)
    let reader = open(file.path, O_RDONLY | O_NONBLOCK)
    defer { close(reader) }
    var configuration = Configuration()
    configuration.incidentsOutput = .file(file.path)
    configuration.incidentsAll = true
    let now = Instant(nanoseconds: 1)
    let incidents = try Incidents(configuration, seed: 1, now: now, wall: WallTime(nanoseconds: 0))
    let began = Clock.now
    incidents.take((0..<20_000).map { Self.lost($0, .replyClashDropped) }, now: now, wall: WallTime(nanoseconds: 0))
    #expect(Clock.now - began < 10)
    let written = incidents.written[Int(RecordEvent.lost.rawValue)]
    #expect(written > 1_000 && written < 20_000 && incidents.undelivered == 20_000 - written)
    #expect(written + incidents.limiter.suppressedLost == 20_000)
  }
}
