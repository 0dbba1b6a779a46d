import Flows
import Reporting
import Testing

private let second = Nanoseconds.perSecond

private func lost(_ verdict: Verdict, client: UInt32 = 1) -> Record {
  var lost = LostQuery()
  lost.verdict = verdict
  lost.client = Endpoint(IPAddress(v4: client), 40000)
  return .lost(lost)
}

private func closed(_ verdict: Verdict, client: UInt32 = 1) -> Record {
  var closed = ClosedQuery()
  closed.verdict = verdict
  closed.client = Endpoint(IPAddress(v4: client), 40000)
  return .closed(closed)
}

private func limiter(_ change: (inout LossRateLimits) -> Void = { _ in }) -> LossRateLimiter {
  var limits = LossRateLimits()
  change(&limits)
  return LossRateLimiter(limits: limits, seed: 42, now: Instant(nanoseconds: 0), wall: WallTime(nanoseconds: 0))
}

extension LossRateLimiter {
  fileprivate mutating func admitted(_ count: Int, _ record: Record, at nanoseconds: Int64) -> Int {
    (0..<count).reduce(0) { sum, _ in sum + (admit(record, at: Instant(nanoseconds: nanoseconds)) ? 1 : 0) }
  }
}

@Suite struct LossRateLimiterTests {
  @Test func clashesPassAtTheRateAfterTheBurst() {
    var limiter = limiter()
    #expect(limiter.admitted(20_500, lost(.replyClashDropped), at: 0) == 20_000)
    #expect(limiter.suppressedLost == 500)
    #expect(limiter.admitted(100, lost(.dnatClashDropped), at: second / 100) == 10)
    #expect(limiter.admitted(30_000, lost(.clashLateReply), at: 10 * second) == 9_990)
    #expect(limiter.admitted(30_000, lost(.clashLateReply), at: .max) == 20_000)
    // A closed query does not take a lost one's place.
    #expect(limiter.admitted(20_001, closed(.replyClashDropped), at: .max) == 20_000)
  }

  @Test func timeThatGoesBackGivesNothing() {
    var limiter = limiter {
      $0.rate = 1
      $0.burst = 1
    }
    #expect(limiter.admitted(2, lost(.replyClashDropped), at: 5 * second) == 1)
    #expect(limiter.admitted(2, lost(.replyClashDropped), at: 0) == 0)
    #expect(limiter.admitted(2, lost(.replyClashDropped), at: 5 * second + second / 2) == 0)
    #expect(limiter.admitted(2, lost(.replyClashDropped), at: 6 * second) == 1)
  }

  @Test func rateOfZeroWritesNoClash() {
    var limiter = limiter { $0.rate = 0 }
    #expect(limiter.admitted(10, lost(.replyClashDropped), at: 100 * second) == 0)
    #expect(limiter.admitted(10, lost(.noAnswer), at: 100 * second) == 5)
  }

  @Test func othersPassFiveTimesPerClientVerdictAndWindow() {
    var limiter = limiter()
    #expect(limiter.admitted(9, lost(.noAnswer), at: 0) == 5)
    #expect(limiter.admitted(9, lost(.noAnswer, client: 2), at: 0) == 5)
    #expect(limiter.admitted(9, lost(.droppedOnNode), at: 0) == 5)
    #expect(limiter.admitted(9, closed(.noAnswer), at: 0) == 5)
    #expect(limiter.admitted(9, .clashResolved(ResolvedClash()), at: 0) == 5)
    #expect(limiter.admitted(9, lost(.noAnswer), at: 300 * second - 1) == 0)
    #expect(limiter.admitted(9, lost(.noAnswer), at: 300 * second) == 5)
    #expect(limiter.suppressedLost == 4 * 4 + 9 && limiter.suppressedClosed == 4 && limiter.suppressedResolved == 4)
    let window = BlindWindow(source: .packets, start: WallTime(nanoseconds: 0), end: WallTime(nanoseconds: 1), lost: 0)
    #expect(limiter.admitted(1_000, .blind(window), at: 0) == 1_000)
  }

  @Test func clientsWithoutASlotAreSuppressedAndCounted() {
    var limiter = limiter { $0.capacity = 64 }
    var admitted = 0
    for client in UInt32(0)..<10_000 where limiter.admit(lost(.noAnswer, client: client), at: .zero) { admitted += 1 }
    #expect(admitted == limiter.tableEntries && admitted <= 64 && admitted >= 48)
    #expect(limiter.tableFull == UInt64(10_000 - admitted) && limiter.suppressedLost == limiter.tableFull)
    // Slots whose window is over serve again, and a known client still has its own count.
    #expect(limiter.admitted(9, lost(.noAnswer, client: 77_777), at: 300 * second) == 5)
  }

  @Test func allLiftsEveryLimit() {
    var limiter = limiter {
      $0.all = true
      $0.rate = 0
    }
    #expect(limiter.admitted(1_000, lost(.noAnswer), at: 0) == 1_000)
    #expect(limiter.admitted(1_000, lost(.replyClashDropped), at: 0) == 1_000)
  }

  @Test func theMinuteIsSummedOnce() throws {
    var limiter = limiter()
    _ = limiter.admitted(15, lost(.noAnswer), at: 0)
    _ = limiter.admitted(6, closed(.noAnswer), at: 0)
    #expect(limiter.summary(at: Instant(nanoseconds: 60 * second - 1), wall: WallTime(nanoseconds: 1)) == nil)
    let minute = limiter.summary(at: Instant(nanoseconds: 60 * second), wall: WallTime(nanoseconds: 7))
    let summary = try #require(minute)
    #expect(summary.lost[Int(Verdict.noAnswer.rawValue)] == 10 && summary.lost.reduce(0, +) == 10)
    #expect(summary.closed == 1 && summary.resolved == 0)
    #expect(summary.start == WallTime(nanoseconds: 0) && summary.end == WallTime(nanoseconds: 7))
    #expect(limiter.summary(at: Instant(nanoseconds: 120 * second), wall: WallTime(nanoseconds: 8)) == nil)
    _ = limiter.admitted(1, lost(.noAnswer), at: 121 * second)
    let rest = limiter.summary(at: Instant(nanoseconds: 122 * second), wall: WallTime(nanoseconds: 9), isLast: true)
    let last = try #require(rest)
    #expect(last.start == WallTime(nanoseconds: 8) && last.lost.reduce(0, +) == 1)
    #expect(limiter.suppressedLost == 11)
  }
}
