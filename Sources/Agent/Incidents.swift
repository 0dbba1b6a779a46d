import Flows
import LinuxIO
import Reporting

/// From the engine's records to lines: rate limits, names' privacy, output.
final class Incidents {
  private let output: RecordOutput
  private var writer: RecordWriter
  private(set) var limiter: LossRateLimiter

  init(_ configuration: Configuration, seed: UInt64, now: Instant, wall: WallTime) throws(OutputError) {
    output = try RecordOutput(configuration.incidentsOutput)
    writer = RecordWriter(options: try Self.recordOptions(configuration))
    limiter = LossRateLimiter(limits: Self.limits(configuration), seed: seed, now: now, wall: wall)
  }

  private static func limits(_ configuration: Configuration) -> LossRateLimits {
    var limits = LossRateLimits()
    limits.rate = Int64(configuration.incidentsRate)
    limits.all = configuration.incidentsAll
    return limits
  }

  private static func recordOptions(_ configuration: Configuration) throws(OutputError) -> RecordOptions {
    var options = RecordOptions()
    options.nodeName = configuration.nodeName ?? SystemFacts.hostName()
    switch configuration.dnsNames {
    case .full: options.names = .full
    case .off: options.names = .off
    case .hash:
      guard let path = configuration.dnsNamesKeyFile else {
        options.names = .hash(key: (0..<4).flatMap { _ in SystemFacts.randomBytes() })
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

  /// Takes changed options over; the output and the limiter's counts stay.
  func reconfigure(_ configuration: Configuration, now: Instant, wall: WallTime) throws(OutputError) {
    let options = try Self.recordOptions(configuration)
    writeSummary(now, wall, isLast: true)
    writer = RecordWriter(options: options)
    limiter.change(rate: Int64(configuration.incidentsRate), all: configuration.incidentsAll)
  }

  func started(_ record: AgentStarted) { output.append { writer.append(record, to: &$0) } }
  func stopped(_ record: AgentStopped) { output.append { writer.append(record, to: &$0) } }

  /// Writes what the limits let through and counts the rest.
  func take(_ records: [Record], now: Instant) {
    for record in records where limiter.admit(record, at: now) {
      output.append { writer.append(record, to: &$0) }
    }
    output.flush()
  }

  func writeSummary(_ now: Instant, _ wall: WallTime, isLast: Bool = false) {
    if let summary = limiter.summary(at: now, wall: wall, isLast: isLast) { output.append { writer.append(summary, to: &$0) } }
    output.flush()
  }

  /// Waits a little for a slow reader, at the end.
  func finish() { output.flush(wait: 500) }

  /// Lines that no reader took.
  var droppedLines: UInt64 { output.droppedLines }
}
