import Flows

/// One timer a slot, in ticks of 10 ms up to about 40 s ahead. Setting, moving and firing are constant-time and allocate nothing.
struct TimerWheel: ~Copyable {
  static let tick: Int64 = 10 * Nanoseconds.perMillisecond
  private static let slots = 4096

  private var heads: FixedArray<Int32>
  private var next: FixedArray<Int32>
  private var previous: FixedArray<Int32>
  /// Wheel position plus one, 0 for no timer.
  private var position: FixedArray<Int32>
  private var currentTick: Int64
  private(set) var armed = 0

  init(capacity: Int, now: Instant) {
    heads = FixedArray(count: Self.slots)
    next = FixedArray(count: capacity)
    previous = FixedArray(count: capacity)
    position = FixedArray(count: capacity)
    currentTick = now.nanoseconds / Self.tick
  }

  /// How far the wheel was turned; while timers fire, the time for which the one in hand was set, to the tick.
  var time: Instant { Instant(nanoseconds: currentTick &* Self.tick) }

  /// Sets or moves the timer of `slot`. Times past fire on the next advance; times beyond the wheel fire early, at its end.
  mutating func set(_ slot: Int32, at time: Instant) {
    clear(slot)
    let due = min(max(time.nanoseconds / Self.tick + 1, currentTick + 1), currentTick + Int64(Self.slots) - 1)
    let bucket = Int(due & Int64(Self.slots - 1))
    let old = heads[bucket]
    next[slot] = old
    previous[slot] = 0
    if old != 0 { previous[old - 1] = slot + 1 }
    heads[bucket] = slot + 1
    position[slot] = Int32(bucket) + 1
    armed += 1
  }

  mutating func clear(_ slot: Int32) {
    let at = position[slot]
    guard at != 0 else { return }
    let following = next[slot]
    let preceding = previous[slot]
    if preceding != 0 { next[preceding - 1] = following } else { heads[Int(at) - 1] = following }
    if following != 0 { previous[following - 1] = preceding }
    position[slot] = 0
    armed -= 1
  }

  /// A slot whose timer is due at `now`, its timer cleared; -1 when there is none. Call until it says so.
  mutating func popDue(_ now: Instant) -> Int32 {
    let target = now.nanoseconds / Self.tick
    while true {
      let head = heads[Int(currentTick & Int64(Self.slots - 1))]
      if head != 0 {
        clear(head - 1)
        return head - 1
      }
      guard currentTick < target else { return -1 }
      // Nothing armed anywhere: jump.
      currentTick = armed == 0 ? target : currentTick + 1
    }
  }

  /// When the next timer is due, to the tick; nil when none is set. Looks at most `slots` buckets ahead.
  func nextDue() -> Instant? {
    guard armed > 0 else { return nil }
    var ahead: Int64 = 0
    while ahead < Int64(Self.slots) {
      if heads[Int((currentTick + ahead) & Int64(Self.slots - 1))] != 0 {
        return Instant(nanoseconds: (currentTick + ahead) * Self.tick)
      }
      ahead += 1
    }
    return nil
  }
}
