package import Flows

extension Pipeline {
  /// The names of `racetrack_source_up{source}`.
  package enum Source: Int, CaseIterable {
    case conntrack
    case counters
    case packets
    case devices

    package var name: StaticString {
      switch self {
      case .conntrack: "conntrack"
      case .counters: "counters"
      case .packets: "packets"
      case .devices: "devices"
      }
    }
  }
}

/// What the pipeline counted beside the engine.
package struct PipelineTally: Sendable {
  package var new: UInt64 = 0
  package var update: UInt64 = 0
  package var destroy: UInt64 = 0
  package var eventsLost: UInt64 = 0
  /// Frames taken from the ring.
  package var frames: UInt64 = 0
  /// As the kernel counts them: taken, still in the ring, and lost.
  package var packets: UInt64 = 0
  package var packetsLost: UInt64 = 0
  /// Messages of dumps that were no entries.
  package var dumpErrors: UInt64 = 0
  /// By `DecodeError.rawValue`.
  package var decodeErrors: InlineArray<16, UInt64> = .init(repeating: 0)
  package var counters = ConntrackCounters()
  package var features: ConntrackFeatures = []
  package var hasCounters = false
  /// What the kernel probe told, by `ProbeObservation.Kind`, and what it could not tell.
  package var probeEvents: InlineArray<4, UInt64> = .init(repeating: 0)
  package var probeEventsLost: UInt64 = 0
  /// Of those, packets that are no DNS message to anybody, by `DecodeError.rawValue`.
  package var probeErrors: InlineArray<16, UInt64> = .init(repeating: 0)
  /// And packets that the probe could not read to the end of their question, which may have been one.
  package var probeUnread: UInt64 = 0
  package var entries: UInt32 = 0
  package var entriesLimit: UInt32 = 0

  mutating func count(_ kind: ConntrackEvent.Kind) {
    switch kind {
    case .new: new &+= 1
    case .update: update &+= 1
    case .destroy: destroy &+= 1
    case .dumped: break
    }
  }
}
