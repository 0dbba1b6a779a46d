internal import Glibc

/// Why something could not be set up: what was tried, what the kernel answered and what would help, in one line.
package struct SetupError: Error, CustomStringConvertible {
  package let operation: String
  /// `errno`, or 0 where the cause is no system call's.
  package let code: Int32
  package let cause: String
  package let remedy: String

  package init(_ operation: String, code: Int32 = 0, cause: String, remedy: String) {
    self.operation = operation
    self.code = code
    self.cause = cause
    // Whatever was opened, no other remedy helps.
    self.remedy = code == EMFILE || code == ENFILE ? "raise the limit of open files (ulimit -n; LimitNOFILE= in systemd)" : remedy
  }

  package var description: String { remedy.isEmpty ? "\(operation): \(cause)" : "\(operation): \(cause); \(remedy)" }
}
