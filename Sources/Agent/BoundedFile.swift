import Glibc

/// Why a file could not be read: one line's worth of words.
package struct FileError: Error, Equatable, Sendable {
  package var problem: String
}

/// Reads small regular files whole.
package enum BoundedFile {
  /// Never blocks on a FIFO and never reads more than `limit` bytes: what is longer is refused.
  package static func read(_ path: String, limit: Int) throws(FileError) -> [UInt8] {
    guard !path.utf8.contains(0) else { throw FileError(problem: "the path holds a NUL byte") }
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw FileError(problem: "cannot open: \(errorText(errno))") }
    defer { close(descriptor) }
    var status = stat()
    guard unsafe fstat(descriptor, &status) == 0 else { throw FileError(problem: "cannot stat: \(errorText(errno))") }
    guard status.st_mode & S_IFMT == S_IFREG else { throw FileError(problem: "not a regular file") }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = unsafe Glibc.read(descriptor, &chunk, chunk.count)
      if count < 0 {
        if errno == EINTR { continue }
        throw FileError(problem: "cannot read: \(errorText(errno))")
      }
      if count == 0 { return bytes }
      guard bytes.count + count <= limit else { throw FileError(problem: "larger than \(limit) bytes") }
      bytes += chunk[..<count]
    }
  }
}

/// The C library's words for an error number.
package func errorText(_ number: Int32) -> String {
  var buffer = [CChar](repeating: 0, count: 128)
  guard unsafe strerror_r(number, &buffer, buffer.count) == 0 else { return "error \(number)" }
  let text = buffer.prefix { $0 != 0 }
  return String(decoding: text.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}

/// Writes all of `text` to a descriptor. False once the reader is gone or the device refuses.
@discardableResult
package func writeText(_ text: String, to descriptor: Int32) -> Bool {
  let bytes = Array(text.utf8)
  var offset = 0
  while offset < bytes.count {
    let count = unsafe bytes.withUnsafeBytes { unsafe write(descriptor, $0.baseAddress?.advanced(by: offset), $0.count - offset) }
    if count < 0 && errno == EINTR { continue }
    if count <= 0 { return false }
    offset += count
  }
  return true
}
