import Flows

/// Renders `/metrics` from a snapshot.
package enum MetricsPage {
  /// Replaces the contents of `page`, whose storage is used again.
  package static func render(_ snapshot: MetricsSnapshot, as format: ExpositionFormat, into page: inout [UInt8]) {
    page.removeAll(keepingCapacity: true)
    for family in MetricFamily.allCases {
      var bytes: [UInt8] = []
      swap(&bytes, &page)
      var writer = MetricFamilyWriter(family.descriptor, format, bytes: bytes)
      bytes = []
      write(family, snapshot, to: &writer)
      page = writer.end()
    }
    if format.isOpenMetrics { appendLiteral("# EOF\n", to: &page) }
  }

  private static func write(_ family: MetricFamily, _ snapshot: MetricsSnapshot, to out: inout MetricFamilyWriter) {
    switch family {
    case .conntrackInsertFailed, .conntrackDrop, .conntrackEarlyDrop, .conntrackClashResolve, .conntrackSearchRestart, .conntrackChainTooLong,
      .conntrackInvalid, .clashes:
      if let counters = snapshot.counters { writeCounters(family, counters, snapshot, to: &out) }
    case .conntrackEntries: if let entries = snapshot.entries { out.sample(UInt64(entries)) }
    case .conntrackEntriesLimit: if let limit = snapshot.entriesLimit { out.sample(UInt64(limit)) }
    case .conntrackEvents:
      out.sample(["new"], snapshot.events.new)
      out.sample(["update"], snapshot.events.update)
      out.sample(["destroy"], snapshot.events.destroy)
    case .conntrackEventsLost: out.sample(snapshot.eventsLost)
    case .packets: out.sample(snapshot.packets)
    case .packetsLost: out.sample(snapshot.packetsLost)
    case .probeEvents:
      out.sample(["dropped"], snapshot.probeEvents.dropped)
      out.sample(["merged"], snapshot.probeEvents.merged)
      out.sample(["reply_only"], snapshot.probeEvents.replyOnly)
    case .probeEventsLost: out.sample(snapshot.probeEvents.lost)
    case .transmissions, .fates, .open, .answers, .duplicateAnswers, .unmatched, .tcpMessages, .retries, .serverLostQueries:
      writeEngine(family, snapshot.engine, to: &out)
    case .lostQueries:
      for verdict in Verdict.allCases {
        for grade in Grade.allCases {
          let index = Int(verdict.rawValue) * 3 + Int(grade.rawValue)
          let exemplar = snapshot.lostExemplars.indices.contains(index) ? snapshot.lostExemplars[index] : nil
          out.sample([.fixed(verdict.name), .fixed(grade.name)], snapshot.engine.lost(verdict, grade), exemplar: exemplar)
        }
      }
    case .queryDuration: out.sample([], snapshot.engine.durations, exemplars: snapshot.durationExemplars)
    case .clientQueries, .clientLostQueries, .clientStalledLookups, .clientLostSeconds, .clientLastLoss:
      for workload in snapshot.workloads { writeWorkload(family, workload, to: &out) }
    case .alertsFiring: out.sample(UInt64(snapshot.alertsFiring))
    case .blind:
      for (source, isBlind) in zip(BlindSource.allCases, snapshot.blind) { out.sample([.fixed(source.name)], isTrue: isBlind) }
      out.sample(["any"], isTrue: snapshot.blindAny)
    case .blindSeconds:
      for (source, blind) in zip(BlindSource.allCases, snapshot.blindNanoseconds) { out.sample([.fixed(source.name)], seconds: blind) }
      out.sample(["any"], seconds: snapshot.blindAnyNanoseconds)
    case .sourceUp: for source in snapshot.sources { out.sample([.fixed(source.source)], isTrue: source.isUp) }
    case .pathObservable: for path in snapshot.paths { out.sample([.fixed(path.leg)], isTrue: path.isObservable) }
    case .tableEntries: for table in snapshot.tables { out.sample([.fixed(table.table)], table.entries) }
    case .tableEvictions: for table in snapshot.tables { out.sample([.fixed(table.table)], table.evictions) }
    case .decodeErrors: for error in snapshot.decodeErrors { out.sample([.fixed(error.source), .fixed(error.reason)], error.count) }
    case .records: for record in snapshot.records { out.sample([.fixed(record.event)], record.count) }
    case .recordsUndelivered: out.sample(snapshot.recordsUndelivered)
    case .recordsSuppressed:
      out.sample(["dns_query_lost"], snapshot.suppressedLost)
      out.sample(["dns_query_closed"], snapshot.suppressedClosed)
      out.sample(["clash_resolved"], snapshot.suppressedResolved)
    case .logMessages, .logMessagesDropped: if let log = snapshot.log { writeLog(family, log, to: &out) }
    case .httpConnections, .httpConnectionsAccepted, .httpConnectionsClosed, .httpRequests, .httpRequestsRefused:
      if let http = snapshot.http { writeHTTP(family, http, to: &out) }
    case .longestTurn: out.sample(seconds: snapshot.longestTurn)
    case .buildInfo: out.sample([.text(snapshot.version), .text(snapshot.revision), .text(snapshot.kernelRelease)], 1)
    case .processCPU, .processResidentMemory, .processVirtualMemory, .processOpenDescriptors, .processMaxDescriptors, .processStartTime:
      if let process = snapshot.process { writeProcess(family, process, to: &out) }
    }
  }

  private static func writeCounters(
    _ family: MetricFamily, _ counters: ConntrackCounters, _ snapshot: MetricsSnapshot, to out: inout MetricFamilyWriter
  ) {
    if family == .clashes {
      if snapshot.features.contains(.clashResolve) { out.sample(["resolved"], counters.clashResolve) }
      out.sample(["dropped"], min(counters.insertFailed, counters.drop))
      return
    }
    if family == .conntrackClashResolve && !snapshot.features.contains(.clashResolve) { return }
    if family == .conntrackChainTooLong && !snapshot.features.contains(.chainTooLong) { return }
    // An empty label is no label.
    if snapshot.countersByCPU.isEmpty { out.sample([""], value(family, counters)) }
    for cpu in snapshot.countersByCPU { out.sample([.text(String(cpu.cpu))], value(family, cpu.counters)) }
  }

  private static func value(_ family: MetricFamily, _ counters: ConntrackCounters) -> UInt64 {
    switch family {
    case .conntrackInsertFailed: counters.insertFailed
    case .conntrackDrop: counters.drop
    case .conntrackEarlyDrop: counters.earlyDrop
    case .conntrackClashResolve: counters.clashResolve
    case .conntrackSearchRestart: counters.searchRestart
    case .conntrackChainTooLong: counters.chainTooLong
    default: counters.invalid
    }
  }

  private static func writeEngine(_ family: MetricFamily, _ engine: EngineTotals, to out: inout MetricFamilyWriter) {
    switch family {
    case .transmissions:
      out.sample(["A", "client"], engine.clientTransmissionsA)
      out.sample(["AAAA", "client"], engine.clientTransmissionsAAAA)
      out.sample(["other", "client"], engine.clientTransmissionsOther)
      // The engine splits the types of local clients only: an absent label says so, "other" would not be true.
      out.sample(["", "server"], engine.transmissions[Int(Vantage.server.rawValue)])
      out.sample(["", "transit"], engine.transmissions[Int(Vantage.transit.rawValue)])
    case .fates:
      out.sample(["answered"], engine.answered)
      out.sample(["lost"], engine.lost)
      out.sample(["unknown"], engine.unknown)
      out.sample(["evicted"], engine.evicted)
    case .open: out.sample(engine.open)
    case .answers:
      for (index, code) in responseCodes.enumerated() { out.sample([.fixed(code)], engine.answersByCode[index]) }
    case .duplicateAnswers: out.sample(engine.duplicateAnswers)
    case .unmatched:
      out.sample(["answer"], engine.unmatchedAnswers)
      out.sample(["copy"], engine.unmatchedCopies)
    case .tcpMessages: out.sample(engine.tcpMessages)
    case .retries: out.sample(engine.retries)
    case .serverLostQueries: out.sample(engine.serverLost)
    default: break
    }
  }

  /// The series of a workload's losses begin at zero for clients without a pod, which are always there, and with the first loss for the others,
  /// so that a page is not made of zeros.
  private static func writeWorkload(_ family: MetricFamily, _ totals: WorkloadTotals, to out: inout MetricFamilyWriter) {
    let labels: [LabelValue] = [.text(totals.workload.namespace), .text(totals.workload.name)]
    if family == .clientQueries { return out.sample(labels, totals.queries) }
    guard totals.workload == .unattributed || totals.workload == .other || totals.hasLost else { return }
    if family == .clientLastLoss { return out.sample(labels, seconds: totals.lastLoss.nanoseconds) }
    for verdict in Verdict.allCases {
      let index = Int(verdict.rawValue)
      switch family {
      case .clientLostQueries: out.sample([.fixed(verdict.name)] + labels, totals.lost[index])
      case .clientStalledLookups:
        out.sample([.fixed(verdict.name), .fixed(Impact.delayed.name)] + labels, totals.stalled[2 * index])
        out.sample([.fixed(verdict.name), .fixed(Impact.failed.name)] + labels, totals.stalled[2 * index + 1])
      default: out.sample([.fixed(verdict.name)] + labels, seconds: totals.lostNanoseconds[index])
      }
    }
  }

  private static func writeLog(_ family: MetricFamily, _ log: LogUse, to out: inout MetricFamilyWriter) {
    if family == .logMessages {
      out.sample(["debug"], log.debug)
      out.sample(["info"], log.info)
      out.sample(["warn"], log.warn)
      out.sample(["error"], log.error)
    } else {
      out.sample(["rate_limit"], log.suppressed)
      out.sample(["undelivered"], log.undelivered)
    }
  }

  private static func writeHTTP(_ family: MetricFamily, _ http: HTTPUse, to out: inout MetricFamilyWriter) {
    switch family {
    case .httpConnections: out.sample(http.connections)
    case .httpConnectionsAccepted: out.sample(http.accepted)
    case .httpConnectionsClosed:
      out.sample(["evicted"], http.evicted)
      out.sample(["expired"], http.expired)
      out.sample(["refused"], http.refused)
    case .httpRequests: out.sample(http.requests)
    default:
      out.sample(["unauthorized"], http.unauthorized)
      out.sample(["host"], http.misdirected)
    }
  }

  private static func writeProcess(_ family: MetricFamily, _ process: ProcessUse, to out: inout MetricFamilyWriter) {
    switch family {
    case .processCPU: out.sample(seconds: process.cpuNanoseconds)
    case .processResidentMemory: out.sample(process.residentBytes)
    case .processVirtualMemory: out.sample(process.virtualBytes)
    case .processOpenDescriptors: out.sample(process.openDescriptors)
    case .processMaxDescriptors: out.sample(process.maxDescriptors)
    case .processStartTime: out.sample(seconds: process.start.nanoseconds)
    default: break
    }
  }

  /// Labels of `EngineTotals.answersByCode`, by index (IANA DNS RCODEs; the last stands for every other).
  private static let responseCodes: [StaticString] = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "REFUSED", "other"]
}
