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
  /// insert_failed moved and drop did not, on a kernel without clash_resolve: up to 4.6 an insertion failed, from 4.7 on a clash was resolved.
  case resolvedOrFailed
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
    var clashResolve: UInt64
    var invalid: UInt64
    var entriesNearLimit: Bool

    /// Drops that no failed insertion explains: a full table, no memory.
    var plainDrops: Int64 { Int64(bitPattern: drop &- insertFailed) }
  }

  private static let sampleCount = 2048
  private var samples: FixedArray<Sample>
  private var newest: Int = 0
  private var kept: Int = 0
  private var candidates = CandidateList(capacity: insertionCandidates)
  /// Transmissions that found no holder of their tuple while the table was nearly full.
  private var tableCandidates = CandidateList(capacity: 16384)
  /// Those of the candidates that the kernel probe told of.
  private var told = CandidateList(capacity: 16384)
  /// Candidates are known up to here: of a later reading nobody can say yet what it counted.
  var knownUntil = Instant.distantFuture
  /// Numbers from here on are those of `tableCandidates`.
  private static let insertionCandidates = 65536
  /// Grows with every reading and candidate, so that a cached answer is known to be stale.
  private var revision: UInt64 = 0
  private var cached = Result()
  private var cachedTick: Int64 = -1
  private var cachedRevision: UInt64 = 0
  /// insert_failed counts resolved clashes too (no clash_resolve attribute): only drop is asked then.
  private(set) var features: ConntrackFeatures = []
  private(set) var hasSample = false
  private(set) var last = ConntrackCounters()
  private(set) var lastReadAt = Instant.zero
  /// The size of the table is read less often than the counters: what it was last.
  private var isNearLimit = false
  /// When the table was last known to be nearly full.
  private var fullAt = Instant.zero

  init() { samples = FixedArray(count: Self.sampleCount) }

  mutating func add(_ sample: CounterSample) {
    if sample.entriesLimit > 0 { isNearLimit = UInt64(sample.entries) * 100 >= UInt64(sample.entriesLimit) * 98 }
    if isNearLimit || (hasSample && sample.counters.earlyDrop != last.earlyDrop) { fullAt = sample.after }
    newest = hasSample ? (newest + 1) % Self.sampleCount : 0
    samples[newest] = Sample(
      before: sample.before, after: sample.after, insertFailed: sample.counters.insertFailed, drop: sample.counters.drop,
      chainTooLong: sample.counters.chainTooLong, earlyDrop: sample.counters.earlyDrop,
      clashResolve: sample.counters.clashResolve, invalid: sample.counters.invalid, entriesNearLimit: isNearLimit)
    kept = min(kept + 1, Self.sampleCount)
    revision &+= 1
    features = sample.features
    last = sample.counters
    lastReadAt = sample.after
    hasSample = true
  }

  /// Enters a candidate for a failed insertion; its number, for `withdraw`. Times come in order, but for microseconds.
  mutating func addCandidate(at time: Instant) -> Int32 {
    revision &+= 1
    return candidates.add(at: time)
  }

  /// Enters a drop that the probe told of and whose transmission is known: a candidate that did fail to insert.
  mutating func addTold(at time: Instant) {
    _ = addCandidate(at: time)
    _ = told.add(at: time)
  }

  /// Enters one that may have found the table full, if the table was nearly full around that time; -1 if not.
  mutating func addTableCandidate(at time: Instant) -> Int32 {
    guard fullAt > .zero, fullAt >= time + (-Self.reach) else { return -1 }
    revision &+= 1
    return tableCandidates.add(at: time) + Int32(Self.insertionCandidates)
  }

  /// True of the numbers that `addCandidate` gives.
  func isCandidate(_ number: Int32) -> Bool { number >= 0 && !Self.isTableCandidate(number) }
  /// True of the numbers that `addTableCandidate` gives.
  static func isTableCandidate(_ number: Int32) -> Bool { number >= Int32(insertionCandidates) }

  /// Takes a candidate back: it did pass after all. `time` guards against a number that was given again.
  mutating func withdraw(_ candidate: Int32, at time: Instant) {
    if Self.isTableCandidate(candidate) {
      tableCandidates.withdraw(candidate - Int32(Self.insertionCandidates), at: time)
    } else {
      candidates.withdraw(candidate, at: time)
    }
    revision &+= 1
  }

  /// What the readings around a time say.
  struct Result {
    var finding: CounterFinding = .unread
    /// How far the counters moved in the window.
    var insertFailed: UInt64 = 0
    var drop: UInt64 = 0
    var chainTooLongMoved = false
    var clashResolve: UInt64 = 0
    var invalid: UInt64 = 0
    /// More was dropped than failed to insert while the table was nearly full, or threw entries out.
    var tableWasFull = false
    /// What was dropped beyond failed insertions is exactly the table's candidates.
    var tableIsExact = false
    var earlyDropMoved = false
    /// The probe told of every failed insertion and every drop in the window, and of nothing that was none.
    var isTold = false
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
      if reading.after >= knownUntil {
        age += 1
        continue
      }
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
    result.clashResolve = end.clashResolve &- first.clashResolve
    result.invalid = end.invalid &- first.invalid
    result.earlyDropMoved = end.earlyDrop != first.earlyDrop
    result.tableWasFull = result.drop > result.insertFailed && (result.earlyDropMoved || isNearLimit(firstAge, lastAge))
    if result.tableWasFull && usesInsertFailed {
      let plain = follow(tableCandidates, firstAge, lastAge, around: time) { $0.plainDrops &- $1.plainDrops }
      result.tableIsExact = plain.trail.isConstant && !plain.hasGap
    }
    let moved = usesInsertFailed ? result.insertFailed : result.drop
    if moved == 0 {
      result.finding = result.insertFailed == 0 ? .quiet : .resolvedOrFailed
      return result
    }
    if told.kept > 0 && !result.chainTooLongMoved {
      // What was dropped without a failed insertion (a full table, no memory) nobody tells of.
      let drops = follow(told, firstAge, lastAge, around: time) { Int64(bitPattern: $0.drop &- $1.drop) }
      let failures =
        usesInsertFailed ? follow(told, firstAge, lastAge, around: time) { Int64(bitPattern: $0.insertFailed &- $1.insertFailed) } : drops
      result.isTold = failures.trail.isConstant && drops.trail.isConstant && !failures.hasGap
    }
    let dropped = follow(candidates, firstAge, lastAge, around: time) { Int64(bitPattern: $0.drop &- $1.drop) }
    let failed =
      usesInsertFailed ? follow(candidates, firstAge, lastAge, around: time) { Int64(bitPattern: $0.insertFailed &- $1.insertFailed) } : dropped
    if failed.trail.isConstant && dropped.trail.isConstant && !failed.hasGap && !result.chainTooLongMoved && !result.tableWasFull {
      result.finding = .exact
    } else if failed.trail.fell ?? (moved < UInt64(max(0, failed.needed))) {
      result.finding = .insufficient
    } else {
      result.finding = .shared
    }
    return result
  }

  /// The residual of a counter along a window.
  private struct Course {
    var trail = ResidualTrail()
    /// Candidates that are certain by the last reading and were not possible by the first.
    var needed: Int64 = 0
    var hasGap = false
  }

  /// Follows a counter, counted from the first reading, less the candidates that it must have counted by then.
  private func follow(
    _ list: borrowing CandidateList, _ firstAge: Int, _ lastAge: Int, around time: Instant, _ count: (Sample, Sample) -> Int64
  ) -> Course {
    var course = Course()
    let first = sample(firstAge)
    // Candidates from a little before the first reading, oldest first.
    let origin = first.before + (-4 * Self.lag)
    var age = 0
    while age < list.kept, list[age + 1].time >= origin { age += 1 }
    var certainAge = age
    var possibleAge = age
    var certain: Int64 = 0
    var possible: Int64 = 0
    var possibleAtFirst: Int64 = 0
    var previous = first
    var reading = firstAge
    while reading >= lastAge {
      let at = sample(reading)
      if at.before - previous.after > Self.longestGap { course.hasGap = true }
      previous = at
      while certainAge > 0, list[certainAge].time + Self.lag <= at.before {
        certain += Int64(list[certainAge].weight)
        certainAge -= 1
      }
      while possibleAge > 0, list[possibleAge].time <= at.after {
        possible += Int64(list[possibleAge].weight)
        possibleAge -= 1
      }
      if certain == possible { course.trail.add(count(at, first) &- certain, at: at.after, isBefore: at.after <= time) }
      if reading == firstAge { possibleAtFirst = possible }
      reading -= 1
    }
    course.needed = certain - possibleAtFirst
    return course
  }

  private func isNearLimit(_ firstAge: Int, _ lastAge: Int) -> Bool {
    var age = lastAge
    while age <= firstAge {
      if sample(age).entriesNearLimit { return true }
      age += 1
    }
    return false
  }
}
