import Flows

@testable import Correlation

let second = Nanoseconds.perSecond
let millisecond = Nanoseconds.perMillisecond
let microsecond = Nanoseconds.perMicrosecond

func v4(_ text: String) -> IPAddress { IPAddress(text)! }
func endpoint(_ text: String, _ port: UInt16 = 53) -> Endpoint { Endpoint(IPAddress(text)!, port) }

/// An engine on a virtual clock with a node around it: client pods on devices 11 and 12, backends on 21 and 22, an uplink 2, a bridge 5.
final class Scenario {
  static let start = Instant(nanoseconds: 1_000 * second)
  static let wallStart: Int64 = 1_795_000_000 * second

  let pod = v4("10.0.1.2")
  let otherPod = v4("10.0.2.2")
  let vip = endpoint("10.96.0.10")
  let secondVIP = endpoint("10.96.0.11")
  let backend = endpoint("10.1.1.2")
  let secondBackend = endpoint("10.1.2.2")
  let nodeAddress = v4("192.168.7.1")

  var engine: Engine
  var at = Scenario.start
  var counters = ConntrackCounters()
  var features: ConntrackFeatures = [.clashResolve, .chainTooLong]
  var records: [Record] = []
  /// Reads the counters whenever the engine asks, as the agent does, and every 100 ms.
  var readsCounters = true
  private var lastRead = Instant.zero

  init(_ change: (inout EngineConfiguration) -> Void = { _ in }) {
    var configuration = EngineConfiguration()
    configuration.transmissions = 1024
    configuration.entries = 1024
    configuration.services = 64
    configuration.nameBytes = 65536
    configuration.seed = 42
    change(&configuration)
    engine = Engine(configuration, now: at, wall: WallTime(nanoseconds: Self.wallStart))
    for (index, kind) in [(11, .workload), (12, .workload), (21, .workload), (22, .workload), (2, .uplink), (5, .bridge)]
      as [(UInt32, NetworkDevice.Kind)]
    {
      engine.deviceChanged(index, kind)
    }
    engine.addressAdded(nodeAddress)
    read()
  }

  /// How far the wall clock was set, nanoseconds.
  var wallStep: Int64 = 0
  var wall: WallTime { WallTime(nanoseconds: Self.wallStart + (at - Self.start) + wallStep) }

  /// What a reading says of the table's size; 0 is nothing.
  var entries: UInt32 = 0

  func read() {
    guard readsCounters else { return }
    engine.observe(
      CounterSample(
        before: at, after: at + 20 * microsecond, counters: counters, features: features, entries: entries, entriesLimit: entries == 0 ? 0 : 1000))
    lastRead = at
  }

  /// Moves the clock on in sweeps of 10 ms.
  func wait(_ nanoseconds: Int64) {
    let end = at + nanoseconds
    while at < end {
      at = min(end, at + 10 * millisecond)
      engine.advance(to: at, wall: wall)
      if engine.wantsCounters || at - lastRead >= 100 * millisecond { read() }
      records += engine.records
      engine.records.removeAll()
    }
  }

  /// Moves the clock on within a sweep.
  func pass(_ nanoseconds: Int64) { at = at + nanoseconds }

  static func wire(_ name: String) -> [UInt8] {
    name.split(separator: ".").flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) } + [0]
  }

  func message(_ id: UInt16, _ name: String, _ type: UInt16, response: Bool = false, code: UInt16 = 0) -> DNSMessage {
    var dns = DNSMessage()
    dns.id = id
    dns.isResponse = response
    dns.questionCount = 1
    dns.queryType = type
    dns.queryClass = 1
    dns.responseCode = code
    var hash = SeededHash(seed: 7)
    for byte in name.lowercased().utf8 { hash.combine(UInt64(byte)) }
    dns.nameHash = hash.finish()
    hash.combine(UInt64(type))
    dns.questionHash = hash.finish()
    return dns
  }

  func copy(
    _ source: Endpoint, _ destination: Endpoint, on device: UInt32, out: Bool, _ dns: DNSMessage, name: String, tcp: Bool = false,
    badChecksum: Bool = false
  ) {
    let packet = PacketObservation(
      time: at, wallTime: wall, interface: device, isOutgoing: out, source: source, destination: destination, transport: tcp ? .tcp : .udp,
      hasBadChecksum: badChecksum, dns: dns)
    let wire = Scenario.wire(name)
    engine.observe(packet, name: wire.span.bytes)
    pass(microsecond)
  }

  func new(
    _ original: (Endpoint, Endpoint), reply: (Endpoint, Endpoint), zone: UInt16 = 0, kind: ConntrackEvent.Kind = .new, status: ConntrackStatus = []
  ) {
    engine.observe(
      ConntrackEvent(
        kind: kind, original: FiveTuple(udp: original.0, original.1), reply: FiveTuple(udp: reply.0, reply.1), zone: zone, status: status,
        readAt: at + 5 * millisecond))
  }

  /// An ICMP error about a datagram from `source` to `destination`.
  func refuse(
    _ source: Endpoint, _ destination: Endpoint, by sender: IPAddress, on device: UInt32, out: Bool = false, _ dns: DNSMessage?, type: UInt8 = 3,
    code: UInt8 = 3
  ) {
    var error = ICMPError()
    error.sender = sender
    error.receiver = source.address
    error.type = type
    error.code = code
    error.quotesID = dns != nil
    engine.observe(
      RefusalObservation(
        time: at, interface: device, isOutgoing: out, error: error, quoted: FiveTuple(udp: source, destination), dns: dns ?? DNSMessage()))
    pass(microsecond)
  }

  var losses: [LostQuery] { records.compactMap { if case .lost(let lost) = $0 { lost } else { nil } } }
  var closings: [ClosedQuery] { records.compactMap { if case .closed(let closed) = $0 { closed } else { nil } } }

  // The engine is not copyable, which #expect would need.
  var isSentObservable: Bool { engine.isSentObservable() }
  var isDeliveredObservable: Bool { engine.isDeliveredObservable() }
  var isTablesBlind: Bool { engine.isBlind(.tables) }

  var isConserved: Bool {
    let totals = engine.totals
    return totals.transmissions[0] == totals.answered + totals.lost + totals.unknown + totals.evicted + totals.open
  }
}

/// One query through the node, leg by leg.
struct Ask {
  var scenario: Scenario
  var client: Endpoint
  var server: Endpoint
  var backend: Endpoint
  var id: UInt16 = 1
  var name = "a.example"
  var type: UInt16 = QueryType.a
  var device: UInt32 = 11
  var backendDevice: UInt32 = 21
  /// Source of the sent leg where the client is masqueraded.
  var natted: Endpoint?

  init(
    _ scenario: Scenario, port: UInt16, to server: Endpoint? = nil, backend: Endpoint? = nil, id: UInt16 = 1, name: String = "a.example",
    type: UInt16 = QueryType.a, from pod: IPAddress? = nil, device: UInt32 = 11
  ) {
    self.scenario = scenario
    client = Endpoint(pod ?? scenario.pod, port)
    self.server = server ?? scenario.vip
    self.backend = backend ?? scenario.backend
    self.id = id
    self.name = name
    self.type = type
    self.device = device
    backendDevice = self.backend == scenario.secondBackend ? 22 : 21
  }

  var sentFrom: Endpoint { natted ?? client }
  var query: DNSMessage { scenario.message(id, name, type) }
  func answerMessage(_ code: UInt16 = 0) -> DNSMessage { scenario.message(id, name, type, response: true, code: code) }

  func asked() { scenario.copy(client, server, on: device, out: false, query, name: name) }
  func entry() { scenario.new((client, server), reply: (backend, sentFrom)) }
  func sent() { scenario.copy(sentFrom, backend, on: backendDevice, out: true, query, name: name) }
  func came(_ code: UInt16 = 0) { scenario.copy(backend, sentFrom, on: backendDevice, out: false, answerMessage(code), name: name) }
  func delivered(_ code: UInt16 = 0) { scenario.copy(server, client, on: device, out: true, answerMessage(code), name: name) }
  /// The backend's own host says that nobody listens there.
  func refused() { scenario.refuse(sentFrom, backend, by: backend.address, on: backendDevice, query) }
  func untranslated() { scenario.copy(backend, client, on: device, out: true, answerMessage(), name: name) }

  /// The whole way, as an ordinary lookup goes.
  func answered() {
    entry()
    asked()
    scenario.pass(10 * microsecond)
    sent()
    scenario.pass(200 * microsecond)
    came()
    delivered()
  }
}

extension Scenario {
  /// Ordinary lookups that show the paths and teach the backends of both service addresses.
  func warmUp() {
    for (index, server) in [vip, secondVIP, vip, secondVIP].enumerated() {
      Ask(self, port: UInt16(20000 + index), to: server, id: UInt16(index + 1)).answered()
      Ask(self, port: UInt16(21000 + index), to: server, id: UInt16(index + 1), from: otherPod, device: 12).answered()
      wait(20 * millisecond)
    }
    wait(2 * second)
  }
}
