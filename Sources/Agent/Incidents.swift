import Flows
import LinuxIO
import Reporting

/// From the engine's records to lines, sums and alerts: rate limits, names' privacy, output.
final class Incidents {
  /// Losses that the page for people shows.
  private static let latestCount = 20

  private let output: RecordOutput
  private var writer: RecordWriter
  /// The key of hashed names where no file gives one: the same until the end.
  private let randomKey = (0..<4).flatMap { _ in SystemFacts.randomBytes() }
  private(set) var limiter: LossRateLimiter
  private(set) var workloads = WorkloadTable()
  private(set) var lookups = LookupTable()
  private(set) var alerts: AlertTable
  private(set) var exemplars = IncidentExemplars()
  private(set) var recent = RecentRecords()
  /// The newest last.
  private(set) var latest: [LostQuery] = []
  /// Records given to the output (index: `RecordEvent.rawValue`).
  private(set) var written: [UInt64] = Array(repeating: 0, count: RecordEvent.allCases.count)
  private var line: [UInt8] = []

  init(_ configuration: Configuration, seed: UInt64, now: Instant, wall: WallTime) throws(OutputError) {
    output = try RecordOutput(configuration.incidentsOutput)
    writer = RecordWriter(options: try Self.recordOptions(configuration, randomKey: randomKey))
    limiter = LossRateLimiter(limits: Self.limits(configuration), seed: seed, now: now, wall: wall)
    alerts = AlertTable(seed: seed)
  }

  var options: RecordOptions { writer.options }

  private static func limits(_ configuration: Configuration) -> LossRateLimits {
    var limits = LossRateLimits()
    limits.rate = Int64(configuration.incidentsRate)
    limits.all = configuration.incidentsAll
    return limits
  }

  private static func recordOptions(_ configuration: Configuration, randomKey: [UInt8]) throws(OutputError) -> RecordOptions {
    var options = RecordOptions()
    options.nodeName = configuration.nodeName ?? SystemFacts.hostName()
    switch configuration.dnsNames {
    case .full: options.names = .full
    case .off: options.names = .off
    case .hash:
      guard let path = configuration.dnsNamesKeyFile else {
        options.names = .hash(key: randomKey)
        break
      }
      options.names = .hash(key: try readKey(path))
    }
    return options
  }

  private static func readKey(_ path: String) throws(OutputError) -> [UInt8] {
    let key: [UInt8]
    do throws(FileError) {
      key = try BoundedFile.read(path, limit: 4096)
    } catch {
      throw OutputError(problem: "dns.names-key-file \(quoted(path)): \(error.problem)")
    }
    guard key.count >= 16 else { throw OutputError(problem: "dns.names-key-file \(quoted(path)): holds less than 16 bytes") }
    return key
  }

  /// What `reconfigure` takes; the only part of it that can fail.
  func recordOptions(_ configuration: Configuration) throws(OutputError) -> RecordOptions {
    try Self.recordOptions(configuration, randomKey: randomKey)
  }

  /// Takes changed options over; the output and the limiter's counts stay.
  func reconfigure(_ configuration: Configuration, _ options: RecordOptions, now: Instant, wall: WallTime) {
    writeSummary(now, wall, isLast: true)
    writer = RecordWriter(options: options)
    limiter.change(rate: Int64(configuration.incidentsRate), all: configuration.incidentsAll)
  }

  func started(_ record: AgentStarted) { write(.agentStarted) { writer.append(record, to: &$0) } }
  func stopped(_ record: AgentStopped) { write(.agentStopped) { writer.append(record, to: &$0) } }

  /// Counts every record, writes what the limits let through, and the alerts that are due for it.
  func take(_ records: [Record], now: Instant, wall: WallTime) {
    for record in records { take(record, now, wall) }
    output.flush()
  }

  private func take(_ record: Record, _ now: Instant, _ wall: WallTime) {
    var alert: Alert?
    let event: RecordEvent
    switch record {
    case .lost(let lost):
      event = .lost
      workloads.count(lost)
      exemplars.note(lost)
      if lost.vantage == .client { keep(lost) }
    case .closed(let closed):
      event = .closed
      exemplars.note(closed)
      if let stall = lookups.take(closed, at: now) {
        workloads.count(stall, of: closed)
        alert = alerts.take(closed, stall, at: now)
      }
    case .clashResolved: event = .clashResolved
    case .blind: event = .blindWindow
    }
    if limiter.admit(record, at: now) {
      let isKept = write(event, isRecent: event == .lost || event == .closed) { writer.append(record, to: &$0) }
      if !isKept { limiter.suppress(record) }
    }
    if let alert { write(alert, wall) }
  }

  private func keep(_ lost: LostQuery) {
    if latest.count == Self.latestCount { latest.removeFirst() }
    latest.append(lost)
  }

  /// Once a second: the alerts whose time has come, and once a minute the sum of what was kept back.
  ///
  /// - Parameter isLast: the agent stops: tell everything that was not told.
  func writeDue(_ now: Instant, _ wall: WallTime, isLast: Bool = false) {
    for alert in alerts.due(at: now, isLast: isLast) { write(alert, wall) }
    writeSummary(now, wall, isLast: isLast)
    output.flush()
  }

  private func writeSummary(_ now: Instant, _ wall: WallTime, isLast: Bool) {
    if let summary = limiter.summary(at: now, wall: wall, isLast: isLast) { write(.lossesSuppressed) { writer.append(summary, to: &$0) } }
  }

  private func write(_ alert: Alert, _ wall: WallTime) {
    write(alert.state == .firing ? .alertFiring : .alertResolved, isRecent: true) { writer.append(alert, time: wall, to: &$0) }
  }

  /// - Parameter isRecent: `/api/v1/incidents` shows it.
  /// - Returns: false if the output had no room.
  @discardableResult
  private func write(_ event: RecordEvent, isRecent: Bool = false, _ make: (inout [UInt8]) -> Void) -> Bool {
    line.removeAll(keepingCapacity: true)
    make(&line)
    if isRecent { recent.append(line) }
    guard output.append(line) else { return false }
    written[Int(event.rawValue)] &+= 1
    return true
  }

  /// Waits a little for a slow reader, at the end.
  func finish() { output.finish() }

  /// Opens the file of the records by its name again. On failure the old one stays.
  func reopenOutput() throws(OutputError) { try output.reopen() }

  /// Why records wait or are lost; nil while all is well.
  var outputProblem: String? { output.problem }

  /// Lines that no reader took.
  var undelivered: UInt64 { output.droppedLines }
}
