import Flows
import Glibc
import Reporting

/// Where record lines go: a file or standard output. Never waits for a slow reader: what finds no room in the bounded buffer is counted.
final class RecordOutput {
  /// Bytes that wait for a slow reader at most.
  private static let bufferLimit = 4 << 20
  private static let flushSize = 256 << 10
  /// A pipe that polls writable takes this much at once (PIPE_BUF in pipe(7)).
  private static let atomicWrite = 4096

  private let descriptor: Int32
  private let ownsDescriptor: Bool
  private let isRegularFile: Bool
  private var buffer: [UInt8] = []
  private var written = 0
  private(set) var droppedLines: UInt64 = 0

  /// Opens the file for appending, or takes standard output.
  init(_ output: IncidentsOutput) throws(OutputError) {
    switch output {
    case .standardOutput:
      descriptor = STDOUT_FILENO
      ownsDescriptor = false
    case .file(let path):
      descriptor = unsafe Glibc.open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o640)
      ownsDescriptor = true
      guard descriptor >= 0 else { throw OutputError(problem: "cannot open \(quoted(path)) for records: \(errorText(errno))") }
    }
    var status = stat()
    isRegularFile = unsafe (fstat(descriptor, &status) == 0) && (status.st_mode & S_IFMT == S_IFREG)
    buffer.reserveCapacity(64 << 10)
  }

  deinit { if ownsDescriptor { _ = Glibc.close(descriptor) } }

  /// Appends one line. What has gathered is written from time to time, so that a storm of lines does not wait for its end.
  ///
  /// - Returns: false if a slow reader left no room; nothing was kept then.
  func append(_ line: [UInt8]) -> Bool {
    if buffer.count - written >= Self.flushSize { flush() }
    guard buffer.count - written < Self.bufferLimit else {
      droppedLines &+= 1
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
      let size = isRegularFile ? buffer.count - written : min(Self.atomicWrite, buffer.count - written)
      let result = unsafe buffer.withUnsafeBytes { bytes in
        guard let base = bytes.baseAddress else { return 0 }
        return unsafe write(descriptor, base + written, size)
      }
      if result < 0 && errno == EINTR { continue }
      if result <= 0 {
        // Nobody reads any more, or the disk is full: these lines are lost, and counted as such.
        droppedLines &+= UInt64(buffer[written...].reduce(0) { $0 + ($1 == UInt8(ascii: "\n") ? 1 : 0) })
        written = buffer.count
        break
      }
      written += result
    }
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
