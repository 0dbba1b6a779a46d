import Flows

/// A transmission that is over, packed: what a trace needs of it.
struct FlowRecord: BitwiseCopyable {
  /// Microseconds after the first copy, plus one; 0 is "not seen".
  struct Legs: BitwiseCopyable {
    var sent: UInt32 = 0
    var came: UInt32 = 0
    var delivered: UInt32 = 0
    var untranslated: UInt32 = 0
  }

  var asked: WallTime
  var client: IPAddress
  var server: IPAddress
  var sentSource: IPAddress
  var sentDestination: IPAddress
  var incidentID: UInt64
  var legs: Legs
  var askedInterface: UInt32
  var sentInterface: UInt32
  var cameInterface: UInt32
  var deliveredInterface: UInt32
  var clientPort: UInt16
  var serverPort: UInt16
  var sentSourcePort: UInt16
  var sentDestinationPort: UInt16
  var dnsID: UInt16
  var queryType: UInt16
  var attempt: UInt16
  var vantage: Vantage
  var state: TracedFlow.State
  var verdict: Verdict
  var reason: Reason
  var grade: Grade
  var isLocalServer: Bool
  var isHandedOver: Bool

  /// What it was, without the name.
  var traced: TracedFlow {
    var flow = TracedFlow()
    flow.vantage = vantage
    flow.state = state
    flow.verdict = verdict
    flow.reason = reason
    flow.grade = grade
    flow.incidentID = incidentID
    flow.dnsID = dnsID
    flow.queryType = queryType
    flow.client = Endpoint(client, clientPort)
    flow.server = Endpoint(server, serverPort)
    flow.attempt = UInt32(attempt)
    flow.isLocalServer = isLocalServer
    flow.isHandedOver = isHandedOver
    flow.asked = TracedFlow.Leg(time: asked, interface: askedInterface)
    if legs.sent != 0 {
      flow.sent = leg(legs.sent, sentInterface)
      flow.sentSource = Endpoint(sentSource, sentSourcePort)
      flow.sentDestination = Endpoint(sentDestination, sentDestinationPort)
    }
    if legs.came != 0 { flow.came = leg(legs.came, cameInterface) }
    if legs.delivered != 0 { flow.delivered = leg(legs.delivered, deliveredInterface) }
    if legs.untranslated != 0 { flow.untranslated = leg(legs.untranslated, 0) }
    return flow
  }

  private func leg(_ microseconds: UInt32, _ interface: UInt32) -> TracedFlow.Leg {
    TracedFlow.Leg(
      time: WallTime(nanoseconds: asked.nanoseconds &+ Int64(microseconds - 1) * Nanoseconds.perMicrosecond), interface: interface)
  }
}

/// What this node saw of the queries of others, for the last minute and longer where there is room: by `flow.id`, without names.
///
/// Blocks are filled one after the other and given back when their newest flow is a minute old, so that memory follows the traffic of a minute. At
/// the cap the oldest block goes early. A search reads the numbers of all flows, 8 bytes each.
struct FlowLog: ~Copyable {
  static let keptTime = 60 * Nanoseconds.perSecond
  static let blockSize = 512

  private var ids: FixedArray<UInt64>
  private var flows: FixedArray<FlowRecord>
  private var following: FixedArray<Int32>
  private var closedAt: FixedArray<Instant>
  private var blocks: SlotPool
  private var oldest: Int32 = -1
  private var newest: Int32 = -1
  private var fill = FlowLog.blockSize
  private(set) var count = 0
  /// Flows younger than a minute that were forgotten for want of room.
  private(set) var evictions: UInt64 = 0
  /// Every flow that was over after this is still there.
  private(set) var completeSince: Instant

  /// - Parameter capacity: rounded up to whole blocks, at least two.
  init(capacity: Int, now: Instant) {
    let count = max(2, (capacity + Self.blockSize - 1) / Self.blockSize)
    ids = FixedArray(count: count * Self.blockSize)
    flows = FixedArray(count: count * Self.blockSize)
    following = FixedArray(count: count)
    closedAt = FixedArray(count: count)
    blocks = SlotPool(capacity: count)
    completeSince = now
  }

  mutating func append(_ id: UInt64, _ flow: FlowRecord, at now: Instant) {
    if fill == Self.blockSize { startBlock(now) }
    let index = Int(newest) * Self.blockSize + fill
    ids[index] = id
    flows[index] = flow
    fill += 1
    count += 1
  }

  private mutating func startBlock(_ now: Instant) {
    if newest >= 0 { closedAt[newest] = now }
    while oldest >= 0, now - closedAt[oldest] > Self.keptTime { dropOldest() }
    var block = blocks.take()
    if block == nil {
      evictions &+= UInt64(Self.blockSize)
      dropOldest()
      block = blocks.take()
    }
    guard let block else { return }
    following[block] = -1
    if newest >= 0 { following[newest] = block } else { oldest = block }
    newest = block
    fill = 0
  }

  /// A whole block: the one that is being filled is the newest and stays.
  private mutating func dropOldest() {
    let block = oldest
    oldest = following[block]
    if oldest < 0 { newest = -1 }
    completeSince = closedAt[block]
    count -= Self.blockSize
    blocks.give(back: block)
  }

  /// Calls `body` with every flow of this number, the oldest first.
  func find(_ id: UInt64, _ body: (FlowRecord) -> Void) {
    var block = oldest
    while block >= 0 {
      let start = Int(block) * Self.blockSize
      let end = start + (block == newest ? fill : Self.blockSize)
      for index in start..<end where ids[index] == id { body(flows[index]) }
      block = block == newest ? -1 : following[block]
    }
  }
}

/// The latest transmissions that clients of this node lost, with their names: as many as the page of incidents holds.
struct LostFlowLog: ~Copyable {
  static let capacity = 1024

  struct Lost: BitwiseCopyable {
    var id: UInt64
    var flow: FlowRecord
    var nameLength: UInt8
    var name: InlineArray<255, UInt8>
  }

  private var lost = FixedArray<Lost>(count: capacity)
  private var next = 0
  private(set) var count = 0
  /// When the newest of those that gave way was over; every later loss is still there.
  private(set) var completeSince: Instant
  private var endedAt = FixedArray<Instant>(count: capacity)

  init(now: Instant) { completeSince = now }

  mutating func append(_ id: UInt64, _ flow: FlowRecord, name: RawSpan, at now: Instant) {
    if count == Self.capacity { completeSince = endedAt[next] }
    lost[next].id = id
    lost[next].flow = flow
    let length = min(name.byteCount, 255)
    lost[next].nameLength = UInt8(length)
    for index in 0..<length { lost[next].name[index] = unsafe name.unsafeLoad(fromByteOffset: index, as: UInt8.self) }
    endedAt[next] = now
    next = next + 1 == Self.capacity ? 0 : next + 1
    count = min(Self.capacity, count + 1)
  }

  /// Calls `body` with every flow of this number and its name, the oldest first.
  func find(_ id: UInt64, _ body: (FlowRecord, [UInt8]) -> Void) {
    for step in 0..<count {
      let index = (next + Self.capacity - count + step) % Self.capacity
      guard lost[index].id == id else { continue }
      body(lost[index].flow, (0..<Int(lost[index].nameLength)).map { lost[index].name[$0] })
    }
  }
}
