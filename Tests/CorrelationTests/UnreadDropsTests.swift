import Flows
import Testing

@testable import Correlation

@Suite struct UnreadDropsTests {
  /// The sockets of one sender push each other out, and make nothing blind.
  @Test func unreadDropsAreBounded() {
    var unread = UnreadDrops()
    for index in 0..<1000 { unread.add(socketKey: UInt64(index), at: Instant(nanoseconds: Int64(1 + index))) }
    let end = Instant(nanoseconds: 10_000)
    let known = (0..<1000).filter { unread.overlaps(socketKey: UInt64($0), from: .zero, to: end) }
    #expect(known == Array(488..<1000))
    for index in 0..<1000 { unread.add(socketKey: 5000, at: Instant(nanoseconds: Int64(2000 + index))) }
    let (old, new) = (unread.overlaps(socketKey: 900, from: .zero, to: end), unread.overlaps(socketKey: 5000, from: .zero, to: end))
    let later = unread.overlaps(socketKey: 5000, from: Instant(nanoseconds: 4000), to: end)
    #expect(old && new && !later)
  }

  /// What had to go before its query was looked at is counted; what was looked at is not.
  @Test func unreadDropsThatWentTooSoonAreCounted() {
    var unread = UnreadDrops()
    let empty = unread.overlaps(socketKey: 0, from: .zero, to: .distantFuture)
    var time = Instant(nanoseconds: second)
    for index in 0..<512 { unread.add(socketKey: UInt64(index), at: time) }
    var (count, evictions) = (unread.count, unread.evictions)
    #expect(!empty && count == 512 && evictions == 0)
    time = time + (second / 2 - 1)
    for index in 512..<812 { unread.add(socketKey: UInt64(index), at: time) }
    (count, evictions) = (unread.count, unread.evictions)
    #expect(count == 512 && evictions == 300)
    // One of the remembered once more is no new one.
    unread.add(socketKey: 811, at: time + 1)
    time = time + 1
    for index in 812..<1024 { unread.add(socketKey: UInt64(index), at: time) }
    (count, evictions) = (unread.count, unread.evictions)
    #expect(count == 512 && evictions == 300)
    let isKnown = unread.overlaps(socketKey: 1023, from: time, to: time)
    let isLater = unread.overlaps(socketKey: 1023, from: time + 1, to: time + second)
    #expect(isKnown && !isLater)
  }

  /// The table as the metrics name it.
  @Test func unreadDropsAreATable() {
    let scenario = Scenario()
    scenario.engine.probeStarted(at: scenario.at)
    scenario.warmUp()
    for index in 0..<600 {
      let ask = Ask(scenario, port: UInt16(50000 + index), from: scenario.otherPod, device: 12)
      scenario.engine.observeUnread(scenario.drop(of: ask, isResponse: false))
    }
    let use = scenario.engine.tableUse().filter { "\($0.name)" == "unread_drops" }.flatMap { [$0.used, Int($0.evictions)] }
    #expect(use == [512, 88])
    #expect(scenario.probeBlindNanoseconds == 0)
  }
}
