import Flows

/// What the insertion counters say of the second around a lost transmission.
enum CounterFinding {
  /// They did not move at all.
  case quiet
  /// They moved by exactly the number of transmissions that need them, in step with them.
  case exact
  /// They moved for others too.
  case shared
  /// They moved less than the candidates would need: some of them died otherwise.
  case insufficient
  /// Not read on both sides of the time asked for, or the source was down.
  case unread
}

/// The last readings of the counters, and the transmissions that are candidates for a failed insertion, both in order of time.
///
/// A finding is exact if the number of foreign failures (the residual: counter minus candidates) is one and the same at the start of the second
/// around, just before the transmission, just after it, and at the end. Only settled readings tell it: those with no candidate so near before
/// them that it may or may not be counted yet. A failure that is nobody's raises the residual for good; a candidate that did not fail to insert
/// lowers it for good; an insertion that was held up lowers it for a moment, so of readings that lie close together the highest counts.
struct CounterHistory: ~Copyable {
  /// From a packet's ingress copy to its insertion on the same CPU, with a few thousand rules between. Longer delays cost certainty, not truth.
  static var lag: Int64 { 300 * Nanoseconds.perMicrosecond }
  /// Settled readings within this time count as one moment.
  static var moment: Int64 { 25 * Nanoseconds.perMillisecond }
  /// Within this time an insertion that was held up is counted, even where virtual processors have to wait for a real one.
  static var delay: Int64 { 100 * Nanoseconds.perMillisecond }
  /// Readings further apart than this (the period of an idle node, and a sweep or two) prove no exact count.
  static var longestGap: Int64 { 3 * Nanoseconds.perSecond / 2 }
  /// Half of "the second around".
  static var reach: Int64 { Nanoseconds.perSecond / 2 }

  struct Sample: BitwiseCopyable {
    var before: Instant
    var after: Instant
    var insertFailed: UInt64
    var drop: UInt64
    var chainTooLong: UInt64
    var earlyDrop: UInt64
    var entriesNearLimit: Bool
  }
  struct Candidate: BitwiseCopyable {
    var time: Instant
    /// 1 while it counts, 0 after it was withdrawn.
    var weight: Int32
  }

  private static let sampleCount = 2048
  private static let candidateCount = 65536
  private var samples: FixedArray<Sample>
  private var newest: Int = 0
  private var kept: Int = 0
  private var candidates: FixedArray<Candidate>
  private var candidateNext: Int = 0
  /// Grows with every reading and candidate, so that a cached answer is known to be stale.
  private var revision: UInt64 = 0
  private var cached = Result()
  private var cachedTick: Int64 = -1
  private var cachedRevision: UInt64 = 0
  private var candidateKept: Int = 0
  /// insert_failed counts resolved clashes too (no clash_resolve attribute): only drop is asked then.
  private(set) var features: ConntrackFeatures = []
  private(set) var hasSample = false
  private(set) var last = ConntrackCounters()
  private(set) var lastReadAt = Instant.zero
  /// The size of the table is read less often than the counters: what it was last.
  private var isNearLimit = false

  init() {
    samples = FixedArray(count: Self.sampleCount)
    candidates = FixedArray(count: Self.candidateCount)
  }

  mutating func add(_ sample: CounterSample) {
    if sample.entriesLimit > 0 { isNearLimit = UInt64(sample.entries) * 100 >= UInt64(sample.entriesLimit) * 98 }
    newest = hasSample ? (newest + 1) % Self.sampleCount : 0
    samples[newest] = Sample(
      before: sample.before, after: sample.after, insertFailed: sample.counters.insertFailed, drop: sample.counters.drop,
      chainTooLong: sample.counters.chainTooLong, earlyDrop: sample.counters.earlyDrop,
      entriesNearLimit: isNearLimit)
    kept = min(kept + 1, Self.sampleCount)
    revision &+= 1
    features = sample.features
    last = sample.counters
    lastReadAt = sample.after
    hasSample = true
  }

  /// Enters a candidate; its number, for `withdraw`. Times come in order, but for microseconds.
  mutating func addCandidate(at time: Instant) -> Int32 {
    let index = candidateNext
    candidates[index] = Candidate(time: time, weight: 1)
    candidateNext = (candidateNext + 1) % Self.candidateCount
    candidateKept = min(candidateKept + 1, Self.candidateCount)
    revision &+= 1
    return Int32(index)
  }

  /// Takes a candidate back: it did pass after all. `time` guards against a number that was given again.
  mutating func withdraw(_ candidate: Int32, at time: Instant) {
    if candidates[candidate].time == time {
      candidates[candidate].weight = 0
      revision &+= 1
    }
  }

  /// What the readings around a time say.
  struct Result {
    var finding: CounterFinding = .unread
    /// How far the counters moved in the window.
    var insertFailed: UInt64 = 0
    var drop: UInt64 = 0
    var chainTooLongMoved = false
    /// drop moved on its own or early_drop moved while the table was nearly full.
    var tableWasFull = false
    var earlyDropMoved = false
  }

  /// Judges the readings in the second around `time`. Times within one tick of 10 ms share one answer.
  mutating func finding(around time: Instant) -> Result {
    let tick = time.nanoseconds / TimerWheel.tick
    if cachedTick == tick && cachedRevision == revision { return cached }
    cached = evaluate(around: Instant(nanoseconds: tick * TimerWheel.tick))
    cachedTick = tick
    cachedRevision = revision
    return cached
  }

  private func sample(_ age: Int) -> Sample { samples[(newest - age + Self.sampleCount) % Self.sampleCount] }

  /// The window: from the last reading before time - reach (or the oldest before time) to the first after time + reach (or the newest after).
  /// `time` is the start of a tick, so what happened in it lies up to one tick later.
  private func window(around time: Instant) -> (first: Int, last: Int)? {
    var first = -1
    var last = -1
    var age = 0
    while age < kept {
      let reading = sample(age)
      if reading.before > time + (TimerWheel.tick + Self.lag) && (reading.before >= time + Self.reach || last < 0) { last = age }
      if reading.after <= time {
        first = age
        if reading.after <= time + (-Self.reach) { break }
      }
      age += 1
    }
    return first > last && last >= 0 ? (first, last) : nil
  }

  private func evaluate(around time: Instant) -> Result {
    var result = Result()
    guard let (firstAge, lastAge) = window(around: time) else { return result }
    let first = sample(firstAge)
    let end = sample(lastAge)
    let usesInsertFailed = features.contains(.clashResolve)
    result.insertFailed = end.insertFailed &- first.insertFailed
    result.drop = end.drop &- first.drop
    result.chainTooLongMoved = end.chainTooLong != first.chainTooLong
    result.tableWasFull = (isNearLimit(firstAge, lastAge) && result.drop > result.insertFailed) || end.earlyDrop != first.earlyDrop
    result.earlyDropMoved = end.earlyDrop != first.earlyDrop
    let moved = usesInsertFailed ? result.insertFailed : result.drop
    if moved == 0 {
      result.finding = .quiet
      return result
    }
    // Candidates from a little before the first reading, oldest first.
    let origin = first.before + (-4 * Self.lag)
    var age = 0
    while age < candidateKept, candidate(age + 1).time >= origin { age += 1 }
    var certainAge = age
    var possibleAge = age
    var certain: Int64 = 0
    var possible: Int64 = 0
    var possibleAtFirst: Int64 = 0
    var trail = ResidualTrail()
    var dropTrail = ResidualTrail()
    var hasGap = false
    var previous = first
    var reading = firstAge
    while reading >= lastAge {
      let at = sample(reading)
      if at.before - previous.after > Self.longestGap { hasGap = true }
      previous = at
      while certainAge > 0, candidate(certainAge).time + Self.lag <= at.before {
        certain += Int64(candidate(certainAge).weight)
        certainAge -= 1
      }
      while possibleAge > 0, candidate(possibleAge).time <= at.after {
        possible += Int64(candidate(possibleAge).weight)
        possibleAge -= 1
      }
      if certain == possible {
        let dropped = Int64(bitPattern: at.drop &- first.drop)
        let failed = usesInsertFailed ? Int64(bitPattern: at.insertFailed &- first.insertFailed) : dropped
        trail.add(failed &- certain, at: at.after, isBefore: at.after <= time)
        dropTrail.add(dropped &- certain, at: at.after, isBefore: at.after <= time)
      }
      if reading == firstAge { possibleAtFirst = possible }
      reading -= 1
    }
    if trail.isConstant && dropTrail.isConstant && !hasGap && !result.chainTooLongMoved && !result.tableWasFull {
      result.finding = .exact
    } else if trail.fell ?? (moved < UInt64(max(0, certain - possibleAtFirst))) {
      result.finding = .insufficient
    } else {
      result.finding = .shared
    }
    return result
  }

  private func isNearLimit(_ firstAge: Int, _ lastAge: Int) -> Bool {
    var age = lastAge
    while age <= firstAge {
      if sample(age).entriesNearLimit { return true }
      age += 1
    }
    return false
  }

  private func candidate(_ age: Int) -> Candidate {
    candidates[(candidateNext - age + Self.candidateCount) % Self.candidateCount]
  }
}

/// The residual at the start of a window, just before and just after the time asked for, and at the end.
private struct ResidualTrail {
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
