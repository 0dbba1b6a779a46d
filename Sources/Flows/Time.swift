/// Nanoseconds of CLOCK_MONOTONIC. Tables age and verdicts are timed by it alone, so that a step of the wall clock changes nothing.
@usableFromInline
package struct Instant: BitwiseCopyable, Hashable, Comparable, Sendable {
  @usableFromInline package var nanoseconds: Int64

  @inlinable package init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

  @inlinable package static var zero: Instant { Instant(nanoseconds: 0) }
  @inlinable package static var distantFuture: Instant { Instant(nanoseconds: .max) }
  @inlinable package static func < (a: Instant, b: Instant) -> Bool { a.nanoseconds < b.nanoseconds }
  @inlinable package static func == (a: Instant, b: Instant) -> Bool { a.nanoseconds == b.nanoseconds }
  /// Nanoseconds from `b` to `a`.
  @inlinable package static func - (a: Instant, b: Instant) -> Int64 { a.nanoseconds &- b.nanoseconds }
  @inlinable package static func + (a: Instant, nanoseconds: Int64) -> Instant { Instant(nanoseconds: a.nanoseconds &+ nanoseconds) }
}

/// Nanoseconds of CLOCK_REALTIME since 1970-01-01T00:00:00Z, as the kernel stamps packets and entries. Only shown, never subtracted across a step.
@usableFromInline
package struct WallTime: BitwiseCopyable, Hashable, Sendable {
  @usableFromInline package var nanoseconds: Int64

  @inlinable package init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }
}

/// Durations in nanoseconds, for readable constants.
package enum Nanoseconds {
  @inlinable @inline(__always) package static var perMicrosecond: Int64 { 1_000 }
  @inlinable @inline(__always) package static var perMillisecond: Int64 { 1_000_000 }
  @inlinable @inline(__always) package static var perSecond: Int64 { 1_000_000_000 }
}
