import Flows

/// When each source did not see everything. 64 windows of a source are remembered; of more, the two oldest are joined over the gap between them:
/// what was asked in the gap counts as asked in the dark. What ended longer ago than a query can live is forgotten.
struct BlindWindows {
  private struct Span {
    var start: Instant
    var end: Instant
    var startWall: WallTime
    var lost: UInt64
  }

  private static let kept = 64
  private static var memory: Int64 { 900 * Nanoseconds.perSecond }
  private var spans: [[Span]] = Array(repeating: [], count: BlindSource.allCases.count)
  private var openSince: [Instant?] = Array(repeating: nil, count: BlindSource.allCases.count)
  /// Nanoseconds of closed windows by source, and of time in which any source was blind.
  private var total: [Int64] = Array(repeating: 0, count: BlindSource.allCases.count)
  private var anyTotal: Int64 = 0
  private var anySince: Instant?
  /// What lies before was counted.
  private var anyUntil = Instant(nanoseconds: .min)

  /// Opens a window, or widens the one that is open.
  mutating func begin(_ source: BlindSource, at start: Instant, wall: WallTime, lost: UInt64) {
    let index = Int(source.rawValue)
    let anyStart = max(start, anyUntil)
    anySince = anySince.map { min($0, anyStart) } ?? anyStart
    if let open = openSince[index] {
      let last = spans[index].count - 1
      spans[index][last].lost &+= lost
      if start < open {
        spans[index][last].start = start
        spans[index][last].startWall = wall
        openSince[index] = start
      }
      return
    }
    if spans[index].count == Self.kept {
      let oldest = spans[index].removeFirst()
      if start - oldest.end < Self.memory { spans[index][0].start = min(oldest.start, spans[index][0].start) }
    }
    spans[index].append(Span(start: start, end: .distantFuture, startWall: wall, lost: lost))
    openSince[index] = start
  }

  /// Closes the open window; what it was, or nil if none was open.
  mutating func end(_ source: BlindSource, at end: Instant, wall: WallTime) -> BlindWindow? {
    let index = Int(source.rawValue)
    guard let start = openSince[index], let last = spans[index].last else { return nil }
    spans[index][spans[index].count - 1].end = end
    openSince[index] = nil
    total[index] &+= max(0, end - start)
    if let any = anySince, !openSince.contains(where: { $0 != nil }) {
      anyTotal &+= max(0, end - any)
      anyUntil = max(anyUntil, end)
      anySince = nil
    }
    return BlindWindow(source: source, start: last.startWall, end: wall, lost: last.lost)
  }

  /// The latest eight windows of a source, the open one up to `now`; the oldest first.
  func latest(_ source: BlindSource, now: Instant, wall: WallTime) -> [BlindWindow] {
    spans[Int(source.rawValue)].suffix(8).map { span in
      let end = span.end == .distantFuture ? wall : WallTime(nanoseconds: wall.nanoseconds &- (now - span.end))
      return BlindWindow(source: source, start: span.startWall, end: end, lost: span.lost)
    }
  }

  func isOpen(_ source: BlindSource) -> Bool { openSince[Int(source.rawValue)] != nil }

  /// True if the source was blind at any time from `from` to `to`.
  func overlaps(_ source: BlindSource, from: Instant, to: Instant) -> Bool {
    let list = spans[Int(source.rawValue)]
    var index = list.count - 1
    while index >= 0 {
      if list[index].start <= to && list[index].end >= from { return true }
      index -= 1
    }
    return false
  }

  /// Blind nanoseconds up to `now`.
  func nanoseconds(_ source: BlindSource, now: Instant) -> Int64 {
    let index = Int(source.rawValue)
    return total[index] &+ (openSince[index].map { max(0, now - $0) } ?? 0)
  }

  func nanosecondsAny(now: Instant) -> Int64 {
    anyTotal &+ (anySince.map { max(0, now - $0) } ?? 0)
  }
}
