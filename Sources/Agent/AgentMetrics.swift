import Correlation
import Flows
import LinuxIO
import Reporting
import Wire

extension MetricsSnapshot {
  /// Everything the page shows, of one moment.
  ///
  /// - Parameter perCPU: the kernel's counters with a series per CPU.
  init(_ pipeline: Pipeline, _ incidents: Incidents, start: WallTime, perCPU: Bool) {
    self.init(version: Version.text)
    kernelRelease = SystemFacts.kernelRelease()
    let tally = pipeline.tally
    if tally.hasCounters {
      counters = tally.counters
      features = tally.features
      if perCPU { countersByCPU = pipeline.countersByCPU.map { CPUCounters(cpu: $0.cpu, $0.counters) } }
      entries = tally.entries
      entriesLimit = tally.entriesLimit
    }
    events.new = tally.new
    events.update = tally.update
    events.destroy = tally.destroy
    eventsLost = tally.eventsLost
    packets = tally.packets
    packetsLost = tally.packetsLost
    probeEvents.dropped = tally.probeEvents[Int(ProbeObservation.Kind.dropped.rawValue)]
    probeEvents.merged = tally.probeEvents[Int(ProbeObservation.Kind.merged.rawValue)]
    probeEvents.replyOnly = tally.probeEvents[Int(ProbeObservation.Kind.replyOnly.rawValue)]
    probeEvents.lost = tally.probeEventsLost
    engine = pipeline.engine.totals
    for source in BlindSource.allCases {
      blind[Int(source.rawValue)] = pipeline.engine.isBlind(source)
      blindNanoseconds[Int(source.rawValue)] = pipeline.engine.blindNanoseconds(source)
      blindAny = blindAny || pipeline.engine.isBlind(source)
    }
    blindAnyNanoseconds = pipeline.engine.blindNanosecondsAny()
    sources = Pipeline.Source.allCases.map { SourceUp($0.name, pipeline.isUp($0)) } + [SourceUp("kernel_probe", pipeline.probeRung != nil)]
    paths = [
      PathObservable("sent", pipeline.engine.isSentObservable()), PathObservable("delivered", pipeline.engine.isDeliveredObservable()),
    ]
    tables = pipeline.engine.tableUse().map { TableUse($0.name, entries: UInt64($0.used), evictions: $0.evictions) }
    decodeErrors = DecodeError.allCases.map { DecodeErrorCount("packets", $0.name, tally.decodeErrors[Int($0.rawValue)]) }
    decodeErrors += pipeline.conntrackErrors.map { DecodeErrorCount("conntrack", $0.reason, $0.count) }
    if pipeline.probeRung != nil {
      decodeErrors += DecodeError.allCases.map { DecodeErrorCount("kernel_probe", $0.name, tally.probeErrors[Int($0.rawValue)]) }
      decodeErrors.append(DecodeErrorCount("kernel_probe", "not_kept", tally.probeUnread))
    }
    suppressedLost = incidents.limiter.suppressedLost
    suppressedClosed = incidents.limiter.suppressedClosed
    suppressedResolved = incidents.limiter.suppressedResolved
    lostExemplars = incidents.exemplars.lost
    durationExemplars = incidents.exemplars.durations
    workloads = incidents.workloads.totals(clientTransmissions: engine.transmissions[Int(Vantage.client.rawValue)])
    alertsFiring = incidents.alerts.count
    records = RecordEvent.allCases.map { RecordCount($0.name, incidents.written[Int($0.rawValue)]) }
    recordsUndelivered = incidents.undelivered
    tables += [
      TableUse("lookups", entries: UInt64(incidents.lookups.entries), evictions: incidents.lookups.evictions),
      TableUse("alerts", entries: UInt64(incidents.alerts.count), evictions: incidents.alerts.overflow),
      TableUse("rate_limits", entries: UInt64(incidents.limiter.tableEntries), evictions: incidents.limiter.tableFull),
      TableUse("workloads", entries: UInt64(incidents.workloads.rows.count), evictions: incidents.workloads.overflow),
    ]
    process = SystemFacts.processUse(start: start)
  }
}

extension LogUse {
  init(_ counters: LogCounters) {
    self.init()
    debug = counters.debug
    info = counters.info
    warn = counters.warn
    error = counters.error
    suppressed = counters.suppressed
    undelivered = counters.undelivered
  }
}

extension HTTPUse {
  init(_ counters: HTTPCounters) {
    self.init()
    connections = counters.connections
    accepted = counters.accepted
    evicted = counters.evicted
    expired = counters.expired
    refused = counters.refused
    requests = counters.requests
    unauthorized = counters.unauthorized
    misdirected = counters.misdirected
  }
}
