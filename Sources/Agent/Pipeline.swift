package import Correlation
package import Flows
package import LinuxIO
import Wire

/// What a pipeline is told.
package struct PipelineOptions {
  package var engine = EngineConfiguration()
  package var ring = PacketRingOptions()
  package var eventBuffer = ConntrackEventSocket.defaultReceiveBuffer
  /// Events come by an event ring where the kernel lets one run.
  package var wantsEventRing = true
  /// Devices whose packets are looked at; all where it is nil.
  package var interfaces: InterfaceSelection?
  package var probe = ProbeOptions()

  package init() {}
}

/// The sources, the decoder and the engine, turned by one thread in sweeps.
///
/// A sweep takes what the ring holds, then the events, and gives the engine the events first: an entry's NEW is queued before the packet that made
/// it is seen to leave (`nf_conntrack_confirm` in net/netfilter/nf_conntrack_core.c runs before the tap in `dev_hard_start_xmit`).
package final class Pipeline {
  /// While packets come in the counters are read this often, so that what moves them is known to a tenth of a second.
  private static var busyCounterPeriod: Int64 { Nanoseconds.perSecond / 10 }
  private static var idleCounterPeriod: Int64 { Nanoseconds.perSecond }
  /// Events that come faster than they are taken must not keep the ring waiting; what then overflows is counted and blind.
  private static let drainsPerSweep = 4
  /// How often a source that is down is tried again.
  private static var reopenPeriod: Int64 { 10 * Nanoseconds.perSecond }

  package var engine: Engine
  package private(set) var tally = PipelineTally()
  package private(set) var failures: [SetupError?] = Array(repeating: nil, count: Source.allCases.count)

  let options: PipelineOptions
  private let log: Log
  private var loop: EventLoop
  private var decoder: PacketDecoder
  private var clock = WallToMonotonic()
  /// Frames that are decoded and wait for their turn, by the lower bits of their numbers in this sweep.
  private var inHand: InlineArray<8, FrameInHand> = .init(repeating: FrameInHand())
  private var decodedFrames = 0
  private var takenFrames = 0
  private var ring: PacketRing?
  private var events: ConntrackEventSocket?
  /// Behind the socket that it serves: properties go in this order.
  private var eventRing: ConntrackEventRing?
  private var hold = EventHold()
  private var requests: ConntrackRequests?
  private var devices: NetworkDevices?
  private var probe: KernelProbe?
  /// Why the kernel probe does not run; nil where it does or is not wanted.
  package private(set) var probeFailure: SetupError?
  private var accumulator = ConntrackCounterAccumulator()
  private var excluded: Set<UInt32> = []
  private var capturedPorts: [UInt16]
  private var lastSweep = Instant.zero
  private var lastFrames = 0
  private var lastPacketStatistics = Instant.zero
  private var lastCounters = Instant.zero
  private var lastTableSize = Instant.zero
  private var nextReopen = Instant.distantFuture
  private var needsResync = false
  private var eventsLostSeen: UInt64 = 0
  private var packetsLostSeen: UInt64 = 0

  private static var ringToken: EventToken { EventToken(0) }
  private static var eventsToken: EventToken { EventToken(1) }
  private static var devicesToken: EventToken { EventToken(2) }
  package static var signalsToken: EventToken { EventToken(3) }
  package static var pagesToken: EventToken { EventToken(4) }
  private static var probeToken: EventToken { EventToken(5) }
  private static var eventRingToken: EventToken { EventToken(6) }

  package init(_ options: PipelineOptions, seed: UInt64, log: Log) throws(SetupError) {
    self.options = options
    self.log = log
    loop = try EventLoop()
    decoder = PacketDecoder(hashSeed: seed)
    capturedPorts = options.engine.ports
    engine = Engine(options.engine, now: clock.now, wall: clock.wallNow)
  }

  package var now: Instant { clock.now }
  package var wallNow: WallTime { clock.wallNow }
  package func isUp(_ source: Source) -> Bool { failures[source.rawValue] == nil }
  package var wakeups: UInt64 { loop.wakeups }
  /// What ctnetlink sent and was taken for no entry, by reason.
  package var conntrackErrors: [(reason: StaticString, count: UInt64)] {
    ConntrackDecodeError.allCases.map { ($0.name, events?.errors($0) ?? 0) }
      + [("foreign", events?.foreignMessages ?? 0), ("receive", events?.receiveErrors ?? 0), ("dump", tally.dumpErrors)]
  }
  /// Each CPU's share of the conntrack counters.
  package var countersByCPU: [(cpu: Int, counters: ConntrackCounters)] {
    (0..<accumulator.cpuCount).compactMap { cpu in accumulator.counters(cpu: cpu).map { (cpu, $0) } }
  }

  package func watch(_ descriptor: Int32, as token: EventToken) throws(SetupError) { try loop.add(descriptor, as: token, .immediate) }

  // MARK: Opening

  /// Opens every source that can be opened, in the current network namespace. What cannot is in `failures`, blind and tried again.
  package func open() {
    clock.sweep()
    lastSweep = clock.now
    lastPacketStatistics = clock.now
    engine.blindBegan(.start, at: clock.now, wall: clock.wallNow)
    eventRing = EventRoute.openRing(isWanted: options.wantsEventRing, ports: capturedPorts, in: &loop, as: Self.eventRingToken, log)
    for source in Source.allCases { open(source) }
    resync()
    readCounters(withTableSize: true)
    openProbe()
    clock.sweep()
    engine.blindEnded(.start, at: clock.now, wall: clock.wallNow)
  }

  /// The rung of the kernel probe that runs; nil if none does.
  package var probeRung: KernelProbeRung? { probe?.rung }

  /// Once, while the rights for it are there. The counters must have been read before.
  private func openProbe() {
    guard options.probe.isWanted else { return }
    var ladder = ProbeLadder(options.probe, ports: capturedPorts, counters: accumulator.lastReadings, log: log)
    probeFailure = ladder.failure?.error
    probe = ladder.takeProbe()
    guard let descriptor = probe?.descriptor else { return }
    do throws(SetupError) {
      try loop.add(descriptor, as: Self.probeToken, .swept)
      engine.probeStarted(at: Clocks.monotonic())
    } catch {
      probe = nil
      probeFailure = error
    }
  }

  private func open(_ source: Source) {
    do throws(SetupError) {
      switch source {
      case .conntrack:
        var socket = try ConntrackEventSocket(ports: capturedPorts, receiveBuffer: options.eventBuffer)
        try loop.add(socket.descriptor, as: Self.eventsToken, .swept)
        EventRoute.choose(for: &socket, eventRing, log)
        if !socket.isReceiveBufferForced {
          log.warn("conntrack's receive buffer is limited by net.core.rmem_max", ["bytes": .integer(Int64(socket.receiveBuffer))])
        }
        events = consume socket
        eventsLostSeen = 0
      case .counters:
        requests = try ConntrackRequests()
      case .packets:
        var ringOptions = options.ring
        ringOptions.ports = capturedPorts
        ringOptions.capturesOutgoing = options.engine.capturesOutgoing
        let opened = try PacketRing(ringOptions)
        try loop.add(opened.descriptor, as: Self.ringToken, .swept)
        ring = consume opened
        packetsLostSeen = 0
      case .devices:
        let opened = try NetworkDevices()
        try loop.add(opened.descriptor, as: Self.devicesToken, .swept)
        devices = consume opened
        drainDevices()
      }
      let isBack = failures[source.rawValue] != nil
      if isBack {
        failures[source.rawValue] = nil
        log.info("source is back", ["source": .text("\(source.name)")])
      }
      // Entries made while nobody listened are known after the dump.
      if source == .conntrack && isBack { needsResync = true } else { setBlind(source, false) }
    } catch {
      fail(source, error)
    }
  }

  private func fail(_ source: Source, _ error: SetupError) {
    if failures[source.rawValue] == nil { log.error("source cannot run", ["source": .text("\(source.name)"), "reason": .text(error.description)]) }
    failures[source.rawValue] = error
    switch source {
    case .conntrack: events = nil
    case .counters: requests = nil
    case .packets: ring = nil
    case .devices: devices = nil
    }
    setBlind(source, true)
    if nextReopen == .distantFuture { nextReopen = clock.now + Self.reopenPeriod }
  }

  private func setBlind(_ source: Source, _ isBlind: Bool) {
    let of: BlindSource
    switch source {
    case .conntrack: of = .conntrack
    case .counters: of = .counters
    case .packets: of = .packets
    case .devices: return
    }
    if isBlind {
      engine.blindBegan(of, at: clock.now, wall: clock.wallNow)
    } else {
      engine.blindEnded(of, at: clock.now, wall: clock.wallNow)
    }
  }

  private func reopen() {
    guard clock.now >= nextReopen else { return }
    nextReopen = .distantFuture
    for source in Source.allCases where failures[source.rawValue] != nil { open(source) }
    if failures.contains(where: { $0 != nil }) { nextReopen = clock.now + Self.reopenPeriod }
  }

  // MARK: Turning

  /// Sleeps until something is due or ready, and takes a sweep. Signals and the like are the caller's.
  ///
  /// - Parameter until: returns then at the latest.
  /// - Returns: what of the caller's own descriptors is ready.
  package func turn(until: Instant) -> EventSet {
    let ready = loop.wait(timeoutMilliseconds: timeout(until))
    sweep(ready)
    return ready
  }

  private func timeout(_ until: Instant) -> Int32 {
    let now = Clocks.monotonic()
    var due = min(until, nextReopen)
    // Counters that cannot be read are tried again with the other sources, not at once.
    if requests != nil { due = min(due, lastCounters + Self.idleCounterPeriod) }
    if lastFrames >= SweepTiming.busyFrames {
      // The next sweep is sooner: the timers need not be searched for a deadline that will not be waited for.
      due = min(due, now + SweepTiming.deadlineGranularity)
    } else if let deadline = engine.nextDeadline() {
      due = min(due, max(deadline, lastSweep + SweepTiming.deadlineGranularity))
    }
    return Int32(clamping: max(0, due - now + Nanoseconds.perMillisecond - 1) / Nanoseconds.perMillisecond)
  }

  /// Takes in what there is and judges what is due.
  ///
  /// - Parameter ready: what the loop found readable.
  package func sweep(_ ready: EventSet = EventSet()) {
    clock.sweep()
    let now = clock.now
    let horizon = WallTime(nanoseconds: clock.wallNow.nanoseconds - SweepTiming.reorderWindow)
    if nextReopen <= now { reopen() }
    let collected = ring?.collect() ?? 0
    // A device is known before its first packet is looked at.
    let isCovered = SweepTiming.isCovered(ready, loop.sweepRead, clock, keepsYoung: ring?.keeps(after: horizon) ?? true)
    if !isCovered || ready.contains(Self.devicesToken) || devices?.isCurrent == false { drainDevices() }
    drainEvents()
    drainProbe()
    let packets = drainPackets(holdUp(horizon, now))
    lastFrames = packets
    noteLosses(now)
    // Readable without a frame: an error may be why.
    if collected == 0 && ready.contains(Self.ringToken) { ring?.takeError() }
    if engine.hasNewPorts { capturePorts() }
    let period = packets > 0 ? Self.busyCounterPeriod : Self.idleCounterPeriod
    if engine.wantsCounters || now - lastCounters >= period {
      readCounters(withTableSize: engine.wantsCounters || now - lastTableSize >= Self.idleCounterPeriod)
    }
    if !hold.holdsPackets { engine.advance(to: now, wall: clock.wallNow) }
    lastSweep = now
  }

  private func drainEvents() {
    var hasMore = true
    var rounds = 0
    while hasMore && rounds < Self.drainsPerSweep {
      let more = events?.drain(prepare: { event in engine.prepare(&event) }) { event in
        tally.count(event.kind)
        engine.observe(inHand: &event)
      }
      hasMore = more ?? false
      rounds += 1
    }
    if hasMore || events?.hasMore == true { loop.requestSweep() }
  }

  /// Packets wait for an event that is held up in the ring; if that lasts, not every event was seen in that time.
  private func holdUp(_ horizon: WallTime, _ now: Instant) -> WallTime {
    let (wasOverdue, admitted) = (hold.isOverdue, hold.admit(horizon, at: now, isHeldUp: events?.isHeldUp == true))
    if let since = hold.since, hold.isOverdue {
      if !wasOverdue { log.warn("a conntrack event is held up in the ring") }
      engine.blindBegan(.conntrack, at: since, wall: wall(at: since))
    } else if wasOverdue && !needsResync && isUp(.conntrack) {
      setBlind(.conntrack, false)
    }
    return admitted
  }

  /// A drop is known before its packet's first copy is looked at.
  private func drainProbe() {
    guard probe != nil else { return }
    if probe?.drain({ observation, bytes, packet in take(observation, bytes, packet) }) == true { loop.requestSweep() }
    let lost = probe?.lost ?? 0
    if lost != tally.probeEventsLost {
      engine.blindBegan(.kernelProbe, at: lastSweep, wall: wall(at: lastSweep), lost: lost &- tally.probeEventsLost)
      tally.probeEventsLost = lost
    } else if engine.isBlind(.kernelProbe) {
      engine.blindEnded(.kernelProbe, at: clock.now, wall: clock.wallNow)
    }
  }

  /// What clashes is chosen by whoever sends it: that it is no DNS message makes nothing blind.
  private func take(_ observation: ProbeObservation, _ bytes: RawSpan, _ kept: KernelProbe.Packet) {
    tally.probeEvents[Int(observation.kind.rawValue)] &+= 1
    do throws(DecodeError) {
      let packet = try decoder.decode(bytes, wireLength: kept.isLengthKnown ? kept.wholeLength : .max, etherType: kept.etherType)
      var observation = observation
      observation.wallTime = wall(at: observation.time)
      observation.sent = FiveTuple(source: packet.source, destination: packet.destination, protocolNumber: packet.transport.rawValue)
      observation.dns = packet.dns
      decoder.withName(in: bytes) { name in engine.observe(observation, name: name) }
    } catch {
      if error.isShortage && (bytes.byteCount < kept.wholeLength || !kept.isLengthKnown) {
        // Its question may lie in the part that could not be read; its copies show all of it.
        tally.probeUnread &+= 1
        engine.observeUnread(observation)
      } else {
        tally.probeErrors[Int(error.rawValue)] &+= 1
        engine.observeForeign(observation)
      }
    }
  }

  /// - Returns: the number of frames.
  private func drainPackets(_ horizon: WallTime) -> Int {
    let clock = clock
    decodedFrames = 0
    takenFrames = 0
    let taken = ring?.process(upTo: horizon, lead: FrameInHand.lead, prepare: { header, bytes in decode(header, bytes, clock) }) { bytes in
      take(bytes)
    }
    let count = taken ?? 0
    tally.frames &+= UInt64(count)
    if let held = ring?.heldFrames, held > 0 { loop.requestSweep() }
    return count
  }

  /// Decodes a frame ahead of its turn, so that the engine's tables are in the cache when that comes.
  private func decode(_ header: FrameHeader, _ bytes: RawSpan, _ clock: WallToMonotonic) {
    let place = decodedFrames & (FrameInHand.places - 1)
    decodedFrames &+= 1
    if !excluded.isEmpty && excluded.contains(header.interface) {
      inHand[place].state = .nothing
      return
    }
    do throws(DecodeError) {
      guard try inHand[place].decode(header, bytes, at: clock.instant(of: header.stamp), &decoder) else { return }
    } catch {
      tally.decodeErrors[Int(error.rawValue)] &+= 1
      return
    }
    engine.prepare(query: &inHand[place].packet)
  }

  /// Gives the engine the next of the frames that were decoded.
  private func take(_ bytes: RawSpan) {
    let place = takenFrames & (FrameInHand.places - 1)
    takenFrames &+= 1
    switch inHand[place].state {
    case .nothing: break
    case .plain: engine.observe(inHand[place].packet, name: bytes.extracting(inHand[place].nameStart..<inHand[place].nameEnd))
    case .again: takeAgain(&inHand[place], bytes)
    }
  }

  /// An ICMP error, or a name in more than one piece: the decoder has forgotten it, as other frames were decoded since.
  private func takeAgain(_ frame: inout FrameInHand, _ bytes: RawSpan) {
    let hasBadChecksum = frame.packet.hasBadChecksum
    do throws(DecodeError) {
      try decoder.observe(bytes, wireLength: frame.wireLength, etherType: frame.etherType, into: &frame.packet)
    } catch {
      return
    }
    let packet = frame.packet
    if packet.transport == .icmp || packet.transport == .icmpv6 {
      engine.observe(
        RefusalObservation(
          time: packet.time, interface: packet.interface, isOutgoing: packet.isOutgoing, error: decoder.icmpError,
          quoted: FiveTuple(udp: packet.source, packet.destination), dns: packet.dns))
      return
    }
    frame.packet.hasBadChecksum = hasBadChecksum
    decoder.withName(in: bytes) { name in engine.observe(frame.packet, name: name) }
  }

  // MARK: Losses of our own

  private func wall(at instant: Instant) -> WallTime { WallTime(nanoseconds: clock.wallNow.nanoseconds &- (clock.now - instant)) }

  private func noteLosses(_ now: Instant) {
    if let statistics = ring?.statistics() {
      tally.packets = statistics.packets
      let lost = statistics.drops
      if lost != packetsLostSeen {
        engine.blindBegan(.packets, at: lastPacketStatistics, wall: wall(at: lastPacketStatistics), lost: lost &- packetsLostSeen)
        tally.packetsLost &+= lost &- packetsLostSeen
        packetsLostSeen = lost
      } else if engine.isBlind(.packets) {
        engine.blindEnded(.packets, at: now, wall: clock.wallNow)
      }
      lastPacketStatistics = now
    }
    if let lost = events?.readLost() {
      if lost != eventsLostSeen {
        engine.blindBegan(.conntrack, at: lastSweep, wall: wall(at: lastSweep), lost: lost &- eventsLostSeen)
        tally.eventsLost &+= lost &- eventsLostSeen
        eventsLostSeen = lost
        needsResync = true
      } else if needsResync {
        resync()
      }
    }
  }

  /// Reads the whole table, at the start and after events were lost.
  private func resync() {
    guard requests != nil, events != nil else { return }
    needsResync = false
    if engine.isBlind(.conntrack) { engine.forgetEntries() }
    do throws(SetupError) {
      guard let dump = try requests?.dump(ports: capturedPorts, { event in engine.observe(event) }) else { return }
      tally.dumpErrors &+= UInt64(dump.errors)
      log.debug("read the conntrack table", ["entries": .integer(Int64(dump.entries)), "kept": .integer(Int64(dump.matched))])
      if dump.isIncomplete {
        log.warn("the conntrack table changed while it was read: reading it again")
        needsResync = true
      } else {
        setBlind(.conntrack, false)
      }
    } catch {
      fail(.counters, error)
      needsResync = true
    }
  }

  // MARK: Counters, devices, ports

  private func readCounters(withTableSize: Bool) {
    do throws(SetupError) {
      guard let sample = try requests?.readCounters(into: &accumulator, withTableSize: withTableSize) else { return }
      lastCounters = sample.after
      tally.counters = sample.counters
      tally.features = sample.features
      tally.hasCounters = true
      if withTableSize {
        lastTableSize = sample.after
        tally.entries = sample.entries
        tally.entriesLimit = sample.entriesLimit
      }
      engine.observe(sample)
    } catch {
      lastCounters = clock.now
      fail(.counters, error)
    }
  }

  private func drainDevices() {
    devices?.drain { change in
      switch change {
      case .deviceChanged(let device):
        if let interfaces = options.interfaces, !interfaces.contains(device.name) {
          excluded.insert(device.index)
        } else {
          excluded.remove(device.index)
        }
        engine.deviceChanged(device.index, device.kind, master: device.master)
      case .deviceRemoved(let index):
        excluded.remove(index)
        engine.deviceRemoved(index)
      case .addressAdded(let address): engine.addressAdded(address)
      case .addressRemoved(let address): engine.addressRemoved(address)
      }
    }
  }

  /// A backend answers on another port: both kernel filters must let it through.
  private func capturePorts() {
    capturedPorts = Array((options.engine.ports + engine.takeNewPorts()).prefix(PacketFilter.maximumPorts))
    log.info("also watching a backend's port", ["ports": .text(capturedPorts.map { String($0) }.joined(separator: " "))])
    do throws(SetupError) {
      try events?.setPorts(capturedPorts)
      try ring?.setPorts(capturedPorts)
      probe?.setPorts(capturedPorts)
      // Entries that are older than the filter gave no event.
      needsResync = true
    } catch {
      log.error("cannot watch the port", ["reason": .text(error.description)])
    }
  }

  /// Takes what is left and closes what is open as unknown.
  package func close() {
    sweep()
    engine.shutDown(at: clock.now, wall: clock.wallNow)
  }
}
