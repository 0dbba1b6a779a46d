import Glibc

/// A compiled POSIX extended regular expression for interface names. It matches anywhere in a name; `^` and `$` anchor it.
@safe package final class InterfacePattern {
  package struct Invalid: Error, Equatable, Sendable {
    package var problem: String
  }

  private static let maximumBytes = 1024
  private var compiled = unsafe regex_t()

  package init(_ text: String) throws(Invalid) {
    guard !text.isEmpty else { throw Invalid(problem: "it is empty") }
    guard text.utf8.count <= Self.maximumBytes else { throw Invalid(problem: "longer than \(Self.maximumBytes) bytes") }
    guard !text.utf8.contains(0) else { throw Invalid(problem: "it holds a NUL byte") }
    let result = unsafe regcomp(&compiled, text, REG_EXTENDED | REG_NOSUB)
    guard result == 0 else {
      var buffer = [CChar](repeating: 0, count: 128)
      _ = unsafe regerror(result, &compiled, &buffer, buffer.count)
      // What failed to compile holds nothing; an empty expression keeps deinit's release valid.
      unsafe compiled = regex_t()
      throw Invalid(problem: String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self))
    }
  }

  deinit { unsafe regfree(&compiled) }

  package func matches(_ name: String) -> Bool {
    unsafe regexec(&compiled, name, 0, nil, 0) == 0
  }
}

/// Which interfaces packets are taken from: those that `capture` matches (all, without one), less those that `exclude` matches.
package struct InterfaceSelection {
  private let capture: InterfacePattern?
  private let exclude: InterfacePattern?

  package init(_ configuration: Configuration) throws(InterfacePattern.Invalid) {
    capture = if let text = configuration.captureInterfaces { try InterfacePattern(text) } else { nil }
    exclude = if let text = configuration.captureExclude { try InterfacePattern(text) } else { nil }
  }

  package func contains(_ name: String) -> Bool {
    (capture?.matches(name) ?? true) && !(exclude?.matches(name) ?? false)
  }
}
