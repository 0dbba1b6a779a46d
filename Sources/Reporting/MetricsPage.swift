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
      if let counters = snapshot.counters { writeCounters(family, counters, snapshot.features, to: &out) }
    case .conntrackEntries: if let entries = snapshot.entries { out.sample(UInt64(entries)) }
    case .conntrackEntriesLimit: if let limit = snapshot.entriesLimit { out.sample(UInt64(limit)) }
    case .conntrackEvents:
      out.sample(["new"], snapshot.events.new)
      out.sample(["update"], snapshot.events.update)
      out.sample(["destroy"], snapshot.events.destroy)
    case .conntrackEventsLost: out.sample(snapshot.eventsLost)
    case .packets: out.sample(snapshot.packets)
    case .packetsLost: out.sample(snapshot.packetsLost)
    case .transmissions, .fates, .open, .answers, .retries, .lostQueries: writeEngine(family, snapshot.engine, to: &out)
    case .queryDuration: out.sample([], snapshot.engine.durations)
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
    case .recordsSuppressed:
      out.sample(["dns_query_lost"], snapshot.suppressedLost)
      out.sample(["dns_query_closed"], snapshot.suppressedClosed)
      out.sample(["clash_resolved"], snapshot.suppressedResolved)
    case .buildInfo: out.sample([.text(snapshot.version), .text(snapshot.revision), .text(snapshot.kernelRelease)], 1)
    case .processCPU, .processResidentMemory, .processVirtualMemory, .processOpenDescriptors, .processMaxDescriptors, .processStartTime:
      if let process = snapshot.process { writeProcess(family, process, to: &out) }
    }
  }

  private static func writeCounters(
    _ family: MetricFamily, _ counters: ConntrackCounters, _ features: ConntrackFeatures, to out: inout MetricFamilyWriter
  ) {
    switch family {
    case .conntrackInsertFailed: out.sample(counters.insertFailed)
    case .conntrackDrop: out.sample(counters.drop)
    case .conntrackEarlyDrop: out.sample(counters.earlyDrop)
    case .conntrackClashResolve: if features.contains(.clashResolve) { out.sample(counters.clashResolve) }
    case .conntrackSearchRestart: out.sample(counters.searchRestart)
    case .conntrackChainTooLong: if features.contains(.chainTooLong) { out.sample(counters.chainTooLong) }
    case .conntrackInvalid: out.sample(counters.invalid)
    case .clashes:
      if features.contains(.clashResolve) { out.sample(["resolved"], counters.clashResolve) }
      out.sample(["dropped"], min(counters.insertFailed, counters.drop))
    default: break
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
    case .retries: out.sample(engine.retries)
    case .lostQueries:
      for verdict in Verdict.allCases {
        for grade in Grade.allCases { out.sample([.fixed(verdict.name), .fixed(grade.name)], engine.lost(verdict, grade)) }
      }
    default: break
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
