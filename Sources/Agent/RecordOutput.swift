import Flows
import Glibc
import Reporting

/// Where record lines go: a file or standard output. Never waits for a slow reader: what finds no room in the bounded buffer is counted.
///
/// A full disk keeps lines waiting in that buffer; a reader that is gone loses them. Either way no line is ever glued to half of another.
final class RecordOutput {
  /// Bytes that wait for a slow reader at most.
  private static let bufferLimit = 4 << 20
  private static let flushSize = 256 << 10
  /// A pipe that polls writable takes this much at once (PIPE_BUF in pipe(7)).
  private static let atomicWrite = 4096
  private static let newline = UInt8(ascii: "\n")

  private let output: IncidentsOutput
  private var descriptor: Int32
  private var isRegularFile: Bool
  private var buffer: [UInt8] = []
  private var written = 0
  /// What was written last did not end its line.
  private var endsInsideLine = false
  /// The rest of such a line was dropped: what comes next begins a new one.
  private var owesNewline = false
  private(set) var droppedLines: UInt64 = 0
  /// Why lines wait or are lost, from the failure on until a write succeeds; nil while all is well.
  private(set) var problem: String?

  /// Opens the file for appending, or takes standard output.
  init(_ output: IncidentsOutput) throws(OutputError) {
    self.output = output
    descriptor = try Self.open(output)
    isRegularFile = Self.isRegularFile(descriptor)
    buffer.reserveCapacity(64 << 10)
  }

  deinit { if case .file = output { _ = Glibc.close(descriptor) } }

  /// Opens the file by its name again, for a name that a log rotation has taken away. The old one is kept on failure. Standard output stays as it is.
  func reopen() throws(OutputError) {
    guard case .file = output else { return }
    flush()
    let opened = try Self.open(output)
    _ = Glibc.close(descriptor)
    descriptor = opened
    isRegularFile = Self.isRegularFile(opened)
    // The beginning of that line went where the rest cannot follow.
    if endsInsideLine { dropRestOfLine() }
    owesNewline = false
  }

  /// Without waiting for a FIFO's reader: one that has none is refused (ENXIO).
  private static func open(_ output: IncidentsOutput) throws(OutputError) -> Int32 {
    guard case .file(let path) = output else { return STDOUT_FILENO }
    let descriptor = unsafe Glibc.open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0o640)
    if descriptor < 0 {
      let cause = errno == ENXIO ? "nobody reads it" : errorText(errno)
      throw OutputError(problem: "cannot open \(quoted(path)) for records: \(cause); choose another file with --incidents.output")
    }
    return descriptor
  }

  private static func isRegularFile(_ descriptor: Int32) -> Bool {
    var status = stat()
    return unsafe (fstat(descriptor, &status) == 0) && (status.st_mode & S_IFMT == S_IFREG)
  }

  /// Appends one line. What has gathered is written from time to time, so that a storm of lines does not wait for its end.
  ///
  /// - Returns: false if there was no room; nothing was kept then.
  func append(_ line: [UInt8]) -> Bool {
    if buffer.count - written >= Self.flushSize { flush() }
    guard buffer.count - written < Self.bufferLimit else {
      droppedLines &+= 1
      if problem == nil { problem = "nobody reads them" }
      return false
    }
    buffer += line
    return true
  }

  /// Writes what can be written without waiting; `wait` lends a slow reader up to that many milliseconds.
  func flush(wait: Int32 = 0) {
    while written < buffer.count {
      if !isRegularFile {
        var ready = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        let count = unsafe poll(&ready, 1, wait)
        if count < 0 && errno == EINTR { continue }
        guard count > 0 else { break }
      }
      let result = writeSome()
      if result > 0 {
        problem = nil
        continue
      }
      let code = result < 0 ? errno : ENOSPC
      if code == EINTR { continue }
      if code == EAGAIN { break }
      problem = errorText(code)
      // Room may come back, and the line that was begun is then ended. A reader that is gone does not.
      if code == ENOSPC || code == EDQUOT { break }
      dropAll()
    }
    compact()
  }

  /// One write(2); its result.
  private func writeSome() -> Int {
    if owesNewline {
      var newline = Self.newline
      let result = unsafe write(descriptor, &newline, 1)
      if result > 0 { owesNewline = false }
      return result
    }
    let size = isRegularFile ? buffer.count - written : min(Self.atomicWrite, buffer.count - written)
    let result = unsafe buffer.withUnsafeBytes { bytes in
      guard let base = bytes.baseAddress else { return 0 }
      return unsafe write(descriptor, base + written, size)
    }
    if result > 0 {
      written += result
      endsInsideLine = buffer[written - 1] != Self.newline
    }
    return result
  }

  /// At the end: waits a little for a slow reader, and counts what is lost with the process.
  func finish() {
    flush(wait: 500)
    if written < buffer.count { dropAll() }
  }

  private func dropAll() {
    droppedLines &+= UInt64(buffer[written...].reduce(0) { $0 + ($1 == Self.newline ? 1 : 0) })
    buffer.removeAll(keepingCapacity: true)
    written = 0
    owesNewline = owesNewline || endsInsideLine
    endsInsideLine = false
  }

  private func dropRestOfLine() {
    let end = buffer[written...].firstIndex(of: Self.newline)
    written = end.map { $0 + 1 } ?? buffer.count
    droppedLines &+= 1
    endsInsideLine = false
    compact()
  }

  private func compact() {
    if written == buffer.count {
      buffer.removeAll(keepingCapacity: true)
      written = 0
    } else if written > Self.bufferLimit / 4 {
      buffer.removeFirst(written)
      written = 0
    }
  }
}

struct OutputError: Error {
  var problem: String
}
