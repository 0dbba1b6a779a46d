import CLinux
package import Flows

/// What is known of a frame beside its bytes.
package struct FrameHeader: BitwiseCopyable, Sendable {
  /// The kernel's stamp.
  package var stamp: WallTime
  /// `sll_ifindex`.
  package var interface: UInt32
  /// `sll_pkttype == PACKET_OUTGOING`. Never compare with PACKET_HOST: bridge ports show PACKET_OTHERHOST.
  package var isOutgoing: Bool
  /// Of a copy on its way in: nobody looked at the transport checksum yet, and it is not left to a device either.
  package var isChecksumOpen: Bool
  /// ETH_P_*, of the network header.
  package var protocolNumber: UInt16
  /// The VLAN ID of the tag that the kernel took off; 0 where there was none.
  package var vlan: UInt16
  /// The packet's length from the network header on; the lent bytes may be fewer.
  package var originalLength: UInt32
}

/// PACKET_STATISTICS, counted from the ring's start.
package struct PacketStatistics: BitwiseCopyable, Equatable, Sendable {
  /// Frames that passed the filter, the dropped ones included.
  package var packets: UInt64 = 0
  /// Frames that found no room in the ring.
  package var drops: UInt64 = 0
  /// How often the ring stood still because user space held every block.
  package var freezes: UInt64 = 0
}

/// How a `PacketRing` is made.
package struct PacketRingOptions: Sendable {
  /// DNS ports, on either side; up to `PacketFilter.maximumPorts`.
  package var ports: [UInt16] = [53]
  /// False spares the copies on their way out (PACKET_IGNORE_OUTGOING, Linux 4.20): a reduced mode.
  package var capturesOutgoing = true
  /// Bytes, a power of two and a multiple of the page size.
  /// Blocks are handed over when they are full or 10 ms after their first frame, so small ones let the reader sleep for seconds at low load.
  package var blockSize: UInt32 = 16 << 10
  package var blockCount: UInt32 = 256
  /// After how many milliseconds the kernel hands over a block that is not full.
  package var retireMilliseconds: UInt32 = 10
  /// Bytes kept of a packet, from the network header.
  package var snapLength: UInt32 = 512

  package init() {}
}

/// A tap on every device of the network namespace: an AF_PACKET socket with a TPACKET_V3 ring and a kernel filter for DNS ports.
///
/// Read in sweeps: `collect` looks at the blocks that the kernel handed over, `process` lends their frames in order of time. Frames newer than the
/// horizon stay in the ring, with their blocks, until a later sweep. Nothing is allocated per frame. Needs CAP_NET_RAW.
@safe package struct PacketRing: ~Copyable {
  private let socket: Descriptor
  private let memory: UnsafeMutableRawPointer
  /// A power of two, and which.
  private let blockSize: Int
  private let blockShift: Int
  private let blockCount: Int
  private let snapLength: UInt32
  /// Frames of each block that are not processed yet. Written for blocks that are collected only.
  private let waiting: UnsafeMutableBufferPointer<UInt32>
  private var order: FrameOrder
  /// The block that the kernel hands over next, and how many before it are collected and not given back.
  private var nextBlock = 0
  package private(set) var heldBlocks = 0
  private var totals = PacketStatistics()
  /// Frames that did not lie within their block. The kernel writes none such.
  package private(set) var malformed: UInt64 = 0
  /// Pending errors of the socket that were taken (ENETDOWN and the like).
  package private(set) var socketErrors: UInt64 = 0

  /// Every frame takes at least this: 96 bytes up to the network header and the smallest packet the filter passes, rounded to 8.
  private static let smallestFrame = 120
  private static var framesAhead: UInt { 4 }
  private static let needsRaw = "needs CAP_NET_RAW"
  /// A horizon further behind a stamp than this was read after the wall clock was set back.
  private static var longestHold: Int64 { Nanoseconds.perSecond }

  /// Opens, filters, maps, binds, in this order: no frame that the filter would refuse is ever in the ring.
  package init(_ options: PacketRingOptions = PacketRingOptions()) throws(SetupError) {
    let filter = try PacketFilter(ports: options.ports, snapLength: options.snapLength)
    guard options.blockSize >= 4096, options.blockSize & (options.blockSize - 1) == 0, options.blockCount >= 2,
      UInt64(options.blockSize) * UInt64(options.blockCount) <= 1 << 31
    else {
      throw SetupError(
        "packet ring", cause: "\(options.blockCount) blocks of \(options.blockSize) bytes",
        remedy: "use at least two blocks, a power of two of at least 4096 bytes each, 2 GiB in all")
    }
    let socket = try Descriptor(clinux_packet_open(), "packet socket", remedy: Self.needsRaw)
    try Self.attach(filter, socket.number)
    if !options.capturesOutgoing {
      try SetupError.check(clinux_packet_ignore_outgoing(socket.number), "PACKET_IGNORE_OUTGOING", remedy: "capture both directions")
    }
    var mapping: UnsafeMutableRawPointer?
    let result = unsafe clinux_packet_map(socket.number, options.blockSize, options.blockCount, options.retireMilliseconds, &mapping)
    guard result >= 0, let mapped = unsafe mapping else {
      throw SetupError("packet ring", systemCall: result, remedy: "make it smaller or free memory")
    }
    let bound = clinux_packet_bind(socket.number)
    guard bound >= 0 else {
      unsafe clinux_packet_unmap(mapped, Int(options.blockSize) * Int(options.blockCount))
      throw SetupError("bind of the packet socket", systemCall: bound, remedy: Self.needsRaw)
    }
    unsafe self.init(socket: socket, memory: mapped, options)
  }

  /// - Parameter memory: the ring's mapping, unmapped with it.
  init(socket: consuming Descriptor, memory: UnsafeMutableRawPointer, _ options: PacketRingOptions) {
    self.socket = socket
    unsafe self.memory = memory
    blockSize = Int(options.blockSize)
    blockShift = blockSize.trailingZeroBitCount
    blockCount = Int(options.blockCount)
    snapLength = options.snapLength
    unsafe waiting = .allocate(capacity: blockCount)
    unsafe waiting.initialize(repeating: 0)
    order = FrameOrder(capacity: blockSize * blockCount / Self.smallestFrame)
  }

  deinit {
    unsafe waiting.deallocate()
    unsafe clinux_packet_unmap(memory, blockSize * blockCount)
  }

  package var descriptor: Int32 { socket.number }
  /// Frames that are collected and not processed.
  package var heldFrames: Int { order.count }

  /// The stamp of a collected frame, counted from the oldest: nanoseconds of CLOCK_REALTIME.
  package func stampOfHeldFrame(_ index: Int) -> Int64 { order[index].stamp }

  /// Replaces the ports while frames come in; those already in the ring stay.
  package func setPorts(_ ports: [UInt16]) throws(SetupError) {
    try Self.attach(PacketFilter(ports: ports, snapLength: snapLength), socket.number)
  }

  private static func attach(_ filter: PacketFilter, _ descriptor: Int32) throws(SetupError) {
    let program = filter.program
    try SetupError.check(
      unsafe clinux_attach_filter(descriptor, program, UInt16(program.count)), "SO_ATTACH_FILTER", remedy: "raise net.core.optmem_max")
  }

  /// Takes note of the frames in all blocks that the kernel handed over since the last time, and sorts them by their stamps.
  ///
  /// - Returns: the number of new frames.
  @discardableResult
  package mutating func collect() -> Int {
    let before = order.count
    while heldBlocks < blockCount {
      let base = nextBlock * blockSize
      guard unsafe clinux_block_is_owned(memory + base) != 0 else { break }
      let frames = unsafe Int(clinux_block_frames(memory + base))
      guard frames <= order.capacity - order.count else { break }
      let found = index(frames, inBlockAt: base)
      heldBlocks += 1
      unsafe waiting[nextBlock] = UInt32(found)
      if found == 0 { release(nextBlock) }
      nextBlock = nextBlock + 1 == blockCount ? 0 : nextBlock + 1
    }
    order.sort()
    return order.count - before
  }

  /// Notes the frames of one block, asking for the lines of those a few ahead while it reads: they lie one behind the other and are of like sizes.
  ///
  /// - Precondition: there is room for `frames` in the order.
  private mutating func index(_ frames: Int, inBlockAt base: Int) -> Int {
    let block = unsafe UnsafeRawPointer(memory + base)
    let size = UInt(bitPattern: blockSize)
    let last = size &- UInt(CLINUX_FRAME_HEADER)
    var offset = unsafe UInt(clinux_block_first(block))
    var tail = order.tail(room: frames)
    var number = 0
    while number < frames, offset <= last {
      let frame = unsafe block + Int(bitPattern: offset)
      // All are 32 bits wide, so no sum can overflow.
      let next = unsafe UInt(clinux_frame_next(frame))
      unsafe clinux_frame_prefetch(frame + Int(bitPattern: Self.framesAhead &* next))
      guard unsafe UInt(clinux_frame_data(frame)) &+ UInt(clinux_frame_captured(frame)) <= size &- offset else { break }
      tail.append(stamp: unsafe clinux_frame_stamp(frame), offset: UInt32(truncatingIfNeeded: UInt(bitPattern: base) &+ offset))
      offset &+= next
      number &+= 1
    }
    order.take(tail)
    malformed &+= UInt64(frames - number)
    return number
  }

  private mutating func release(_ block: Int) {
    unsafe clinux_block_release(memory + block * blockSize)
    heldBlocks -= 1
  }

  /// Lends the collected frames up to the horizon in order of time, and gives back each block whose frames are all done.
  ///
  /// Where three quarters of the ring are held, or the wall clock was set back, nothing is held: order across sweeps is worth less than frames.
  ///
  /// - Parameters:
  ///   - horizon: frames stamped later stay for the next sweep.
  ///   - body: gets a frame's description and its bytes, from the network header on. The bytes are gone when it returns.
  /// - Returns: the number of frames lent.
  @discardableResult
  package mutating func process(upTo horizon: WallTime, _ body: (FrameHeader, RawSpan) -> Void) -> Int {
    process(upTo: horizon, lead: 0, prepare: body) { _ in }
  }

  /// The same in two steps, both in order of time.
  ///
  /// - Parameters:
  ///   - lead: how many frames `prepare` is ahead of `body`.
  ///   - prepare: gets a frame's description and its bytes.
  ///   - body: gets the bytes once more; they are gone when it returns.
  package mutating func process(upTo horizon: WallTime, lead: Int, prepare: (FrameHeader, RawSpan) -> Void, _ body: (RawSpan) -> Void) -> Int {
    let number = dueFrames(horizon)
    // What the caller does may change anything, so far as the compiler knows: it would read these again for each frame.
    let (memory, due, waiting, shift) = unsafe (self.memory, order.first(number), self.waiting.baseAddress!, blockShift)
    for index in 0..<(number &+ lead) {
      if index < number {
        let start = unsafe memory + Int(due[index].offset)
        let frame = unsafe clinux_frame_read(start)
        let header = FrameHeader(
          stamp: WallTime(nanoseconds: frame.stamp_ns), interface: frame.interface, isOutgoing: frame.packet_type == UInt8(PACKET_OUTGOING),
          isChecksumOpen: frame.is_checksum_open != 0, protocolNumber: frame.protocol, vlan: frame.vlan, originalLength: frame.length)
        prepare(header, unsafe RawSpan(_unsafeStart: start + Int(frame.data), byteCount: Int(frame.captured)))
      }
      guard index >= lead else { continue }
      let offset = unsafe Int(due[index &- lead].offset)
      let start = unsafe memory + offset
      body(unsafe RawSpan(_unsafeStart: start + Int(clinux_frame_data(start)), byteCount: Int(clinux_frame_captured(start))))
      let block = offset &>> shift
      let left = unsafe waiting[block] &- 1
      unsafe waiting[block] = left
      if left == 0 { release(block) }
    }
    order.removeFirst(number)
    return number
  }

  /// True if no frame that is collected and stamped later than the horizon will be lent.
  package mutating func keeps(after horizon: WallTime) -> Bool {
    let count = order.count
    if count == 0 { return true }
    if order.isStepped || heldBlocks >= max(1, blockCount - blockCount / 4) { return false }
    let (latest, overflow) = horizon.nanoseconds.addingReportingOverflow(Self.longestHold)
    return overflow || order[count - 1].stamp <= latest
  }

  private mutating func dueFrames(_ horizon: WallTime) -> Int {
    let count = order.count
    guard count > 0, keeps(after: horizon), order[count - 1].stamp > horizon.nanoseconds else { return count }
    var low = 0
    var high = count
    while low < high {
      let middle = (low + high) / 2
      if order[middle].stamp <= horizon.nanoseconds { low = middle + 1 } else { high = middle }
    }
    return low
  }

  /// Reads the kernel's counters. After each sweep: nothing in the ring is known to tell of a loss in time. By net/packet/af_packet.c, which was read
  /// and not measured, a block's TP_STATUS_LOSING is set when it is closed.
  package mutating func statistics() -> PacketStatistics {
    var read = clinux_packet_statistics()
    if unsafe clinux_packet_statistics(socket.number, &read) >= 0 {
      totals.packets &+= UInt64(read.packets)
      totals.drops &+= UInt64(read.drops)
      totals.freezes &+= UInt64(read.freezes)
    }
    return totals
  }

  /// Takes a pending error of the socket, which would keep its descriptor readable for ever.
  package mutating func takeError() { if clinux_take_error(socket.number) != 0 { socketErrors &+= 1 } }
}
