package import Flows

/// One CPU's statistics as the kernel keeps them: 32 bits each, wrapping, counted from boot or from the namespace's making.
package struct ConntrackCPUReading: BitwiseCopyable, Sendable {
  package var cpu: UInt16
  package var features: ConntrackFeatures
  /// Attributes that this program does not know.
  package var unknownAttributes: UInt16
  package var found: UInt32 = 0
  package var invalid: UInt32 = 0
  package var insert: UInt32 = 0
  package var insertFailed: UInt32 = 0
  package var drop: UInt32 = 0
  package var earlyDrop: UInt32 = 0
  package var error: UInt32 = 0
  package var searchRestart: UInt32 = 0
  package var clashResolve: UInt32 = 0
  package var chainTooLong: UInt32 = 0

  package init(cpu: UInt16, features: ConntrackFeatures = [], unknownAttributes: UInt16 = 0) {
    self.cpu = cpu
    self.features = features
    self.unknownAttributes = unknownAttributes
  }
}

/// Turns readings that wrap, per CPU, into counters that do not, counted from the first reading. They never go backwards.
///
/// The first sight of a CPU is its base. One that was missing goes on where it was, or, if any counter is now lower, has a new base: its memory was
/// made anew, and to take that for a wrap would invent four thousand million events.
package struct ConntrackCounterAccumulator: Sendable {
  private struct CPU: Sendable {
    /// The last reading, nil before the first.
    var last: ConntrackCPUReading?
    var reading: UInt64 = 0
    var counters = ConntrackCounters()
  }

  private var cpus: [CPU] = []
  private var reading: UInt64 = 0

  /// Summed over CPUs.
  package private(set) var counters = ConntrackCounters()
  /// What the kernel sent so far.
  package private(set) var features: ConntrackFeatures = []
  /// Attributes that this program does not know, in all readings.
  package private(set) var unknownAttributes: UInt64 = 0

  package init() {}

  /// One beyond the highest CPU seen.
  package var cpuCount: Int { cpus.count }

  /// One CPU's share of `counters`; nil if it was never seen.
  package func counters(cpu: Int) -> ConntrackCounters? {
    guard cpus.indices.contains(cpu), cpus[cpu].last != nil else { return nil }
    return cpus[cpu].counters
  }

  /// What each CPU that was seen sent last, as the kernel keeps it.
  package var lastReadings: [ConntrackCPUReading] { cpus.compactMap(\.last) }

  /// Starts a round in which every CPU that is there is taken once.
  package mutating func beginReading() { reading &+= 1 }

  package mutating func take(_ now: ConntrackCPUReading) {
    features.formUnion(now.features)
    unknownAttributes &+= UInt64(now.unknownAttributes)
    let index = Int(now.cpu)
    while cpus.count <= index { cpus.append(CPU()) }
    let wasMissing = cpus[index].reading &+ 1 < reading
    if let last = cpus[index].last, !(wasMissing && now.isBelow(last)) {
      let step = ConntrackCounters(from: last, to: now)
      cpus[index].counters.add(step)
      counters.add(step)
    }
    cpus[index].last = now
    cpus[index].reading = reading
  }
}

extension ConntrackCPUReading {
  fileprivate func isBelow(_ last: ConntrackCPUReading) -> Bool {
    found < last.found || invalid < last.invalid || insert < last.insert || insertFailed < last.insertFailed || drop < last.drop
      || earlyDrop < last.earlyDrop || error < last.error || searchRestart < last.searchRestart || clashResolve < last.clashResolve
      || chainTooLong < last.chainTooLong
  }
}

extension ConntrackCounters {
  /// How far one CPU's counters went, modulo 2^32 each.
  fileprivate init(from last: ConntrackCPUReading, to now: ConntrackCPUReading) {
    self.init()
    found = UInt64(now.found &- last.found)
    invalid = UInt64(now.invalid &- last.invalid)
    insert = UInt64(now.insert &- last.insert)
    insertFailed = UInt64(now.insertFailed &- last.insertFailed)
    drop = UInt64(now.drop &- last.drop)
    earlyDrop = UInt64(now.earlyDrop &- last.earlyDrop)
    error = UInt64(now.error &- last.error)
    searchRestart = UInt64(now.searchRestart &- last.searchRestart)
    clashResolve = UInt64(now.clashResolve &- last.clashResolve)
    chainTooLong = UInt64(now.chainTooLong &- last.chainTooLong)
  }

  fileprivate mutating func add(_ step: ConntrackCounters) {
    found &+= step.found
    invalid &+= step.invalid
    insert &+= step.insert
    insertFailed &+= step.insertFailed
    drop &+= step.drop
    earlyDrop &+= step.earlyDrop
    error &+= step.error
    searchRestart &+= step.searchRestart
    clashResolve &+= step.clashResolve
    chainTooLong &+= step.chainTooLong
  }
}
