import CLinux
import Glibc

/// What a signal asks of the agent.
package enum SignalRequest: Sendable {
  /// SIGTERM or SIGINT.
  case stop
  /// SIGHUP.
  case reload
}

/// SIGTERM, SIGINT and SIGHUP as a descriptor, and SIGPIPE off. Made before any thread is started, so that all of them block these signals.
package struct Signals: ~Copyable {
  private let owned: Descriptor

  package init() throws(SetupError) {
    let numbers = [SIGTERM, SIGINT, SIGHUP]
    owned = try Descriptor(
      unsafe clinux_signals_open(numbers, Int32(numbers.count)), "signalfd", remedy: "raise the limit of open files")
    // A reader of standard output that goes away is EPIPE on the write, not the end of the agent.
    _ = signal(SIGPIPE, SIG_IGN)
  }

  package var descriptor: Int32 { owned.number }

  /// Takes the next pending signal; nil where there is none.
  package func next() -> SignalRequest? {
    switch clinux_signals_next(owned.number) {
    case SIGTERM, SIGINT: .stop
    case SIGHUP: .reload
    default: nil
    }
  }
}
