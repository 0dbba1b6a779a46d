import Flows
import LinuxIO
import Wire

/// A frame between the decoder and the engine. It is written where it stands: to build one elsewhere and copy it costs more than to decode it.
struct FrameInHand: BitwiseCopyable {
  enum State: UInt8, BitwiseCopyable {
    /// Excluded, or refused by the decoder.
    case nothing
    /// The name stands in the frame in one piece.
    case plain
    /// What the decoder said of it beside the packet is needed: it decodes it once more.
    case again
  }

  /// How many frames the decoder is ahead, and places for them: a power of two above that.
  static let lead = 4
  static let places = 8

  var packet = PacketObservation(
    time: .zero, wallTime: WallTime(nanoseconds: 0), interface: 0, isOutgoing: false, source: .none, destination: .none, dns: DNSMessage())
  var state = State.nothing
  private(set) var etherType: UInt16 = 0
  /// Thirty-two bits each, so that a place has 128 bytes. A captured packet has not even 65,536.
  private var originalLength: UInt32 = 0
  private var start: UInt32 = 0
  private var end: UInt32 = 0

  /// The packet's length before it was cut.
  var wireLength: Int { Int(originalLength) }
  /// Of the name in the frame.
  var nameStart: Int { Int(start) }
  var nameEnd: Int { Int(end) }

  /// Decodes a frame into this place.
  ///
  /// - Returns: true if it is a query and nothing else is needed of it.
  @inline(__always)
  mutating func decode(
    _ header: FrameHeader, _ bytes: RawSpan, at time: Instant, _ decoder: inout PacketDecoder
  ) throws(DecodeError) -> Bool {
    packet.time = time
    packet.wallTime = header.stamp
    packet.interface = header.interface
    packet.isOutgoing = header.isOutgoing
    let nameEnd = decoder.observeUsual(bytes, wireLength: Int(header.originalLength), etherType: header.protocolNumber, into: &packet)
    if nameEnd == 0 { return try decodeAny(header, bytes, &decoder) }
    state = .plain
    start = UInt32(truncatingIfNeeded: PacketDecoder.usualNameOffset)
    end = UInt32(truncatingIfNeeded: nameEnd)
    if packet.dns.isResponse { return false }
    if header.isChecksumOpen && !header.isOutgoing {
      packet.hasBadChecksum = UDPChecksum.isWrong(bytes, etherType: header.protocolNumber) == true
    }
    return true
  }

  @inline(never)
  private mutating func decodeAny(_ header: FrameHeader, _ bytes: RawSpan, _ decoder: inout PacketDecoder) throws(DecodeError) -> Bool {
    state = .nothing
    try decoder.observe(bytes, wireLength: Int(header.originalLength), etherType: header.protocolNumber, into: &packet)
    let isQuery = packet.transport == .udp && !packet.dns.isResponse
    if isQuery && header.isChecksumOpen && !header.isOutgoing {
      packet.hasBadChecksum = UDPChecksum.isWrong(bytes, etherType: header.protocolNumber) == true
    }
    if packet.transport == .icmp || packet.transport == .icmpv6 || decoder.nameOffset < 0 {
      state = .again
      etherType = header.protocolNumber
      originalLength = header.originalLength
      return false
    }
    state = .plain
    start = UInt32(truncatingIfNeeded: decoder.nameOffset)
    end = UInt32(truncatingIfNeeded: decoder.nameOffset &+ decoder.nameLength)
    return isQuery
  }
}
