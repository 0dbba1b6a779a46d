import Flows
import Foundation
import Reporting
import Testing

private let second = Nanoseconds.perSecond

/// Alerts as the agent drives them: stalls first, on a clock that is moved.
private struct Driver {
  var alerts = AlertTable(seed: 7)
  var lookups = LookupTable()
  var now: Int64 = second
  private var lookup: UInt64 = 0

  mutating func stall(_ change: (inout ClosedQuery) -> Void = { _ in }) -> Alert? {
    lookup += 1
    var closed = closedQuery(lookup: lookup)
    change(&closed)
    guard let stall = lookups.take(closed, at: Instant(nanoseconds: now)) else { return nil }
    return alerts.take(closed, stall, at: Instant(nanoseconds: now))
  }

  mutating func due(isLast: Bool = false) -> [Alert] { alerts.due(at: Instant(nanoseconds: now), isLast: isLast) }
}

@Suite struct AlertTableTests {
  @Test func theFirstFiresAndMoreWaitFiveMinutes() throws {
    var driver = Driver()
    let one = driver.stall()
    let first = try #require(one)
    #expect(first.stalled == 1 && first.state == .firing && first.lostNanoseconds == 5_003_217_000)
    for _ in 0..<100 {
      let more = driver.stall()
      #expect(more == nil)
    }
    driver.now += AlertTable.repeatPeriod - 1
    let early = driver.due()
    #expect(early.isEmpty)
    driver.now += 1
    let told = driver.due()
    let again = try #require(told.first)
    #expect(told.count == 1 && again.alertID == first.alertID && again.stalled == 101 && again.examples.count == 3)
    // Nothing new: nothing to say, until it ends.
    driver.now += AlertTable.repeatPeriod - 1
    let quiet = driver.due()
    #expect(quiet.isEmpty)
    driver.now += 1
    let ended = driver.due()
    #expect(ended.count == 1 && ended[0].state == .resolved && ended[0].stalled == 101 && driver.alerts.count == 0)
    let next = driver.stall()
    #expect(try #require(next).alertID != first.alertID)
  }

  @Test func aStallAfterFiveMinutesIsToldAtOnce() throws {
    var driver = Driver()
    _ = driver.stall()
    driver.now += AlertTable.repeatPeriod
    let repeated = driver.stall()
    #expect(try #require(repeated).stalled == 2)
  }

  @Test func theLibraryIsSaidWhereAllStallsAgree() throws {
    var driver = Driver()
    let one = driver.stall { $0.libc = .musl }
    #expect(try #require(one).libc == .musl)
    _ = driver.stall { $0.libc = .musl }
    driver.now += AlertTable.repeatPeriod
    let same = driver.due()
    #expect(same.map(\.libc) == [.musl])
    _ = driver.stall { $0.libc = .glibc }
    _ = driver.stall { $0.libc = .glibc }
    driver.now += AlertTable.repeatPeriod
    let mixed = driver.due()
    #expect(mixed.map(\.libc) == [.unknown])
  }

  @Test func everyClientAndCauseHasItsOwn() {
    var driver = Driver()
    let fired = [
      driver.stall(), driver.stall { $0.client = endpoint("10.40.0.18", 1) }, driver.stall { $0.verdict = .noAnswer },
      driver.stall {
        $0.verdict = .noAnswer
        $0.reason = .staleBackend
      },
    ]
    #expect(fired.allSatisfy { $0 != nil } && driver.alerts.count == 4)
    let samePort = driver.stall { $0.client = endpoint("10.40.0.18", 2) }
    #expect(samePort == nil)
  }

  @Test func whatCostNobodyAnythingOrProvesNothingIsSilent() {
    var driver = Driver()
    let silent = [
      driver.stall { $0.impact = .none }, driver.stall { $0.clientIsServer = true }, driver.stall { $0.verdict = .unknown },
      driver.stall { $0.evidence = [.asked, .noSent, .pathUnobserved] },
    ]
    #expect(silent.allSatisfy { $0 == nil } && driver.alerts.count == 0)
    // Inferred for another reason than the path: it may alert, and says how sure it is.
    let inferred = driver.stall { $0.grade = .inferred }
    #expect(inferred?.grade == .inferred)
  }

  @Test func theGradeIsTheLeastSure() throws {
    var driver = Driver()
    _ = driver.stall { $0.grade = .proven }
    _ = driver.stall { $0.grade = .inferred }
    _ = driver.stall { $0.grade = .observed }
    driver.now += AlertTable.repeatPeriod
    let told = driver.due()
    #expect(try #require(told.first).grade == .inferred)
  }

  @Test func aLookupCountsOnceWithTheLongerOfItsDelays() throws {
    var driver = Driver()
    let first = driver.stall { $0.lookupID = 99 }
    let other = driver.stall {
      $0.lookupID = 99
      $0.queryType = QueryType.a
      $0.delay = 7 * second
    }
    #expect(first != nil && other == nil)
    driver.now += AlertTable.resolveAfter
    let ended = driver.due()
    let alert = try #require(ended.first)
    #expect(alert.stalled == 1 && alert.lostNanoseconds == 7 * second && alert.examples.count == 1)
  }

  /// The first query of a lookup may not alert and the second may: the lookup is told then.
  @Test func theFirstQueryThatMayAlertDoes() {
    var driver = Driver()
    let silent = driver.stall {
      $0.lookupID = 99
      $0.verdict = .unknown
    }
    let told = driver.stall { $0.lookupID = 99 }
    #expect(silent == nil && told?.stalled == 1)
  }

  @Test func theTableIsBoundedAndWhatItRefusesIsCounted() {
    var driver = Driver()
    driver.alerts = AlertTable(capacity: 10, seed: 7)
    var fired = 0
    for client in 0..<100 {
      let alert = driver.stall { $0.client = Endpoint(IPAddress(v4: UInt32(client)), 1) }
      fired += alert == nil ? 0 : 1
    }
    #expect(fired == 10 && driver.alerts.count == 10 && driver.alerts.overflow == 90)
    driver.now += AlertTable.resolveAfter
    let ended = driver.due()
    #expect(ended.count == 10)
  }

  @Test func theEndTellsWhatWasNotTold() {
    var driver = Driver()
    _ = driver.stall()
    let nothing = driver.due(isLast: true)
    #expect(nothing.isEmpty)
    _ = driver.stall()
    driver.now += AlertTable.resolveAfter
    let rest = driver.due(isLast: true)
    #expect(rest.count == 1 && rest[0].state == .firing && rest[0].stalled == 2)
  }
}

@Suite struct LookupTableTests {
  @Test func theSameSocketLaterIsAnotherLookup() {
    var table = LookupTable()
    let now = Instant(nanoseconds: second)
    func stall(_ lookup: UInt64, at time: Int64, delay: Int64 = second, _ table: inout LookupTable) -> LookupStall? {
      table.take(closedQuery(delay: delay, lookup: lookup, at: time), at: now)
    }
    let first = stall(1, at: 0, &table)
    let sibling = stall(1, at: 100_000_000, delay: 3 * second, &table)
    let shorter = stall(1, at: 50_000_000, delay: 2 * second, &table)
    let later = stall(1, at: 100_000_001 + 100_000_000, &table)
    let other = stall(2, at: 0, &table)
    #expect(first?.isNew == true && first?.added == second)
    #expect(sibling?.isNew == false && sibling?.added == 2 * second && shorter?.added == 0)
    #expect(later?.isNew == true && other?.isNew == true && table.entries == 3)
    let none = table.take(closedQuery(impact: .none), at: now)
    #expect(none == nil)
  }

  /// Hidden legs prove no wait, and who waits for a DNS server is counted where he asked. Neither takes the lookup's place from a query that counts.
  @Test func whatProvesNoWaitIsNoStall() throws {
    var table = LookupTable()
    var workloads = WorkloadTable()
    let now = Instant(nanoseconds: second)
    func count(_ change: (inout ClosedQuery) -> Void) {
      var closed = closedQuery(lookup: 1)
      change(&closed)
      if let stall = table.take(closed, at: now) { workloads.count(stall, of: closed) }
    }
    count { $0.evidence = [.asked, .came, .noDelivered, .pathUnobserved] }
    count { $0.clientIsServer = true }
    #expect(table.entries == 0 && workloads.rows[0].stalled.allAreZero && workloads.rows[0].lostNanoseconds.allAreZero)
    count { $0.verdict = .noAnswer }
    count { _ in }
    #expect(workloads.rows[0].stalled[2 * Int(Verdict.noAnswer.rawValue)] == 1)
  }

  @Test func aLookupIsForgottenAndTheTableBounded() {
    var table = LookupTable(capacity: 16, memory: second)
    _ = table.take(closedQuery(lookup: 1), at: Instant(nanoseconds: 5))
    let soon = table.take(closedQuery(lookup: 1), at: Instant(nanoseconds: second))
    let late = table.take(closedQuery(lookup: 1), at: Instant(nanoseconds: second + 5))
    #expect(soon?.isNew == false && late?.isNew == true)
    for lookup in 2..<100 { _ = table.take(closedQuery(lookup: UInt64(lookup)), at: Instant(nanoseconds: second + 6)) }
    #expect(table.entries == 16 && table.evictions == 99 - 16)
  }
}

extension InlineArray where Element: BinaryInteger {
  fileprivate var allAreZero: Bool { indices.allSatisfy { self[$0] == 0 } }
}
