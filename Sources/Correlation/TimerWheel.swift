import Flows

/// One timer a slot, in ticks of 10 ms up to about 40 s ahead. Setting, moving and firing are constant-time and allocate nothing.
struct TimerWheel: ~Copyable {
  static var tick: Int64 { 10 * Nanoseconds.perMillisecond }
  private static let slots = 4096

  /// A slot's neighbours in its bucket, plus one; and its bucket plus one, 0 for no timer.
  struct Link: BitwiseCopyable {
    var next: Int32
    var previous: Int32
    var position: Int32
  }

  private var heads: FixedArray<Int32>
  /// The last of each bucket, plus one: timers of one tick fire in the order in which they were set.
  private var tails: FixedArray<Int32>
  private var links: FixedArray<Link>
  private var currentTick: Int64
  private(set) var armed = 0

  init(capacity: Int, now: Instant) {
    heads = FixedArray(count: Self.slots)
    tails = FixedArray(count: Self.slots)
    links = FixedArray(count: capacity)
    currentTick = now.nanoseconds / Self.tick
  }

  /// The time to which the wheel was turned; while timers fire, the time for which the one in hand was set, to the tick.
  var time: Instant { Instant(nanoseconds: currentTick &* Self.tick) }

  /// Sets or moves the timer of `slot`. Times past fire on the next advance; times beyond the wheel fire early, at its end.
  mutating func set(_ slot: Int32, at time: Instant) {
    clear(slot)
    let due = min(max(time.nanoseconds / Self.tick + 1, currentTick + 1), currentTick + Int64(Self.slots) - 1)
    let bucket = Int(due & Int64(Self.slots - 1))
    let last = heads[bucket] == 0 ? 0 : tails[bucket]
    links[slot] = Link(next: 0, previous: last, position: Int32(bucket) + 1)
    if last != 0 { links[last - 1].next = slot + 1 } else { heads[bucket] = slot + 1 }
    tails[bucket] = slot + 1
    armed += 1
  }

  mutating func clear(_ slot: Int32) {
    let link = links[slot]
    guard link.position != 0 else { return }
    if link.previous != 0 { links[link.previous - 1].next = link.next } else { heads[Int(link.position) - 1] = link.next }
    if link.next != 0 { links[link.next - 1].previous = link.previous } else { tails[Int(link.position) - 1] = link.previous }
    links[slot].position = 0
    armed -= 1
  }

  /// A slot whose timer is due in the tick to which the wheel was turned, its timer cleared; -1 when there is none.
  mutating func popCurrent() -> Int32 {
    let head = heads[Int(currentTick & Int64(Self.slots - 1))]
    guard head != 0 else { return -1 }
    clear(head - 1)
    return head - 1
  }

  /// Turns the wheel by a tick, if `now` is that far. What was due before must have been popped.
  ///
  /// - Parameter mayJump: nothing outside the wheel waits for its time: with no timer set it goes to `now` at once.
  /// - Returns: false where there is nothing left to turn.
  mutating func turn(towards now: Instant, mayJump: Bool) -> Bool {
    let target = now.nanoseconds / Self.tick
    guard currentTick < target else { return false }
    currentTick = armed == 0 && mayJump ? target : currentTick + 1
    return true
  }

  /// The slot that fires next and the one that fires two after it, as far as they are due in the same tick; -1 where there is none.
  func upcoming() -> (next: Int32, third: Int32) {
    let next = heads[Int(currentTick & Int64(Self.slots - 1))] &- 1
    guard next >= 0 else { return (-1, -1) }
    let second = links[next].next &- 1
    return (next, second < 0 ? -1 : links[second].next &- 1)
  }

  /// When something is due that is brought up in the first tick that begins after `time`.
  static func due(after time: Instant) -> Instant { Instant(nanoseconds: (time.nanoseconds / tick + 1) &* tick) }

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
