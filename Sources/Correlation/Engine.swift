package import Flows

/// Sizes and times of an engine.
package struct EngineConfiguration: Sendable {
  /// Transmissions whose fate is open or not yet forgotten.
  package var transmissions = 65_536
  package var entries = 65_536
  package var services = 8_192
  package var nameBytes = 4 << 20
  /// Queries of others to workloads of this node that are remembered, for a minute.
  package var flows = 131_072
  /// How long a forwarded query is waited for (`--dns.timeout`), nanoseconds.
  package var timeout: Int64 = 10 * Nanoseconds.perSecond
  /// Ports on which servers are asked (`--dns.port`).
  package var ports: [UInt16] = [53]
  /// nf_conntrack_udp_timeout: how long an entry without a reply lives, nanoseconds.
  package var unrepliedTimeout: Int64 = 30 * Nanoseconds.perSecond
  /// net.netfilter.nf_conntrack_checksum: false where connection tracking takes packets with wrong checksums like any other.
  package var verifiesChecksums = true
  /// False where outgoing copies are not captured (`--capture.outgoing=false`): no leg but `asked` and `came` exists then.
  package var capturesOutgoing = true
  /// Random per start: keys of the tables, base of incident ids.
  package var seed: UInt64 = 0

  package init() {}
}

/// The judge: observations in order of time go in, records and totals come out. Pure: it reads no clock and opens nothing.
///
/// Feed it, in each sweep: conntrack events, then packets, then counters if it wants them, then `advance`. Everything it holds is bounded by its
/// configuration. Not Sendable on purpose: it belongs to the pipeline's thread.
package struct Engine: ~Copyable {
  /// From the first copy to "this was not forwarded": qdiscs and neighbour queues hold packets that long.
  static var forwardingTime: Int64 { Nanoseconds.perSecond }
  /// How long an answered transmission stays, as a witness for its neighbours' verdicts: until those of the same lookup have fallen.
  static var witnessTime: Int64 { forwardingTime + 2 * lookupTime }
  /// An entry that nothing used for so long may be gone: net/netfilter/nf_conntrack_proto_udp.c, `udp_timeouts`. The kernel filter keeps the
  /// end of answered entries from us.
  static var entryTime: Int64 { 30 * Nanoseconds.perSecond }
  /// Age at which a transmission is first looked at: an answered one goes then, unless some other stands unsent whose witness it may be. Those
  /// that race with it came within `lookupTime` and are known as suspects by now.
  static var firstLook: Int64 { Nanoseconds.perSecond / 4 }
  /// Age at which a transmission without a sent leg is looked at for the first time.
  static var suspectAge: Int64 { 5 * Nanoseconds.perMillisecond }
  /// Age at which its evidence for a failed insertion is gathered.
  static var assessAge: Int64 { Nanoseconds.perSecond / 2 }
  /// Queries of one socket within this time are one lookup; insertions within it can have raced.
  static var lookupTime: Int64 { 100 * Nanoseconds.perMillisecond }

  let configuration: EngineConfiguration
  var transmissions: TransmissionTable
  var timers: TimerWheel
  var names: NameArena
  var entries: EntryTable
  var services: ServiceTable
  var counters = CounterHistory()
  var blind = BlindWindows()
  var paths = PathTable()
  var backends = BackendTable()
  var node = NodeView()
  var firstLooks: LookQueue
  var suspects: Ring<QueuedSlot>
  var probes = ProbeTable()
  var unread = UnreadDrops()
  /// When the kernel probe began to watch.
  var probeSince = Instant.distantFuture
  var nextIncident: UInt64 = 0
  var now: Instant
  var wallNow: WallTime
  /// When the latest transmission that was found unsent was asked.
  var lastSuspect = Instant.zero
  var resolvedTold = 0
  var resolvedSecond: Int64 = 0
  var flowLog: FlowLog
  var lostFlows: LostFlowLog
  /// In order of time.
  var answeredClashes: [AnsweredClash] = []
  /// The last backend that was found left, its service, and since when at the latest; and how often one was looked for in this second.
  var leftBackend = Endpoint.none
  var leftService = Endpoint.none
  var leftBy = Instant.zero
  var looks = 0
  var lookSecond: Int64 = 0

  /// What became true since it was last emptied; the caller empties it.
  package var records: [Record] = []
  package private(set) var totals = EngineTotals()
  /// True if the counters should be read before the next `advance`: a transmission stands unsent.
  package var wantsCounters = false
  /// Ports of backends that differ from the configured ones, for the kernel filters; at most 8.
  package private(set) var learnedPorts: [UInt16] = []
  package private(set) var hasNewPorts = false

  package init(_ configuration: EngineConfiguration, now: Instant, wall: WallTime) {
    self.configuration = configuration
    self.now = now
    wallNow = wall
    transmissions = TransmissionTable(capacity: configuration.transmissions, seed: configuration.seed)
    timers = TimerWheel(capacity: configuration.transmissions, now: now)
    names = NameArena(bytes: configuration.nameBytes)
    entries = EntryTable(capacity: configuration.entries, seed: configuration.seed &+ 1)
    services = ServiceTable(capacity: configuration.services, seed: configuration.seed &+ 2)
    firstLooks = LookQueue(capacity: configuration.transmissions)
    suspects = Ring(capacity: configuration.transmissions)
    flowLog = FlowLog(capacity: configuration.flows, now: now)
    lostFlows = LostFlowLog(now: now)
    records.reserveCapacity(256)
  }

  // MARK: The node

  /// - Parameter master: the bridge that the device is a port of; 0 if none.
  package mutating func deviceChanged(_ index: UInt32, _ kind: NetworkDevice.Kind, master: UInt32 = 0) { node.set(index, kind, master: master) }
  package mutating func deviceRemoved(_ index: UInt32) {
    node.removeDevice(index)
    paths.forget(interface: index)
  }
  package mutating func addressAdded(_ address: IPAddress) { node.add(address) }
  package mutating func addressRemoved(_ address: IPAddress) { node.remove(address) }

  // MARK: Observations

  /// Takes one copy of a DNS message.
  ///
  /// - Parameter name: the question's name in wire form; read before the call returns.
  package mutating func observe(_ packet: PacketObservation, name: RawSpan) {
    if packet.transport == .tcp {
      totals.tcpMessages &+= 1
    } else if packet.destination.address.isMulticast || packet.dns.opcode != 0 {
      // Not a question to one server: mDNS, UPDATE, NOTIFY.
      totals.unmatchedCopies &+= 1
    } else if packet.dns.isResponse {
      observeAnswer(packet)
    } else {
      observeQuery(packet, name: name)
    }
  }

  /// Takes a reading of the counters.
  package mutating func observe(_ sample: CounterSample) {
    counters.add(sample)
    wantsCounters = false
  }

  package mutating func blindBegan(_ source: BlindSource, at start: Instant, wall: WallTime, lost: UInt64 = 0) {
    blind.begin(source, at: start, wall: wall, lost: lost)
  }

  package mutating func blindEnded(_ source: BlindSource, at end: Instant, wall: WallTime) {
    if let window = blind.end(source, at: end, wall: wall) { records.append(.blind(window)) }
  }

  /// The table was dumped anew after a loss: forget what may have been missed before the dump is entered.
  package mutating func forgetEntries() { entries.removeAll() }

  package mutating func takeNewPorts() -> [UInt16] {
    hasNewPorts = false
    return learnedPorts
  }

  mutating func learnPort(_ port: UInt16) {
    guard learnedPorts.count < 8, !configuration.ports.contains(port), !learnedPorts.contains(port) else { return }
    learnedPorts.append(port)
    hasNewPorts = true
  }

  // MARK: Time

  /// Moves time on and judges what is due. Packets and events up to `now` must have been taken before.
  package mutating func advance(to now: Instant, wall: WallTime) {
    let previous = self.now
    if now > self.now { self.now = now }
    wallNow = wall
    watchTables(since: previous)
    tellUnnamedClashes()
    findSuspects()
    assessSuspects()
    repeat {
      takeFirstLooks()
      while true {
        let slot = timers.popCurrent()
        if slot < 0 { break }
        let upcoming = timers.upcoming()
        transmissions.slots.prefetch(upcoming.third, lines: 4)
        if upcoming.next >= 0 { transmissions.prefetchChains(upcoming.next) }
        transmissions.slots[slot].watch = .none
        fire(slot)
      }
    } while timers.turn(towards: self.now, mayJump: firstLooks.isEmpty)
  }

  /// The first looks that are due by the wheel's time. Nearly all find an answered transmission and end it.
  private mutating func takeFirstLooks() {
    while let item = firstLooks.first, item.asked + Self.firstLook < timers.time {
      firstLooks.removeFirst()
      // A quarter of a second old: they have left the cache since.
      transmissions.slots.prefetch(firstLooks.slot(after: 12))
      let next = firstLooks.slot(after: 5)
      if next >= 0 { transmissions.prefetchChains(next) }
      guard awaitsFirstLook(item) else { continue }
      transmissions.slots[item.slot].watch = .none
      if isOver(item.slot) {
        release(item.slot)
      } else {
        fire(item.slot)
      }
    }
  }

  @inline(__always) private mutating func awaitsFirstLook(_ item: QueuedSlot) -> Bool {
    transmissions.slots[item.slot].generation == item.generation && transmissions.slots[item.slot].watch == .firstLook
  }

  /// True for what nearly all are at their first look, and what `fire` would find as well, by the first line alone: answered, the only attempt of its
  /// query, of which nothing is told, without company, and no witness for a verdict that is yet to fall.
  @inline(__always) private mutating func isOver(_ slot: Int32) -> Bool {
    transmissions.slots[slot].state == .answered && !transmissions.slots[slot].hasSibling && !transmissions.slots[slot].mayBeRetry
      && transmissions.slots[slot].head == slot && transmissions.slots[slot].openAttempts == 0 && transmissions.slots[slot].lostAttempts == 0
      && transmissions.slots[slot].asked - lastSuspect >= Self.witnessTime
  }

  /// Sets or moves a transmission's timer; what else would have brought it up does no more.
  mutating func setTimer(_ slot: Int32, at time: Instant) {
    transmissions.slots[slot].watch = .timer
    timers.set(slot, at: time)
  }

  mutating func clearTimer(_ slot: Int32) {
    if transmissions.slots[slot].watch == .timer { timers.clear(slot) }
    transmissions.slots[slot].watch = .none
  }

  /// When `advance` has something to do next; nil while nothing is open.
  package mutating func nextDeadline() -> Instant? {
    var due = timers.nextDue() ?? .distantFuture
    // Those that were given up before, as others' packets and what the probe saw dropped, are not worth a sweep.
    while let item = firstLooks.first {
      if awaitsFirstLook(item) {
        due = min(due, TimerWheel.due(after: item.asked + Self.firstLook))
        break
      }
      firstLooks.removeFirst()
    }
    if let item = firstLooks.firstUnseen { due = min(due, item.asked + Self.suspectAge) }
    if let item = suspects.first { due = min(due, item.asked + Self.assessAge) }
    if let clash = answeredClashes.first { due = min(due, clash.readAt + Nanoseconds.perSecond) }
    if let item = probes.first { due = min(due, item.asked + Self.assessAge) }
    return due == .distantFuture ? nil : due
  }

  /// Closes what is open as `unknown` (source `shutdown`).
  package mutating func shutDown(at now: Instant, wall: WallTime) {
    advance(to: now, wall: wall)
    blind.begin(.shutdown, at: now, wall: wall, lost: 0)
    for index in 0..<configuration.transmissions {
      let slot = Int32(index)
      guard transmissions.slots[slot].state == .open, transmissions.slots[slot].isVantageSettled else { continue }
      if let drop = probedDrop(slot) {
        close(slot, lost: judgeProbed(slot, drop))
        continue
      }
      var loss = Loss(.unknown, .none, .inferred, [.blind])
      loss.blindSource = .shutdown
      close(slot, lost: loss)
    }
    for index in 0..<configuration.transmissions where transmissions.slots[Int32(index)].state != .free { closeQuery(Int32(index)) }
    for source in BlindSource.allCases { blindEnded(source, at: self.now, wall: wall) }
  }

  // MARK: What is known

  package mutating func blindNanoseconds(_ source: BlindSource) -> Int64 { blind.nanoseconds(source, now: now) }
  package mutating func blindNanosecondsAny() -> Int64 { blind.nanosecondsAny(now: now) }
  package mutating func isBlind(_ source: BlindSource) -> Bool { blind.isOpen(source) }
  package mutating func isSentObservable() -> Bool { paths.isObservableEverywhere(.sent, at: now) }
  package mutating func isDeliveredObservable() -> Bool { paths.isObservableEverywhere(.delivered, at: now) }

  /// Used slots and evictions of each table, by the names of `racetrack_table_entries{table}`.
  package mutating func tableUse() -> [(name: StaticString, used: Int, evictions: UInt64)] {
    [
      ("transmissions", transmissions.count, totals.evicted), ("names", names.used, 0), ("entries", entries.count, entries.evictions),
      ("services", services.count, services.evictions), ("probe_drops", probes.count, probes.refused),
      ("unread_drops", unread.count, unread.evictions), ("flows", flowLog.count, flowLog.evictions), ("lost_flows", lostFlows.count, 0),
    ]
  }

  // MARK: Shared by the parts

  /// Opens a blind window for our own tables while one is at its cap, and closes it when there is room again.
  private mutating func watchTables(since previous: Instant) {
    let young = entries.youngEvictions
    let isFull =
      transmissions.count >= transmissions.capacity || names.used + 8 >= names.capacity || young != youngEvictionsSeen
    youngEvictionsSeen = young
    if isFull {
      blind.begin(.tables, at: previous, wall: wallNow, lost: 0)
      tablesFullAt = now
    } else if blind.isOpen(.tables), now - tablesFullAt > Nanoseconds.perSecond, let window = blind.end(.tables, at: now, wall: wallNow) {
      records.append(.blind(window))
    }
  }
  var youngEvictionsSeen: UInt64 = 0
  var tablesFullAt = Instant.zero

  mutating func count(_ change: (inout EngineTotals) -> Void) { change(&totals) }
}
