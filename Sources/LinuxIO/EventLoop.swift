import CLinux
package import Flows
import Glibc

/// Names a source of an `EventLoop`: a number from 0 to 60 of the caller's choice.
package struct EventToken: BitwiseCopyable, Hashable, Sendable {
  package let number: UInt32

  package static let maximum: UInt32 = 60

  package init(_ number: UInt32) {
    precondition(number <= Self.maximum, "an event token above 60")
    self.number = number
  }
}

/// The sources that are ready, and whether a sweep is due.
package struct EventSet: BitwiseCopyable, Equatable, Sendable {
  package private(set) var bits: UInt64

  static let gateBit: UInt64 = 1 << 61
  static let sweepBit: UInt64 = 1 << 62

  package init(bits: UInt64 = 0) { self.bits = bits }

  package func contains(_ token: EventToken) -> Bool { bits & (1 << UInt64(token.number)) != 0 }
  /// True if swept sources became readable a sweep's delay ago: drain them all now.
  package var isSweep: Bool { bits & Self.sweepBit != 0 }
  package var isEmpty: Bool { bits == 0 }

  fileprivate mutating func formUnion(_ other: UInt64) { bits |= other }
  fileprivate mutating func remove(_ other: UInt64) { bits &= ~other }
}

/// One epoll loop that joins wake-ups: what comes in within a sweep's delay is read in one go, and idle costs nothing.
///
/// Swept sources wait in an epoll set of their own, the gate, which is a one-shot source of the loop. The first to become readable fires the gate
/// and begins the sweep's delay; whatever else becomes readable until then wakes nobody. So a sweep costs two wake-ups, whatever its number of
/// sources and however much they received. The delay is the time that epoll_wait may take; only what is left of it after another source woke the
/// thread takes a timer, as that is no number of whole milliseconds. Not Sendable: it belongs to the thread that made it.
package struct EventLoop: ~Copyable {
  /// How a source is reported.
  package enum Delivery: Sendable {
    /// As soon as it is readable, and again until it is drained. For control: signals, requests.
    case immediate
    /// Each time it becomes readable, drained or not. For timers.
    case edge
    /// With the next sweep.
    case swept
  }

  private let epoll: Descriptor
  private let gate: Descriptor
  private let sweepTimer: Timer
  private let sweepDelay: Int64
  private var state = SweepState.armed
  private var sweepAgain = false
  private var isTimerArmed = false
  private var sweepDue = Instant.zero
  /// The set that `wait` returned for the sweep in hand was read then or later.
  package private(set) var sweepRead = Instant.zero
  /// How often the thread was woken; for the cost per sweep and for idle.
  package private(set) var wakeups: UInt64 = 0

  private enum SweepState {
    /// The gate waits for a source.
    case armed
    /// The delay runs.
    case timing
    /// The caller has a sweep in hand; the next wait arms again.
    case delivered
  }

  /// - Parameter sweepDelay: nanoseconds from the first readable source to the sweep.
  /// - Throws: `SetupError` when the process is out of descriptors.
  package init(sweepDelay: Int64 = 10 * Nanoseconds.perMillisecond) throws(SetupError) {
    let remedy = "raise the limit of open files"
    let epoll = try Descriptor(clinux_epoll_create(), "epoll_create1", remedy: remedy)
    let gate = try Descriptor(clinux_epoll_create(), "epoll_create1", remedy: remedy)
    let sweepTimer = try Timer()
    let gateToken = UInt32(EventSet.gateBit.trailingZeroBitCount)
    let sweepToken = UInt32(EventSet.sweepBit.trailingZeroBitCount)
    try SetupError.check(
      clinux_epoll_add(epoll.number, gate.number, gateToken, Int32(CLINUX_EPOLL_ONCE)), "epoll_ctl", remedy: remedy)
    try SetupError.check(
      clinux_epoll_add(epoll.number, sweepTimer.descriptor, sweepToken, Int32(CLINUX_EPOLL_EDGE)), "epoll_ctl", remedy: remedy)
    self.epoll = epoll
    self.gate = gate
    self.sweepTimer = sweepTimer
    self.sweepDelay = max(1, sweepDelay)
  }

  /// Watches a descriptor for input. The caller keeps it open until it is removed or the loop is gone.
  package func add(_ descriptor: Int32, as token: EventToken, _ delivery: Delivery) throws(SetupError) {
    let set = delivery == .swept ? gate.number : epoll.number
    let mode = delivery == .edge ? CLINUX_EPOLL_EDGE : CLINUX_EPOLL_LEVEL
    try SetupError.check(
      clinux_epoll_add(set, descriptor, token.number, Int32(mode)), "epoll_ctl", remedy: "raise fs.epoll.max_user_watches")
  }

  package func remove(_ descriptor: Int32, _ delivery: Delivery) {
    _ = clinux_epoll_remove(delivery == .swept ? gate.number : epoll.number, descriptor)
  }

  /// Asks for another sweep after the one in hand, also if no source is readable: something was held back.
  package mutating func requestSweep() { sweepAgain = true }

  /// Sleeps until a source is ready or a sweep is due. A sweep's set names the swept sources that were readable.
  ///
  /// - Parameter timeoutMilliseconds: -1 to wait for ever; the set is empty where the time ran out.
  package mutating func wait(timeoutMilliseconds: Int32 = -1) -> EventSet {
    var remaining: Int64?
    if sweepAgain, state != .timing {
      // Held back. Outside a sweep the gate stays armed and may fire once without effect.
      remaining = startSweep()
      sweepAgain = false
    } else if state == .delivered {
      arm()
    }
    while true {
      var timeout = timeoutMilliseconds
      var (isDue, endsDelay) = (false, false)
      if state == .timing, !isTimerArmed {
        let left = max(0, remaining ?? sweepDue - Clocks.monotonic())
        let whole = left / Nanoseconds.perMillisecond
        if whole * Nanoseconds.perMillisecond != left {
          sweepTimer.arm(at: sweepDue)
          isTimerArmed = true
        } else if timeout < 0 || whole <= Int64(timeout) {
          timeout = Int32(clamping: whole)
          (isDue, endsDelay) = (left == 0, true)
        }
      }
      remaining = nil
      var ready: UInt64 = 0
      let count = unsafe clinux_epoll_wait(epoll.number, timeout, &ready)
      // Interrupted: less is left of the delay.
      if count == 0 - EINTR { continue }
      precondition(count >= 0, "epoll_wait on a descriptor that is not an epoll set")
      wakeups &+= 1
      var result = EventSet(bits: ready)
      result.remove(EventSet.gateBit | EventSet.sweepBit)
      if ready & EventSet.gateBit != 0, state == .armed { remaining = startSweep() }
      let hasFired = isTimerArmed ? ready & EventSet.sweepBit != 0 : isDue || endsDelay && count == 0
      if state == .timing, hasFired {
        state = .delivered
        isTimerArmed = false
        sweepRead = Clocks.monotonic()
        result.formUnion(EventSet.sweepBit | readableInGate())
      }
      if !result.isEmpty || count == 0 { return result }
    }
  }

  /// - Returns: all of the delay.
  private mutating func startSweep() -> Int64 {
    sweepDue = Clocks.monotonic() + sweepDelay
    state = .timing
    return sweepDelay
  }

  private mutating func arm() {
    let token = UInt32(EventSet.gateBit.trailingZeroBitCount)
    let result = clinux_epoll_rearm(epoll.number, gate.number, token, Int32(CLINUX_EPOLL_ONCE))
    precondition(result == 0, "the gate left its epoll set")
    state = .armed
  }

  private mutating func readableInGate() -> UInt64 {
    var ready: UInt64 = 0
    // What could not be looked at is not known to be empty.
    if unsafe clinux_epoll_wait(gate.number, 0, &ready) < 0 { sweepRead = .zero }
    return ready
  }
}
