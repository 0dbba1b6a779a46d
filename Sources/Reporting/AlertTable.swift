package import Flows

/// One stalled query behind an alert.
package struct AlertExample: Sendable, Equatable {
  package var incidentID: UInt64
  package var time: WallTime
  package var name: [UInt8]
  package var queryType: UInt16
  package var server: Endpoint
  package var impact: Impact
  package var delay: Int64
}

/// The stalled lookups of one workload from one cause, from the first on: what `alert_firing` and `alert_resolved` say.
///
/// Until pods are known the workload is the client's address.
package struct Alert: Sendable {
  package enum State: Sendable {
    case firing
    case resolved
  }

  package var state = State.firing
  package var alertID: UInt64
  package var client: IPAddress
  package var verdict: Verdict
  package var reason: Reason
  /// The least sure of all its stalls: never rounded up.
  package var grade: Grade
  /// Whose resolver the client has, as far as all its stalls say the same.
  package var libc = CLibrary.unknown
  /// When the first and the last of the stalled lookups were sent.
  package var first: WallTime
  package var last: WallTime
  package var delayed: UInt64 = 0
  package var failed: UInt64 = 0
  package var lostNanoseconds: Int64 = 0
  /// The latest three, the newest last.
  package var examples: [AlertExample] = []

  package var stalled: UInt64 { delayed &+ failed }
}

/// Decides when an alert is written: on the first stalled lookup of a workload and cause, then at most every five minutes while more stall, and once
/// more when none did for ten minutes.
///
/// What the alerts between do not say the next one does: the counts go on. Lookups that never alert: those with impact `none`, of DNS servers
/// (CoreDNS, NodeLocal), with the verdict `unknown`, which is no cause, and those whose path does not show what the verdict says is missing.
package struct AlertTable: Sendable {
  package static let repeatPeriod = 300 * Nanoseconds.perSecond
  package static let resolveAfter = 600 * Nanoseconds.perSecond
  static let exampleCount = 3

  private struct Key: Hashable {
    var client: IPAddress
    var verdict: Verdict
    var reason: Reason
  }

  private struct Entry {
    var alert: Alert
    var lastStall: Instant
    var lastWritten: Instant
    /// Stalled lookups that the last line told.
    var told: UInt64
  }

  private var entries: [Key: Entry] = [:]
  private let capacity: Int
  private let seed: UInt64
  private var made: UInt64 = 0
  /// Stalls that found the table full.
  package private(set) var overflow: UInt64 = 0

  package init(capacity: Int = 1_024, seed: UInt64) {
    self.capacity = max(1, capacity)
    self.seed = seed
  }

  package var count: Int { entries.count }

  /// Firing alerts, the latest stall first.
  package var firing: [Alert] {
    entries.values.map(\.alert).sorted { ($0.last.nanoseconds, $0.alertID) > ($1.last.nanoseconds, $1.alertID) }
  }

  package static func mayAlert(_ closed: ClosedQuery) -> Bool {
    LookupTable.isStall(closed) && closed.verdict != .unknown
  }

  /// Takes a stalled query in.
  ///
  /// - Parameter stall: what it adds to its lookup.
  /// - Returns: the alert to write now, if one is due.
  package mutating func take(_ closed: ClosedQuery, _ stall: LookupStall, at now: Instant) -> Alert? {
    guard Self.mayAlert(closed) else { return nil }
    let key = Key(client: closed.client.address, verdict: closed.verdict, reason: closed.reason)
    if entries[key] == nil {
      // The second query of a lookup that another alert already tells is no alert of its own.
      guard stall.isNewToAlerts else { return nil }
      guard entries.count < capacity else {
        overflow &+= 1
        return nil
      }
      entries[key] = Entry(alert: makeAlert(closed), lastStall: now, lastWritten: now, told: 0)
    }
    guard var entry = entries[key] else { return nil }
    entry.alert.take(closed, stall)
    entry.lastStall = now
    let isDue = entry.told == 0 || (now - entry.lastWritten >= Self.repeatPeriod && entry.alert.stalled > entry.told)
    if isDue {
      entry.lastWritten = now
      entry.told = entry.alert.stalled
    }
    entries[key] = entry
    return isDue ? entry.alert : nil
  }

  /// What is due without a new stall: repeats for stalls that the last line did not tell yet, and ends. To be called about once a second.
  ///
  /// - Parameter isLast: the agent stops: tell every count that was not told; nothing is resolved by that.
  package mutating func due(at now: Instant, isLast: Bool = false) -> [Alert] {
    var alerts: [Alert] = []
    for (key, entry) in entries {
      var entry = entry
      if now - entry.lastStall >= Self.resolveAfter && !isLast {
        entry.alert.state = .resolved
        alerts.append(entry.alert)
        entries[key] = nil
      } else if entry.alert.stalled > entry.told && (isLast || now - entry.lastWritten >= Self.repeatPeriod) {
        entry.lastWritten = now
        entry.told = entry.alert.stalled
        entries[key] = entry
        alerts.append(entry.alert)
      }
    }
    return alerts.sorted { $0.alertID < $1.alertID }
  }

  private mutating func makeAlert(_ closed: ClosedQuery) -> Alert {
    made &+= 1
    var hash = SeededHash(seed: seed)
    hash.combine(made)
    return Alert(
      alertID: hash.finish(), client: closed.client.address, verdict: closed.verdict, reason: closed.reason, grade: closed.grade,
      first: closed.time, last: closed.time)
  }
}

extension Alert {
  fileprivate mutating func take(_ closed: ClosedQuery, _ stall: LookupStall) {
    libc = stalled == 0 || libc == closed.libc ? closed.libc : .unknown
    if stall.isNewToAlerts {
      if closed.impact == .failed { failed &+= 1 } else { delayed &+= 1 }
    }
    lostNanoseconds = lostNanoseconds.addingReportingOverflow(stall.added).overflow ? .max : lostNanoseconds + stall.added
    if closed.grade.rawValue < grade.rawValue { grade = closed.grade }
    if closed.time.nanoseconds < first.nanoseconds { first = closed.time }
    if closed.time.nanoseconds > last.nanoseconds { last = closed.time }
    guard stall.isNewToAlerts else { return }
    if examples.count == AlertTable.exampleCount { examples.removeFirst() }
    examples.append(
      AlertExample(
        incidentID: closed.incidentID, time: closed.time, name: closed.name, queryType: closed.queryType, server: closed.server,
        impact: closed.impact, delay: closed.delay))
  }
}
