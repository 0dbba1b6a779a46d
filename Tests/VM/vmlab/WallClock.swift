import Glibc
import TestSupport

/// The wall clock of this virtual machine: namespaces have none of their own.
struct WallClock {
  static let hour = 3600
  /// True where `guest.sh` says that the machine is there for the tests alone.
  static var isOurs: Bool { getenv("RACETRACK_GUEST") != nil }

  /// Seconds that it is ahead of where it was.
  private var ahead = 0

  /// Sets it on by so many seconds, `after` seconds from now.
  mutating func step(_ seconds: Int, after: Double) throws {
    usleep(UInt32(after * 1e6))
    var time = timespec()
    guard clock_gettime(CLOCK_REALTIME, &time) == 0 else { throw LabError("read the clock: errno \(errno)") }
    time.tv_sec += seconds
    guard clock_settime(CLOCK_REALTIME, &time) == 0 else { throw LabError("set the clock: errno \(errno)") }
    ahead += seconds
  }

  mutating func restore() {
    if ahead != 0 { try? step(-ahead, after: 0) }
  }
}
