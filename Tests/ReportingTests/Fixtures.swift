import Flows
import Foundation
import Reporting

/// Wire form of a name: `wire("api", "example")`.
func wire(_ labels: String...) -> [UInt8] {
  labels.flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) } + [0]
}

func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

func endpoint(_ address: String, _ port: UInt16) -> Endpoint { Endpoint(IPAddress(address)!, port) }

/// The example of the contract.
func lostQuery() -> LostQuery {
  var lost = LostQuery()
  lost.incidentID = 0x0123_4567_89AB_CDEF
  lost.flowID = 0xFE
  lost.verdict = .replyClashDropped
  lost.grade = .observed
  lost.evidence = [.asked, .noSent, .noOwnEntry, .winner, .countersExact]
  lost.time = WallTime(nanoseconds: 1_795_240_800_123_456_789)
  lost.observedTime = WallTime(nanoseconds: 1_795_240_800_151_000_000)
  lost.dnsID = 22522
  lost.name = wire("api", "Example", "svc", "cluster", "local")
  lost.queryType = QueryType.aaaa
  lost.client = endpoint("10.40.0.17", 36882)
  lost.server = endpoint("10.96.0.10", 53)
  lost.backend = endpoint("10.32.1.6", 53)
  lost.winnerServer = endpoint("10.96.0.11", 53)
  lost.siblingID = 4711
  lost.siblingType = QueryType.a
  lost.insertFailedDelta = 1
  lost.dropDelta = 1
  return lost
}

func closedQuery(
  client: String = "10.40.0.17", port: UInt16 = 36882, impact: Impact = .delayed, delay: Int64 = 5_003_217_000, verdict: Verdict = .replyClashDropped,
  lookup: UInt64 = 1, at time: Int64 = 1_795_240_800_123_456_789
) -> ClosedQuery {
  var closed = ClosedQuery()
  closed.incidentID = 0x0123_4567_89AB_CDEF
  closed.lookupID = lookup
  closed.lookupTime = WallTime(nanoseconds: time)
  closed.time = WallTime(nanoseconds: time)
  closed.observedTime = WallTime(nanoseconds: time + 15_000_000_000)
  closed.verdict = verdict
  closed.grade = .observed
  closed.impact = impact
  closed.delay = delay
  closed.name = wire("api", "Example")
  closed.queryType = QueryType.aaaa
  closed.client = endpoint(client, port)
  closed.server = endpoint("10.96.0.10", 53)
  return closed
}

/// An alert with three of its four lookups as examples, and its end; one with nothing that can be left out.
func alerts() -> [Alert] {
  var table = AlertTable(seed: 1)
  var lookups = LookupTable()
  var alerts: [Alert] = []
  func take(_ closed: ClosedQuery, _ now: Int64) {
    guard let stall = lookups.take(closed, at: Instant(nanoseconds: now)) else { return }
    if let alert = table.take(closed, stall, at: Instant(nanoseconds: now)) { alerts.append(alert) }
  }
  for index in 0..<4 {
    take(closedQuery(impact: index == 2 ? .failed : .delayed, lookup: UInt64(index), at: 1_795_240_800_000_000_000 + Int64(index) * 1_000_000_000), 1)
  }
  var bare = closedQuery(client: "2001:db8::1", verdict: .droppedOnNode, lookup: 9)
  bare.reason = .policyOrRoute
  bare.name = []
  bare.queryType = 0
  take(bare, 2)
  return alerts + table.due(at: Instant(nanoseconds: 2 + AlertTable.resolveAfter))
}

/// Every kind of record, with every optional field set at least once and left out at least once.
func appendExamples(to out: inout [UInt8]) {
  var writer = RecordWriter(options: RecordOptions(nodeName: "n1"))
  writer.append(
    AgentStarted(
      time: WallTime(nanoseconds: 1_795_240_800_000_000_000), version: "0.1.0", kernelRelease: "6.18.0",
      sources: [
        SourceState(source: "conntrack", state: .up), SourceState(source: "packets", state: .down, reason: "socket: \"Operation\" not\npermitted"),
        SourceState(source: "kernel_probe", state: .off),
      ]), to: &out)
  writer.append(.lost(lostQuery()), to: &out)

  var late = LostQuery()
  late.incidentID = 2
  late.verdict = .clashLateReply
  late.evidence = [.asked, .sent, .came, .natClashDestroyed, .answerOpenedEntry]
  late.name = [3, 0x0A, 0x22, 0xFF, 4, 0x00, 0x2E, 0x5C, 0x20, 0]
  late.queryType = 4242
  late.client = endpoint("2001:db8::17", 40000)
  late.clientIsHost = true
  late.clientIsServer = true
  late.server = endpoint("fd00::a", 5353)
  late.winnerServer = endpoint("fd00::a", 5353)
  late.winnerClient = endpoint("2001:db8::18", 40000)
  late.attempt = 2
  late.zone = 7
  late.vantage = .transit
  late.insertFailedDelta = 0
  writer.append(.lost(late), to: &out)

  var proven = lostQuery()
  proven.grade = .proven
  proven.evidence = [.probeDrop, .winner]
  proven.clientIsHost = true
  proven.cpu = 1
  writer.append(.lost(proven), to: &out)

  var blind = LostQuery()
  blind.verdict = .unknown
  blind.blindSource = .packets
  blind.evidence = .blind
  blind.name = [0]
  writer.options = RecordOptions()
  writer.append(.lost(blind), to: &out)

  var dropped = lostQuery()
  dropped.verdict = .droppedOnNode
  dropped.reason = .policyOrRoute
  dropped.insertFailedDelta = 0
  dropped.dropDelta = 0
  dropped.evidence = []
  writer.options = RecordOptions(names: .hash(key: Array("key".utf8)))
  writer.append(.lost(dropped), to: &out)
  writer.options = RecordOptions(names: .off)
  writer.append(.lost(dropped), to: &out)

  var refused = lostQuery()
  refused.verdict = .noAnswer
  refused.reason = .icmpUnreachable
  refused.insertFailedDelta = 0
  refused.dropDelta = 0
  refused.evidence = [.asked, .sent, .noCame, .icmpError]
  refused.icmpType = 3
  refused.icmpCode = 13
  refused.icmpSender = endpoint("10.1.1.1", 0).address
  refused.libc = .musl
  writer.options = RecordOptions(names: .off)
  writer.append(.lost(refused), to: &out)
  refused.verdict = .clashMisrouted
  refused.reason = .none
  refused.icmpType = nil
  refused.evidence = [.asked, .sent, .noCame, .otherDevice]
  refused.clashResolveDelta = 2
  refused.invalidDelta = 1
  writer.append(.lost(refused), to: &out)

  writer.options = RecordOptions(nodeName: "n1")
  var closed = ClosedQuery()
  closed.incidentID = 0x0123_4567_89AB_CDEF
  closed.time = WallTime(nanoseconds: 1_795_240_800_123_456_789)
  closed.observedTime = WallTime(nanoseconds: 1_795_240_815_130_000_001)
  closed.verdict = .replyClashDropped
  closed.grade = .observed
  closed.impact = .delayed
  closed.reason = .ambiguous
  closed.delay = 5_003_217_000
  closed.attempts = 2
  closed.dnsID = 22522
  closed.name = wire("api")
  closed.queryType = QueryType.aaaa
  closed.client = endpoint("10.40.0.17", 36882)
  closed.server = endpoint("10.96.0.10", 53)
  writer.append(.closed(closed), to: &out)
  closed.libc = .glibc
  closed.impact = .none
  closed.impactObserved = false
  closed.delay = -1
  closed.clientIsServer = true
  writer.append(.closed(closed), to: &out)
  for alert in alerts() { writer.append(alert, time: WallTime(nanoseconds: 1_795_240_816_000_000_000), to: &out) }

  var clash = ResolvedClash()
  clash.observedTime = WallTime(nanoseconds: 1_795_240_801_000_000_000)
  clash.client = endpoint("10.40.0.17", 36883)
  clash.server = endpoint("10.96.0.10", 53)
  clash.backend = endpoint("10.32.1.7", 53)
  writer.append(.clashResolved(clash), to: &out)
  writer.append(.clashResolved(ResolvedClash()), to: &out)
  var query = ResolvedQuery()
  query.time = WallTime(nanoseconds: 1_795_240_800_999_000_000)
  query.dnsID = 22522
  query.name = wire("api")
  query.queryType = QueryType.aaaa
  clash.query = query
  writer.append(.clashResolved(clash), to: &out)
  clash.cpu = 0
  writer.append(.clashResolved(clash), to: &out)

  let start = WallTime(nanoseconds: 1_795_240_802_000_000_000)
  let end = WallTime(nanoseconds: 1_795_240_802_250_000_000)
  writer.append(.blind(BlindWindow(source: .conntrack, start: start, end: end, lost: 8_375)), to: &out)
  writer.append(.blind(BlindWindow(source: .start, start: end, end: start, lost: 0)), to: &out)

  var suppressed = LossesSuppressed(start: start, end: end)
  suppressed.lost[Int(Verdict.noAnswer.rawValue)] = 120
  suppressed.lost[Int(Verdict.replyClashDropped.rawValue)] = 3
  suppressed.closed = 40
  suppressed.resolved = 1
  writer.append(suppressed, to: &out)
  writer.append(LossesSuppressed(start: start, end: end), to: &out)
  writer.append(AgentStopped(time: end, version: "0.1.0", cause: "SIGTERM", uptime: 2_250_000_000), to: &out)
}

/// A snapshot in which every family has a sample.
func fullSnapshot() -> MetricsSnapshot {
  var snapshot = MetricsSnapshot(version: "0.1.0")
  snapshot.revision = "ab\\c\"d\n"
  snapshot.kernelRelease = "6.18.0"
  var counters = ConntrackCounters()
  counters.insertFailed = 5
  counters.drop = 3
  counters.clashResolve = 375
  snapshot.counters = counters
  snapshot.features = [.clashResolve, .chainTooLong]
  snapshot.entries = 1_234
  snapshot.entriesLimit = 262_144
  snapshot.events.new = 10
  snapshot.engine.transmissions = [30, 20, 10]
  snapshot.engine.clientTransmissionsA = 15
  snapshot.engine.clientTransmissionsAAAA = 14
  snapshot.engine.clientTransmissionsOther = 1
  snapshot.engine.answered = 26
  snapshot.engine.lost = 3
  snapshot.engine.open = 1
  snapshot.engine.lostByVerdict[Int(Verdict.replyClashDropped.rawValue) * 3 + Int(Grade.observed.rawValue)] = 3
  snapshot.engine.answersByCode = [20, 0, 1, 5, 0, 0]
  snapshot.engine.durations.observe(nanoseconds: 1_000_000)
  snapshot.engine.durations.observe(nanoseconds: 1_000_001)
  snapshot.engine.durations.observe(nanoseconds: 5_003_217_000)
  snapshot.engine.durations.observe(nanoseconds: 30_000_000_000)
  snapshot.engine.duplicateAnswers = 2
  snapshot.engine.tcpMessages = 7
  snapshot.engine.serverLost = 4
  var exemplars = IncidentExemplars()
  exemplars.note(lostQuery())
  exemplars.note(closedQuery())
  snapshot.lostExemplars = exemplars.lost
  snapshot.durationExemplars = exemplars.durations
  var workloads = WorkloadTable()
  for _ in 0..<3 { workloads.count(lostQuery()) }
  workloads.count(LookupStall(isNew: true, isNewToAlerts: true, verdict: .replyClashDropped, added: 5_003_217_000), of: closedQuery())
  snapshot.workloads = workloads.totals(clientTransmissions: 30)
  snapshot.alertsFiring = 1
  snapshot.records = RecordEvent.allCases.map { RecordCount($0.name, $0 == .lost ? 3 : 0) }
  var log = LogUse()
  log.info = 2
  snapshot.log = log
  var http = HTTPUse()
  http.accepted = 12
  http.requests = 11
  snapshot.http = http
  snapshot.longestTurn = 2_500_000
  snapshot.blind[Int(BlindSource.packets.rawValue)] = true
  snapshot.blindNanoseconds[Int(BlindSource.packets.rawValue)] = 1_500_000_000
  snapshot.blindAny = true
  snapshot.blindAnyNanoseconds = 1_500_000_000
  snapshot.sources = [SourceUp("conntrack", true), SourceUp("packets", false)]
  snapshot.paths = [PathObservable("sent", true), PathObservable("delivered", false)]
  snapshot.tables = [TableUse("transmissions", entries: 1, evictions: 0)]
  snapshot.decodeErrors = [DecodeErrorCount("packets", "truncated", 2)]
  snapshot.probeEvents.dropped = 7
  snapshot.probeEvents.merged = 3
  snapshot.probeEvents.lost = 2
  var process = ProcessUse()
  process.cpuNanoseconds = 1_250_000_000
  process.residentBytes = 9_437_184
  process.virtualBytes = 20_971_520
  process.openDescriptors = 14
  process.maxDescriptors = 1_024
  process.start = WallTime(nanoseconds: 1_795_240_800_000_000_000)
  snapshot.process = process
  return snapshot
}

func page(_ snapshot: MetricsSnapshot, _ format: ExpositionFormat) -> String {
  var bytes: [UInt8] = []
  MetricsPage.render(snapshot, as: format, into: &bytes)
  return text(bytes)
}

/// Files beside the tests, and the tools that judge what is written.
enum Oracle {
  static let directory = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
  static let repository = directory.deletingLastPathComponent().deletingLastPathComponent()
  /// `RACETRACK_PYTHON` names an interpreter with jsonschema and prometheus_client.
  static let python = ProcessInfo.processInfo.environment["RACETRACK_PYTHON"] ?? "python3"
  static let hasPromtool = (try? run(["promtool", "--version"]).status) == 0
  static let hasJSONSchema = (try? run([python, "-c", "import jsonschema; jsonschema.Draft202012Validator"]).status) == 0
  static let hasOpenMetricsParser = (try? run([python, "-c", "import prometheus_client.openmetrics.parser"]).status) == 0

  /// The golden file's contents; with `RACETRACK_UPDATE_GOLDEN` set it is written first.
  static func golden(_ name: String, _ actual: String) throws -> String {
    let file = directory.appendingPathComponent("Golden").appendingPathComponent(name)
    if ProcessInfo.processInfo.environment["RACETRACK_UPDATE_GOLDEN"] != nil { try Data(actual.utf8).write(to: file) }
    return String(decoding: try Data(contentsOf: file), as: UTF8.self)
  }

  static func run(_ command: [String], input: [UInt8] = []) throws -> (status: Int32, output: String) {
    let source = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    try Data(input).write(to: source)
    defer { try? FileManager.default.removeItem(at: source) }
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = command
    let output = Pipe()
    process.standardInput = try FileHandle(forReadingFrom: source)
    process.standardOutput = output
    process.standardError = output
    try process.run()
    let data = output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return (process.terminationStatus, String(decoding: data, as: UTF8.self))
  }
}
