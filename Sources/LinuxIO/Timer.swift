import CLinux
package import Flows
import Glibc

/// A timer of the monotonic clock with a descriptor, for `.edge` delivery. One that fires once needs no read; a periodic one runs on only when its
/// expiries are taken (fs/timerfd.c restarts it in read).
package struct Timer: ~Copyable {
  private let owned: Descriptor

  package init() throws(SetupError) {
    owned = try Descriptor(clinux_timer_create(), "timerfd_create", remedy: "raise the limit of open files")
  }

  package var descriptor: Int32 { owned.number }

  /// Fires once, `nanoseconds` from now; anything below 1 is taken as 1.
  package func arm(after nanoseconds: Int64) { set(max(1, nanoseconds), 0, absolute: false) }

  /// Fires once at `instant`, at once if that is past.
  package func arm(at instant: Instant) { set(max(1, instant.nanoseconds), 0, absolute: true) }

  /// Fires every `nanoseconds`, the first time that long from now, as long as `takeExpiries` follows each time.
  package func arm(every nanoseconds: Int64) { set(max(1, nanoseconds), max(1, nanoseconds), absolute: false) }

  /// How often it fired since the last call.
  @discardableResult
  package func takeExpiries() -> UInt64 {
    var count: UInt64 = 0
    return unsafe read(owned.number, &count, 8) == 8 ? count : 0
  }

  package func disarm() { set(0, 0, absolute: false) }

  private func set(_ first: Int64, _ interval: Int64, absolute: Bool) {
    let result = clinux_timer_set(owned.number, first, interval, absolute ? 1 : 0)
    precondition(result == 0, "timerfd_settime refused a time")
  }
}
