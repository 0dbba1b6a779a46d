package import Flows
package import Glibc

/// What the log did, to be exported.
package struct LogCounters: Equatable, Sendable {
  /// Lines written, by level.
  package var debug: UInt64 = 0
  package var info: UInt64 = 0
  package var warn: UInt64 = 0
  package var error: UInt64 = 0
  /// Messages held back by the rate limit.
  package var suppressed: UInt64 = 0
  /// Lines that standard error did not take, because nobody reads it or it is gone.
  package var undelivered: UInt64 = 0

  fileprivate mutating func count(_ level: LogLevel) {
    switch level {
    case .debug: debug &+= 1
    case .info: info &+= 1
    case .warn: warn &+= 1
    case .error: error &+= 1
    }
  }
}

/// The agent's own log, one write(2) a line. Owned by the loop's thread.
///
/// A message is a literal: it names the call site and is what the rate limit counts by, ten a second each. What is held back is told in a
/// `suppressed` field of the next line of that message, or by `flushSuppressed` when none comes. A reader that stands still costs lines,
/// never time: a line that the descriptor would not take at once is dropped and counted.
package final class Log {
  package static let linesPerSecond = 10
  private static let maximumMessages = 256

  private struct Window {
    var level: LogLevel
    var message: StaticString
    var start: Instant
    var lines = 0
    var suppressed: UInt64 = 0
  }

  package var level: LogLevel
  package var format: LogFormat
  package private(set) var counters = LogCounters()

  private let descriptor: Int32
  private let monotonicTime: () -> Instant
  private let wallTime: () -> WallTime
  private var windows: [String: Window] = [:]
  private var buffer: [UInt8] = []

  package init(
    level: LogLevel = .info, format: LogFormat = .logfmt, descriptor: Int32 = STDERR_FILENO,
    monotonicTime: @escaping () -> Instant = { Instant(nanoseconds: clockNanoseconds(CLOCK_MONOTONIC)) },
    wallTime: @escaping () -> WallTime = { WallTime(nanoseconds: clockNanoseconds(CLOCK_REALTIME)) }
  ) {
    self.level = level
    self.format = format
    self.descriptor = descriptor
    self.monotonicTime = monotonicTime
    self.wallTime = wallTime
    buffer.reserveCapacity(LogLine.maximumBytes)
  }

  package func debug(_ message: StaticString, _ fields: @autoclosure () -> LogFields = [:]) { write(.debug, message, fields) }
  package func info(_ message: StaticString, _ fields: @autoclosure () -> LogFields = [:]) { write(.info, message, fields) }
  package func warn(_ message: StaticString, _ fields: @autoclosure () -> LogFields = [:]) { write(.warn, message, fields) }
  package func error(_ message: StaticString, _ fields: @autoclosure () -> LogFields = [:]) { write(.error, message, fields) }

  package func isEnabled(_ level: LogLevel) -> Bool { level.rank >= self.level.rank }

  /// Tells what is held back of messages whose second is over. Call about once a second.
  package func flushSuppressed() {
    let now = monotonicTime()
    for (key, window) in windows where now - window.start >= Nanoseconds.perSecond {
      windows[key] = nil
      guard window.suppressed > 0 else { continue }
      emit(window.level, window.message, [:], suppressed: window.suppressed)
    }
  }

  private func write(_ level: LogLevel, _ message: StaticString, _ fields: () -> LogFields) {
    guard isEnabled(level) else { return }
    let now = monotonicTime()
    // Messages are literals, so there are few; should there be more than the limit, those beyond share one window.
    let name = message.description
    let key = windows[name] != nil || windows.count < Self.maximumMessages ? name : ""
    var window = windows[key] ?? Window(level: level, message: key.isEmpty ? "more messages" : message, start: now)
    var suppressed: UInt64 = 0
    if now - window.start >= Nanoseconds.perSecond {
      suppressed = window.suppressed
      window = Window(level: level, message: window.message, start: now)
    }
    guard window.lines < Self.linesPerSecond else {
      window.suppressed &+= 1
      counters.suppressed &+= 1
      windows[key] = window
      return
    }
    window.lines += 1
    windows[key] = window
    emit(level, message, fields(), suppressed: suppressed)
  }

  private func emit(_ level: LogLevel, _ message: StaticString, _ fields: LogFields, suppressed: UInt64) {
    var line = LogLine(format: format, reusing: buffer, time: wallTime(), level: level, message: message)
    if suppressed > 0 { line.append("suppressed", .unsigned(suppressed)) }
    for (key, value) in fields { line.append(key, value) }
    buffer = line.finish()
    if deliver() { counters.count(level) } else { counters.undelivered &+= 1 }
  }

  /// A pipe polls writable only when PIPE_BUF bytes fit, and no line is longer: the write neither blocks nor splits.
  private func deliver() -> Bool {
    var request = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
    guard unsafe poll(&request, 1, 0) == 1, request.revents & Int16(POLLOUT | POLLERR) == Int16(POLLOUT) else {
      return false
    }
    while true {
      let count = unsafe Glibc.write(descriptor, buffer, buffer.count)
      if count < 0 && errno == EINTR { continue }
      return count == buffer.count
    }
  }
}

extension LogLevel {
  fileprivate var rank: Int {
    switch self {
    case .debug: 0
    case .info: 1
    case .warn: 2
    case .error: 3
    }
  }
}

/// Nanoseconds of a clock; 0 for one that does not exist.
package func clockNanoseconds(_ clock: clockid_t) -> Int64 {
  var time = timespec()
  guard unsafe clock_gettime(clock, &time) == 0 else { return 0 }
  return Int64(time.tv_sec) &* Nanoseconds.perSecond &+ Int64(time.tv_nsec)
}
