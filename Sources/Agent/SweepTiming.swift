import Flows
import LinuxIO

/// What a sweep may put off, and what it need not look at. Nanoseconds.
enum SweepTiming {
  /// Frames stamped less than this before a sweep wait for the next, so that copies seen on two CPUs are put in order.
  static var reorderWindow: Int64 { 2 * Nanoseconds.perMillisecond }
  /// How finely the engine's deadlines are kept: a little longer than a sweep takes to come, so that none falls due just before it and costs a sweep of
  /// its own.
  static var deadlineGranularity: Int64 { 12 * Nanoseconds.perMillisecond }
  /// Frames of one sweep after which the next comes sooner than that. Where it does not, a sweep too many is taken.
  static let busyFrames = 64

  /// True if a source that the loop did not find readable has nothing that belongs before the packets of this sweep: what it got since is younger.
  ///
  /// Packets up to the reorder window before `clock.now` are looked at. Of the window, half may have passed since the loop looked and a quarter may be a
  /// step of the wall clock, by which a packet seems older than it is.
  ///
  /// - Parameters:
  ///   - looked: when the loop did, or before that.
  ///   - keepsYoung: the ring holds back what is younger than the reorder window.
  static func isCovered(_ ready: EventSet, _ looked: Instant, _ clock: WallToMonotonic, keepsYoung: Bool) -> Bool {
    ready.isSweep && keepsYoung && clock.now - looked < reorderWindow / 2 && clock.moved.magnitude < UInt64(reorderWindow / 4)
  }
}
