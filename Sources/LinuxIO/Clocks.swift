import CLinux
package import Flows

/// The two clocks.
package enum Clocks {
  /// CLOCK_MONOTONIC.
  package static func monotonic() -> Instant { Instant(nanoseconds: clinux_clock_monotonic()) }
  /// CLOCK_REALTIME.
  package static func wall() -> WallTime { WallTime(nanoseconds: clinux_clock_realtime()) }
}

/// Puts the kernel's wall-clock stamps on the monotonic time line, sweep by sweep.
///
/// A stamp was taken a moment before the sweep, so it must fall between one second before the last sweep and now. When the wall clock is stepped
/// between stamp and sweep, the distance of the clocks from before the step still holds for the stamps from before it.
package struct WallToMonotonic: Sendable {
  /// The clocks are taken for stepped where their distance moves by more than this between two sweeps; slewing (at most 500 ppm) stays far below.
  private static var stepThreshold: Int64 { 50 * Nanoseconds.perMillisecond }
  /// Two readings of two clocks are not one: a stamp may seem this much newer than now.
  private static var tolerance: Int64 { Nanoseconds.perMillisecond }
  /// How long before the last sweep a stamp may lie, and for how long the distance from before a step is still tried.
  private static var reach: Int64 { Nanoseconds.perSecond }

  /// The readings of this sweep.
  package private(set) var now: Instant
  package private(set) var wallNow: WallTime
  /// By how much the distance of the clocks changed with this sweep: a stamp is this much older or younger than it seems.
  package private(set) var moved: Int64 = 0
  /// How often the wall clock was found stepped.
  package private(set) var steps: UInt64 = 0
  private var previousSweep: Instant
  /// CLOCK_REALTIME minus CLOCK_MONOTONIC: now, and before the last step.
  private var distance: Int64
  private var distanceBeforeStep: Int64
  private var stepSeen: Instant?

  package init(monotonic: Instant, wall: WallTime) {
    now = monotonic
    wallNow = wall
    previousSweep = monotonic
    distance = wall.nanoseconds &- monotonic.nanoseconds
    distanceBeforeStep = distance
  }

  /// Reads both clocks.
  package init() {
    let (monotonic, wall) = Self.readClocks()
    self.init(monotonic: monotonic, wall: wall)
  }

  /// Starts a sweep now.
  package mutating func sweep() {
    let (monotonic, wall) = Self.readClocks()
    sweep(monotonic: monotonic, wall: wall)
  }

  /// Starts a sweep at the given readings.
  package mutating func sweep(monotonic: Instant, wall: WallTime) {
    let current = wall.nanoseconds &- monotonic.nanoseconds
    moved = current &- distance
    if moved.magnitude > UInt64(Self.stepThreshold) {
      steps &+= 1
      distanceBeforeStep = distance
      stepSeen = monotonic
    } else if let seen = stepSeen, monotonic - seen > Self.reach {
      stepSeen = nil
    }
    distance = current
    previousSweep = now
    now = monotonic
    wallNow = wall
  }

  /// When a packet with this stamp was seen. Never after `now`, never more than a second before the last sweep.
  package func instant(of stamp: WallTime) -> Instant {
    let earliest = previousSweep.nanoseconds &- Self.reach
    var time = stamp.nanoseconds &- distance
    if stepSeen != nil {
      // Of the two readings of the stamp the later that is not in the future is right: the other is off by the whole step.
      let other = stamp.nanoseconds &- distanceBeforeStep
      let latest = now.nanoseconds &+ Self.tolerance
      if time > latest || (other <= latest && other > time) { time = other }
    }
    return Instant(nanoseconds: min(max(time, earliest), now.nanoseconds))
  }

  /// The wall clock between two readings of the monotonic one, which is taken half-way.
  private static func readClocks() -> (Instant, WallTime) {
    narrowest { (Clocks.monotonic(), Clocks.wall(), Clocks.monotonic()) }
  }

  /// A thread that is put to sleep between its readings shifts every stamp of the sweep by up to half of its sleep, and an answer may seem older than
  /// its query. So of at most eight readings the narrowest is taken, and the first that is narrow enough.
  static func narrowest(_ read: () -> (before: Instant, wall: WallTime, after: Instant)) -> (Instant, WallTime) {
    var best = read()
    for _ in 1..<8 where best.after - best.before > narrowEnough {
      let next = read()
      if next.after - next.before < best.after - best.before { best = next }
    }
    return (best.before + (best.after - best.before) / 2, best.wall)
  }
  private static var narrowEnough: Int64 { 5 * Nanoseconds.perMicrosecond }
}
