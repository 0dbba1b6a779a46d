package import Flows

/// What a client belongs to, as the labels `client_namespace` and `client_workload` say it. Never an address.
package struct Workload: Hashable, Sendable {
  package var namespace: String
  package var name: String

  package init(namespace: String, name: String) {
    self.namespace = namespace
    self.name = name
  }

  /// A client that no pod is known for.
  package static let unattributed = Workload(namespace: "unattributed", name: "unattributed")
  /// Every workload for which the table had no room.
  package static let other = Workload(namespace: "other", name: "other")
}

/// What one workload's clients asked and lost since the start: the `racetrack_client_*` families.
package struct WorkloadTotals: Sendable {
  package var workload: Workload
  /// Transmissions.
  package var queries: UInt64 = 0
  /// Lost transmissions (index: `Verdict.rawValue`).
  package var lost: InlineArray<12, UInt64> = .init(repeating: 0)
  /// Stalled lookups, delayed and failed (index: twice `Verdict.rawValue`, one more for failed).
  package var stalled: InlineArray<24, UInt64> = .init(repeating: 0)
  /// Nanoseconds that lookups were stalled (index: `Verdict.rawValue`).
  package var lostNanoseconds: InlineArray<12, Int64> = .init(repeating: 0)
  /// When the last transmission that was lost was sent; 0 before the first.
  package var lastLoss = WallTime(nanoseconds: 0)

  package init(_ workload: Workload) { self.workload = workload }

  /// True once a verdict's series has something to show.
  package var hasLost: Bool {
    for index in lost.indices where lost[index] > 0 { return true }
    return false
  }
}

/// The totals of every workload, in a fixed number of rows: the first is for clients without a pod, the second for workloads without a row.
///
/// Who a client is the resolver says, at the time of the loss. It is asked once a record, not once a packet.
package struct WorkloadTable {
  package typealias Resolver = (IPAddress) -> Workload?

  private static let unattributed = 0
  private static let other = 1

  package private(set) var rows: [WorkloadTotals]
  /// Losses and stalls of workloads that had no row, counted in the second one.
  package private(set) var overflow: UInt64 = 0
  private var index: [Workload: Int] = [:]
  private let capacity: Int
  private let resolve: Resolver?

  /// - Parameters:
  ///   - capacity: workloads beside the two fixed rows.
  ///   - resolve: nil where no workload is ever known: then there is no row for others either.
  package init(capacity: Int = 512, resolve: Resolver? = nil) {
    self.capacity = max(0, capacity)
    self.resolve = resolve
    rows = [WorkloadTotals(.unattributed)]
    if resolve != nil { rows.append(WorkloadTotals(.other)) }
  }

  /// Counts a lost transmission. Only those of vantage `client` have a workload.
  package mutating func count(_ lost: LostQuery) {
    guard lost.vantage == .client else { return }
    let row = row(of: lost.client.address)
    rows[row].lost[Int(lost.verdict.rawValue)] &+= 1
    if lost.verdict != .unknown && lost.time.nanoseconds > rows[row].lastLoss.nanoseconds { rows[row].lastLoss = lost.time }
  }

  /// Counts what a closed query adds to its lookup.
  package mutating func count(_ stall: LookupStall, of closed: ClosedQuery) {
    let row = row(of: closed.client.address)
    if stall.isNew { rows[row].stalled[2 * Int(stall.verdict.rawValue) + (closed.impact == .failed ? 1 : 0)] &+= 1 }
    let (sum, overflows) = rows[row].lostNanoseconds[Int(stall.verdict.rawValue)].addingReportingOverflow(stall.added)
    rows[row].lostNanoseconds[Int(stall.verdict.rawValue)] = overflows ? .max : sum
  }

  /// Every row, with the transmissions of local clients that no other row claims given to the first.
  package func totals(clientTransmissions: UInt64) -> [WorkloadTotals] {
    var totals = rows
    let claimed = rows.reduce(UInt64(0)) { $0 &+ $1.queries }
    totals[Self.unattributed].queries &+= clientTransmissions >= claimed ? clientTransmissions - claimed : 0
    return totals
  }

  private mutating func row(of client: IPAddress) -> Int {
    guard let resolve, let workload = resolve(client) else { return Self.unattributed }
    if let known = index[workload] { return known }
    guard index.count < capacity else {
      overflow &+= 1
      return Self.other
    }
    rows.append(WorkloadTotals(workload))
    index[workload] = rows.count - 1
    return rows.count - 1
  }
}
