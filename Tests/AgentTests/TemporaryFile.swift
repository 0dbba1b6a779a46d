import Glibc

/// A file that is gone with the object.
final class TemporaryFile {
  let path: String

  struct Failed: Error {}

  init(_ text: String) throws {
    var template = Array("/tmp/racetrack-test-XXXXXX".utf8CString)
    let descriptor = mkstemp(&template)
    guard descriptor >= 0 else { throw Failed() }
    close(descriptor)
    path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    try write(text)
  }

  deinit { unlink(path) }

  func write(_ text: String) throws { try write(bytes: Array(text.utf8)) }

  func write(bytes: [UInt8]) throws {
    let descriptor = open(path, O_WRONLY | O_TRUNC)
    guard descriptor >= 0 else { throw Failed() }
    defer { close(descriptor) }
    var offset = 0
    while offset < bytes.count {
      let count = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress?.advanced(by: offset), $0.count - offset) }
      guard count > 0 else { throw Failed() }
      offset += count
    }
  }
}
