import Correlation
import Flows
import LinuxIO
import Reporting

extension StatusSnapshot {
  /// Everything the page for people shows, of one moment.
  init(_ pipeline: Pipeline, _ incidents: Incidents, sources: [SourceState], start: WallTime, now: WallTime) {
    self.init(version: Version.text, now: now, started: start)
    kernelRelease = SystemFacts.kernelRelease()
    nodeName = incidents.options.nodeName
    names = incidents.options.names
    self.sources = sources
    blind = BlindSource.allCases.filter { pipeline.engine.isBlind($0) }
    blindNanoseconds = pipeline.engine.blindNanosecondsAny()
    isSentObservable = pipeline.engine.isSentObservable()
    isDeliveredObservable = pipeline.engine.isDeliveredObservable()
    engine = pipeline.engine.totals
    if pipeline.tally.hasCounters { counters = pipeline.tally.counters }
    workloads = incidents.workloads.rows
    alerts = incidents.alerts.firing
    losses = incidents.latest
  }
}
