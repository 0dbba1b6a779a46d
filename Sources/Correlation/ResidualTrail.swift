import Flows

/// Transmissions that a counter must have counted if they died of what it counts, in order of time.
struct CandidateList: ~Copyable {
  struct Candidate: BitwiseCopyable {
    var time: Instant
    /// 1 while it counts, 0 after it was withdrawn.
    var weight: Int32
  }

  private var items: FixedArray<Candidate>
  private let capacity: Int
  private var next = 0
  private(set) var kept = 0

  init(capacity: Int) {
    items = FixedArray(count: capacity)
    self.capacity = capacity
  }

  /// By age: 1 is the newest.
  subscript(age: Int) -> Candidate { items[(next - age + capacity) % capacity] }

  mutating func add(at time: Instant) -> Int32 {
    let index = next
    items[index] = Candidate(time: time, weight: 1)
    next = (next + 1) % capacity
    kept = min(kept + 1, capacity)
    return Int32(index)
  }

  mutating func withdraw(_ number: Int32, at time: Instant) {
    if items[Int(number)].time == time { items[Int(number)].weight = 0 }
  }
}

/// The residual at the start of a window, just before and just after the time asked for, and at the end.
struct ResidualTrail {
  private struct Moment {
    var since = Instant.zero
    var value = Int64.min
    var isSet: Bool { value != .min }
    /// Takes a later reading in: the highest of those that lie within `length` of the first.
    mutating func take(_ value: Int64, at time: Instant, within length: Int64 = CounterHistory.moment) {
      if !isSet { since = time }
      if time - since <= length { self.value = max(self.value, value) }
    }
  }

  private var start = Moment()
  private var after = Moment()
  private var settled = Moment()
  private var before = Int64.min
  private var end = Int64.min
  /// The last four settled readings.
  private var recent: InlineArray<4, (time: Instant, value: Int64)> = .init(repeating: (.zero, .min))
  private var count = 0

  mutating func add(_ value: Int64, at time: Instant, isBefore: Bool) {
    start.take(value, at: time)
    if !isBefore {
      after.take(value, at: time)
      settled.take(value, at: time, within: CounterHistory.delay)
    }
    recent[count & 3] = (time, value)
    count += 1
    var highest = value
    for index in 0..<4 where recent[index].value != .min && time - recent[index].time <= CounterHistory.moment {
      if isBefore || recent[index].time >= after.since { highest = max(highest, recent[index].value) }
    }
    if isBefore { before = highest }
    end = highest
  }

  var isConstant: Bool { start.isSet && after.isSet && start.value == before && before == after.value && after.value == end }

  /// True if the residual fell around the time and stayed down: a candidate there did not fail to insert. Nil where it was not settled on both
  /// sides.
  var fell: Bool? { before != .min && settled.isSet ? settled.value < before : nil }
}
