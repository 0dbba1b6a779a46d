import Glibc

/// Standard input, output and error as a program expects them: open.
package enum StandardDescriptors {
  /// Fills those that the caller closed, so that no socket of ours gets the number of a stream that lines are written to. To be called before anything
  /// is opened. What fills standard output and error cannot be written, so that lines are counted as lost and not taken for delivered.
  package static func fill() {
    for descriptor in 0...2 where fcntl(Int32(descriptor), F_GETFD) < 0 && errno == EBADF {
      // The lowest free number is the one that is missing.
      _ = unsafe open("/dev/null", descriptor == 0 ? O_WRONLY : O_RDONLY)
    }
  }
}
