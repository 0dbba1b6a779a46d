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
/// A finding is exact if one and the same number of foreign failures (the residual: counter minus candidates) fits every reading in the second
/// around. A candidate seen just before a reading may or may not be in it, so each reading bounds the residual from both sides; a failure that
/// is nobody's, or a candidate that did not fail to insert, moves the residual by one and the bounds no longer meet.
struct CounterHistory: ~Copyable {
  /// From a packet's ingress copy to its insertion: the tap and the insertion are microseconds apart on one CPU; scheduling may add to it.
  static let lag: Int64 = 2 * Nanoseconds.perMillisecond
  /// Readings further apart than this (the period of an idle node, and a sweep or two) prove no exact count.
  static let longestGap: Int64 = 3 * Nanoseconds.perSecond / 2
  /// Half of "the second around".
  static let reach: Int64 = Nanoseconds.perSecond / 2

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
    /// More failures than the candidates can account for.
    var hasForeignFailures = true
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
    let moved = usesInsertFailed ? result.insertFailed : result.drop
    if moved == 0 {
      result.finding = .quiet
      result.hasForeignFailures = false
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
    var bounds = Bounds()
    var dropBounds = Bounds()
    var isSettledBefore = false
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
      let dropped = Int64(bitPattern: at.drop &- first.drop)
      let failed = usesInsertFailed ? Int64(bitPattern: at.insertFailed &- first.insertFailed) : dropped
      bounds.narrow(failed &- possible, failed &- certain)
      dropBounds.narrow(dropped &- possible, dropped &- certain)
      if at.after <= time && bounds.isPoint { isSettledBefore = true }
      if reading == firstAge { possibleAtFirst = possible }
      reading -= 1
    }
    if isSettledBefore && bounds.isPoint && dropBounds.isPoint && !hasGap && !result.chainTooLongMoved && !result.tableWasFull {
      result.finding = .exact
      result.hasForeignFailures = false
    } else if moved < UInt64(max(0, certain - possibleAtFirst)) {
      result.finding = .insufficient
      result.hasForeignFailures = false
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

  private struct Bounds {
    var low = Int64.min
    var high = Int64.max
    var isPoint: Bool { low == high }
    mutating func narrow(_ low: Int64, _ high: Int64) {
      self.low = max(self.low, low)
      self.high = min(self.high, high)
    }
  }

  private func candidate(_ age: Int) -> Candidate {
    candidates[(candidateNext - age + Self.candidateCount) % Self.candidateCount]
  }
}
