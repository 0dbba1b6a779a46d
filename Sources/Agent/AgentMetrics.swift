import Correlation
import Flows
import LinuxIO
import Reporting
import Wire

extension MetricsSnapshot {
  /// Everything the page shows, of one moment.
  init(_ pipeline: Pipeline, _ incidents: Incidents, start: WallTime) {
    self.init(version: Version.text)
    kernelRelease = SystemFacts.kernelRelease()
    let tally = pipeline.tally
    if tally.hasCounters {
      counters = tally.counters
      features = tally.features
      entries = tally.entries
      entriesLimit = tally.entriesLimit
    }
    events.new = tally.new
    events.update = tally.update
    events.destroy = tally.destroy
    eventsLost = tally.eventsLost
    packets = tally.packets
    packetsLost = tally.packetsLost
    engine = pipeline.engine.totals
    for source in BlindSource.allCases {
      blind[Int(source.rawValue)] = pipeline.engine.isBlind(source)
      blindNanoseconds[Int(source.rawValue)] = pipeline.engine.blindNanoseconds(source)
      blindAny = blindAny || pipeline.engine.isBlind(source)
    }
    blindAnyNanoseconds = pipeline.engine.blindNanosecondsAny()
    sources = Pipeline.Source.allCases.map { SourceUp($0.name, pipeline.isUp($0)) }
    paths = [
      PathObservable("sent", pipeline.engine.isSentObservable()), PathObservable("delivered", pipeline.engine.isDeliveredObservable()),
    ]
    tables = pipeline.engine.tableUse().map { TableUse($0.name, entries: UInt64($0.used), evictions: $0.evictions) }
    decodeErrors = DecodeError.allCases.map { DecodeErrorCount("packets", $0.name, tally.decodeErrors[Int($0.rawValue)]) }
    suppressedLost = incidents.limiter.suppressedLost
    suppressedClosed = incidents.limiter.suppressedClosed
    suppressedResolved = incidents.limiter.suppressedResolved
    process = SystemFacts.processUse(start: start)
  }
}
