import Glibc

/// A file descriptor, closed when its owner goes.
struct Descriptor: ~Copyable {
  let number: Int32

  /// Takes over what a shim function returned: a descriptor, or a negated `errno`.
  init(_ result: Int32, _ operation: String, remedy: String) throws(SetupError) {
    guard result >= 0 else { throw SetupError(operation, systemCall: result, remedy: remedy) }
    number = result
  }

  deinit { close(number) }
}

extension SetupError {
  /// - Parameter systemCall: a negated `errno`, as the shims return it.
  init(_ operation: String, systemCall: Int32, remedy: String) {
    let code = 0 &- systemCall
    var text = [CChar](repeating: 0, count: 128)
    _ = unsafe strerror_r(code, &text, text.count)
    let bytes = text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
    self.init(operation, code: code, cause: bytes.isEmpty ? "errno \(code)" : String(decoding: bytes, as: UTF8.self), remedy: remedy)
  }

  static func check(_ result: Int32, _ operation: String, remedy: String) throws(SetupError) {
    if result < 0 { throw SetupError(operation, systemCall: result, remedy: remedy) }
  }
}
