import Flows
import Testing

@testable import Correlation

@Suite struct BlindWindowTests {
  private let wall = WallTime(nanoseconds: 0)
  private func at(_ milliseconds: Int64) -> Instant { Instant(nanoseconds: 1000 * second + milliseconds * millisecond) }

  @Test func aSourceThatGoesBlindOftenIsNotForgotten() {
    var blind = BlindWindows()
    // Ten seconds of a ring that loses frames in every other sweep.
    for index in 0..<500 {
      blind.begin(.packets, at: at(Int64(index) * 20), wall: wall, lost: 1)
      _ = blind.end(.packets, at: at(Int64(index) * 20 + 10), wall: wall)
    }
    #expect(blind.overlaps(.packets, from: at(0), to: at(5)))
    #expect(blind.overlaps(.packets, from: at(2000), to: at(2040)))
    #expect(!blind.overlaps(.packets, from: at(10_001), to: at(20_000)))
    #expect(!blind.overlaps(.packets, from: at(-1000), to: at(-1)))
    #expect(blind.nanoseconds(.packets, now: at(20_000)) == 5 * second)
    #expect(blind.nanosecondsAny(now: at(20_000)) == 5 * second)
  }

  @Test func timeBlindToAnythingIsTheUnion() {
    var blind = BlindWindows()
    blind.begin(.packets, at: at(1000), wall: wall, lost: 0)
    // Begins earlier than the one that is open, and is told of later.
    blind.begin(.conntrack, at: at(500), wall: wall, lost: 0)
    _ = blind.end(.packets, at: at(1500), wall: wall)
    _ = blind.end(.conntrack, at: at(2000), wall: wall)
    #expect(blind.nanosecondsAny(now: at(9000)) == 1500 * millisecond)
    // Begins before the last one ended.
    blind.begin(.packets, at: at(1900), wall: wall, lost: 0)
    _ = blind.end(.packets, at: at(2500), wall: wall)
    #expect(blind.nanosecondsAny(now: at(9000)) == 2000 * millisecond)
  }

  @Test func aWindowThatIsWidenedBackwardsCoversTheEarlierTime() {
    var blind = BlindWindows()
    blind.begin(.packets, at: at(1000), wall: wall, lost: 1)
    blind.begin(.packets, at: at(900), wall: wall, lost: 2)
    #expect(blind.overlaps(.packets, from: at(910), to: at(920)))
    let window = blind.end(.packets, at: at(1100), wall: wall)
    #expect(window?.lost == 3)
    #expect(blind.nanoseconds(.packets, now: at(2000)) == 200 * millisecond)
    #expect(blind.end(.packets, at: at(1200), wall: wall) == nil)
  }

  @Test func aTableThatFillsIsKnownToTheVerdictsOfTheSameMoment() throws {
    let scenario = Scenario { $0.entries = 64 }
    scenario.warmUp()
    let winner = Ask(scenario, port: 40000, to: scenario.vip, id: 7)
    let loser = Ask(scenario, port: 40000, to: scenario.secondVIP, id: 7)
    winner.entry()
    winner.asked()
    loser.asked()
    winner.sent()
    scenario.counters.insertFailed += 1
    scenario.counters.drop += 1
    winner.came()
    winner.delivered()
    scenario.wait(990 * millisecond)
    // Everybody else's entries push the winner's out, in the sweep in which the verdict falls.
    for index in 0..<64 { Ask(scenario, port: UInt16(22000 + index)).entry() }
    scenario.wait(30 * second)
    #expect(scenario.losses.count == 1)
    #expect(scenario.losses.allSatisfy { $0.grade == .inferred })
  }
}
