import Flows
import Reporting
import Testing

@Suite struct WorkloadTableTests {
  private func lost(_ client: String, _ verdict: Verdict = .replyClashDropped, vantage: Vantage = .client) -> LostQuery {
    var lost = lostQuery()
    lost.client = endpoint(client, 1)
    lost.verdict = verdict
    lost.vantage = vantage
    return lost
  }

  @Test func withoutPodsEveryClientIsUnattributedAndNoAddressIsALabel() {
    var table = WorkloadTable()
    for index in 1...200 { table.count(lost("10.40.0.\(index)")) }
    table.count(lost("10.40.0.1", vantage: .server))
    var snapshot = fullSnapshot()
    snapshot.workloads = table.totals(clientTransmissions: 1_000)
    let text = page(snapshot, .text)
    #expect(table.rows.count == 1 && table.rows[0].lost[Int(Verdict.replyClashDropped.rawValue)] == 200)
    #expect(!text.contains("10.40") && !text.contains("workload=\"other\""))
    #expect(text.contains("racetrack_client_queries_total{client_namespace=\"unattributed\",client_workload=\"unattributed\"} 1000\n"))
  }

  @Test func workloadsAreCappedAndTheRestIsOther() {
    var table = WorkloadTable(capacity: 2) { address in
      address.low & 0xFF == 9 ? nil : Workload(namespace: "shop", name: "w\(address.low & 0xFF)")
    }
    for host in [1, 2, 3, 4, 9, 1] { table.count(lost("10.40.0.\(host)")) }
    #expect(table.rows.map(\.workload.name) == ["unattributed", "other", "w1", "w2"])
    #expect(table.rows.map { $0.lost[Int(Verdict.replyClashDropped.rawValue)] } == [1, 2, 2, 1] && table.overflow == 2)
  }

  @Test func theLastLossIsThatOfAKnownCause() {
    var table = WorkloadTable()
    var query = lost("10.40.0.1")
    table.count(query)
    query.time = WallTime(nanoseconds: query.time.nanoseconds - 5)
    table.count(query)
    query.time = WallTime(nanoseconds: query.time.nanoseconds + 500)
    query.verdict = .unknown
    table.count(query)
    #expect(table.rows[0].lastLoss == lostQuery().time)
  }

  /// Labels from outside end neither their value nor their line.
  @Test func labelsAreEscaped() {
    var snapshot = MetricsSnapshot(version: "0.1.0")
    snapshot.workloads.append(WorkloadTotals(Workload(namespace: "a\"b\\c\nd", name: "é")))
    for format in ExpositionFormat.allCases {
      #expect(page(snapshot, format).contains(#"racetrack_client_queries_total{client_namespace="a\"b\\c\nd",client_workload="é"} 0"# + "\n"))
    }
  }

  /// A workload that never lost anything has one series; one that did has them all.
  @Test func aPageIsNotMadeOfZeros() {
    var snapshot = MetricsSnapshot(version: "0.1.0")
    snapshot.workloads.append(WorkloadTotals(Workload(namespace: "shop", name: "cart")))
    #expect(page(snapshot, .text).split(separator: "\n").count { $0.contains("\"cart\"") } == 1)
    snapshot.workloads[1].lost[0] = 1
    #expect(page(snapshot, .text).split(separator: "\n").count { $0.contains("\"cart\"") } == 1 + 12 + 24 + 12 + 1)
  }
}

@Suite struct PerCPUTests {
  @Test func seriesPerCPUReplaceTheSum() {
    var snapshot = fullSnapshot()
    var one = ConntrackCounters()
    one.insertFailed = 4
    var two = ConntrackCounters()
    two.insertFailed = 1
    snapshot.countersByCPU = [CPUCounters(cpu: 0, one), CPUCounters(cpu: 3, two)]
    let text = page(snapshot, .text)
    #expect(text.contains("racetrack_conntrack_insert_failed_total{cpu=\"0\"} 4\nracetrack_conntrack_insert_failed_total{cpu=\"3\"} 1\n"))
    #expect(!text.contains("\nracetrack_conntrack_insert_failed_total "))
    #expect(text.contains("racetrack_clashes_total{outcome=\"dropped\"} 3\n"))
  }
}
