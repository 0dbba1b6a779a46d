import Flows

/// What is done while an event is still being written into the event ring: whoever writes it was stopped (an interrupt, a task without CPU, a virtual
/// processor that its host took away), and all later events wait behind it. Their packets would be looked at before them.
struct EventHold {
  /// Longer than packets wait for events.
  static var longest: Int64 { 50 * Nanoseconds.perMillisecond }

  /// Since when an event has been held up; nil if none is.
  private(set) var since: Instant?
  private(set) var isOverdue = false
  private var lastHorizon: WallTime?

  /// Packets are held back, and nothing may be judged that they would change.
  var holdsPackets: Bool { since != nil && !isOverdue }

  /// - Parameter horizon: up to which packets would be looked at in this sweep.
  /// - Returns: up to which they may be.
  mutating func admit(_ horizon: WallTime, at now: Instant, isHeldUp: Bool) -> WallTime {
    guard isHeldUp else {
      since = nil
      isOverdue = false
      lastHorizon = horizon
      return horizon
    }
    let start = since ?? now
    since = start
    isOverdue = now - start > Self.longest
    return isOverdue ? horizon : lastHorizon ?? horizon
  }
}
