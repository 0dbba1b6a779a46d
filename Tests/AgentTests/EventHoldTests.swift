import Flows
import Testing

@testable import Agent

@Suite struct EventHoldTests {
  private static func at(_ milliseconds: Int64) -> Instant { Instant(nanoseconds: 1_000_000_000 + milliseconds * 1_000_000) }
  private static func wall(_ milliseconds: Int64) -> WallTime { WallTime(nanoseconds: milliseconds * 1_000_000) }

  @Test func nothingIsHeldWithoutCause() {
    var hold = EventHold()
    for sweep in 0..<5 as Range<Int64> {
      #expect(hold.admit(Self.wall(sweep * 10), at: Self.at(sweep * 10), isHeldUp: false) == Self.wall(sweep * 10))
      #expect(!hold.holdsPackets && !hold.isOverdue && hold.since == nil)
    }
  }

  /// Packets stop where they were, go on when the event is there, and do not wait for ever.
  @Test func packetsWaitFiftyMilliseconds() {
    var hold = EventHold()
    _ = hold.admit(Self.wall(0), at: Self.at(0), isHeldUp: false)
    for sweep in 1...6 as ClosedRange<Int64> {
      #expect(hold.admit(Self.wall(sweep * 10), at: Self.at(sweep * 10), isHeldUp: true) == Self.wall(0))
      #expect(hold.holdsPackets && !hold.isOverdue && hold.since == Self.at(10))
    }
    #expect(hold.admit(Self.wall(70), at: Self.at(70), isHeldUp: true) == Self.wall(70))
    #expect(!hold.holdsPackets && hold.isOverdue && hold.since == Self.at(10))
    #expect(hold.admit(Self.wall(80), at: Self.at(80), isHeldUp: false) == Self.wall(80))
    #expect(!hold.holdsPackets && !hold.isOverdue && hold.since == nil)
    // The next one has a time of its own.
    #expect(hold.admit(Self.wall(90), at: Self.at(90), isHeldUp: true) == Self.wall(80))
    #expect(hold.holdsPackets && hold.since == Self.at(90))
  }
}
