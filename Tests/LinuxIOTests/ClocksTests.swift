import Flows
import Testing

@testable import LinuxIO

struct ClocksTests {
  private static let second = Nanoseconds.perSecond
  private static let epoch: Int64 = 1_790_000_000 * Nanoseconds.perSecond

  private func mapping(at monotonic: Int64, wall: Int64) -> WallToMonotonic {
    WallToMonotonic(monotonic: Instant(nanoseconds: monotonic), wall: WallTime(nanoseconds: wall))
  }

  @Test func keepsDistancesWithoutAStep() {
    var clocks = mapping(at: 100 * Self.second, wall: Self.epoch)
    clocks.sweep(monotonic: Instant(nanoseconds: 101 * Self.second), wall: WallTime(nanoseconds: Self.epoch + Self.second))
    #expect(clocks.instant(of: WallTime(nanoseconds: Self.epoch + Self.second - 7)).nanoseconds == 101 * Self.second - 7)
    #expect(clocks.instant(of: WallTime(nanoseconds: Self.epoch + 3)).nanoseconds == 100 * Self.second + 3)
    #expect(clocks.steps == 0)
  }

  @Test(arguments: [3600 * Nanoseconds.perSecond, -3600 * Nanoseconds.perSecond, Nanoseconds.perSecond / 2, -Nanoseconds.perSecond / 2])
  func aStepBetweenStampAndSweepMovesNothing(step: Int64) {
    let sweep = 20 * Nanoseconds.perMillisecond
    var clocks = mapping(at: 100 * Self.second, wall: Self.epoch)
    // Stamped 15 ms into the sweep, stepped at 16, stamped again at 17, swept at 20.
    let beforeStep = WallTime(nanoseconds: Self.epoch + 15 * Nanoseconds.perMillisecond)
    let afterStep = WallTime(nanoseconds: Self.epoch + 17 * Nanoseconds.perMillisecond + step)
    clocks.sweep(monotonic: Instant(nanoseconds: 100 * Self.second + sweep), wall: WallTime(nanoseconds: Self.epoch + sweep + step))
    #expect(clocks.steps == 1)
    #expect(clocks.instant(of: beforeStep).nanoseconds == 100 * Self.second + 15 * Nanoseconds.perMillisecond)
    #expect(clocks.instant(of: afterStep).nanoseconds == 100 * Self.second + 17 * Nanoseconds.perMillisecond)
    // Held over one more sweep, the stamp from before the step still means the same.
    clocks.sweep(monotonic: Instant(nanoseconds: 100 * Self.second + 2 * sweep), wall: WallTime(nanoseconds: Self.epoch + 2 * sweep + step))
    #expect(clocks.steps == 1)
    #expect(clocks.instant(of: beforeStep).nanoseconds == 100 * Self.second + 15 * Nanoseconds.perMillisecond)
  }

  @Test func neverLeavesTheSpanBetweenTheLastSweepAndNow() {
    var clocks = mapping(at: 100 * Self.second, wall: Self.epoch)
    clocks.sweep(monotonic: Instant(nanoseconds: 101 * Self.second), wall: WallTime(nanoseconds: Self.epoch + Self.second))
    for stamp in [Int64.min, -1, 0, Self.epoch - 3600 * Self.second] {
      #expect(clocks.instant(of: WallTime(nanoseconds: stamp)).nanoseconds >= 99 * Self.second)
      #expect(clocks.instant(of: WallTime(nanoseconds: stamp)).nanoseconds <= 101 * Self.second)
    }
    #expect(clocks.instant(of: WallTime(nanoseconds: Self.epoch)).nanoseconds == 100 * Self.second)
    #expect(clocks.instant(of: WallTime(nanoseconds: Self.epoch + 3600 * Self.second)).nanoseconds == 101 * Self.second)
    #expect(clocks.instant(of: WallTime(nanoseconds: .max)).nanoseconds <= 101 * Self.second)
  }

  @Test func readsTheClocks() {
    var clocks = WallToMonotonic()
    clocks.sweep()
    #expect(clocks.steps == 0)
    let now = Clocks.monotonic()
    #expect(clocks.now <= now)
    #expect(now - clocks.instant(of: clocks.wallNow) < Self.second)
  }

  /// Put to sleep for 4 ms after the first reading, and once more in the second pair, the clocks are read again.
  @Test func aSleepBetweenTheReadingsShiftsNoStamp() {
    var readings: [(before: Int64, wall: Int64, after: Int64)] = [
      (1_000_000, 5_000_000, 5_000_100), (6_000_000, 6_000_050, 9_000_000), (9_100_000, 9_100_040, 9_100_080),
    ]
    var count = 0
    let (monotonic, wall) = WallToMonotonic.narrowest {
      let next = readings.removeFirst()
      count += 1
      return (Instant(nanoseconds: next.before), WallTime(nanoseconds: Self.epoch + next.wall), Instant(nanoseconds: next.after))
    }
    #expect(count == 3)
    #expect(wall.nanoseconds - Self.epoch - monotonic.nanoseconds == 0)
  }

  /// A processor that never lets it read in one go: the best of eight.
  @Test func ofWideReadingsTheNarrowestIsTaken() {
    var widths: [Int64] = [900, 800, 300, 700, 600, 500, 400, 999, 1]
    let (monotonic, _) = WallToMonotonic.narrowest {
      let width = widths.removeFirst() * 1_000
      return (Instant(nanoseconds: 0), WallTime(nanoseconds: Self.epoch), Instant(nanoseconds: width))
    }
    #expect(widths == [1])
    #expect(monotonic.nanoseconds == 150_000)
  }
}
