internal import Flows

/// What the IP headers say: addresses, transport, and where its header stands (RFC 791, RFC 8200).
struct NetworkHeader: BitwiseCopyable {
  var source: IPAddress
  var destination: IPAddress
  var transport: TransportProtocol
  /// Offset of the transport header; may lie past what was captured.
  var payload: Int
  /// Offset past the packet's last byte, by its own length field; `Int.max` where that is 0 (jumbograms, BIG TCP).
  var end: Int
  /// The first of several fragments.
  var isFirstFragment: Bool

  /// Extension headers followed in one packet. RFC 8200 4.1 orders seven, each once but for destination options.
  static let extensionLimit = 8
  private static let etherTypeIPv4: UInt16 = 0x0800
  private static let etherTypeIPv6: UInt16 = 0x86DD

  /// - Parameters:
  ///   - bytes: the packet as captured, from the IP header on.
  ///   - wireLength: its length before it was cut to the snap length.
  @inline(__always) static func decode(_ bytes: RawSpan, wireLength: Int, etherType: UInt16) throws(DecodeError) -> NetworkHeader {
    switch etherType {
    case etherTypeIPv4: try decodeIPv4(bytes, wireLength: wireLength)
    case etherTypeIPv6: try decodeIPv6(bytes, wireLength: wireLength)
    default: throw .notIP
    }
  }

  @inline(__always) private static func decodeIPv4(_ bytes: RawSpan, wireLength: Int) throws(DecodeError) -> NetworkHeader {
    guard bytes.byteCount >= 20 else { throw .truncatedIP }
    // Version, header length, total length and fragment; then transport and source: two loads in place of six.
    let first = bytes.uint64(at: 0)
    let second = bytes.uint64(at: 8)
    let headerLength = Int(first >> 56 & 0x0F) * 4
    let totalLength = Int(first >> 32 & 0xFFFF)
    guard first >> 60 == 4, headerLength >= 20, totalLength == 0 || (totalLength >= headerLength && totalLength <= wireLength)
    else { throw .badIP }
    guard bytes.byteCount >= headerLength else { throw .truncatedIP }
    let fragment = first & 0xFFFF
    guard fragment & 0x1FFF == 0 else { throw .laterFragment }
    guard let transport = TransportProtocol(rawValue: UInt8(truncatingIfNeeded: second >> 48)), transport != .icmpv6 else { throw .notDNS }
    return NetworkHeader(
      source: IPAddress(v4: UInt32(truncatingIfNeeded: second)), destination: IPAddress(v4: bytes.uint32(at: 16)), transport: transport,
      payload: headerLength, end: totalLength == 0 ? .max : totalLength, isFirstFragment: fragment & 0x2000 != 0)
  }

  @inline(never) private static func decodeIPv6(_ bytes: RawSpan, wireLength: Int) throws(DecodeError) -> NetworkHeader {
    guard bytes.byteCount >= 40 else { throw .truncatedIP }
    let payloadLength = Int(bytes.uint16(at: 4))
    guard bytes.octet(at: 0) >> 4 == 6, payloadLength == 0 || payloadLength + 40 <= wireLength else { throw .badIP }
    let source = IPAddress(high: bytes.uint64(at: 8), low: bytes.uint64(at: 16))
    let destination = IPAddress(high: bytes.uint64(at: 24), low: bytes.uint64(at: 32))
    guard !source.isV4, !destination.isV4 else { throw .mappedAddress }
    let end = payloadLength == 0 ? Int.max : payloadLength + 40
    let limit = min(bytes.byteCount, end)
    var next = bytes.octet(at: 6)
    var offset = 40
    var isFirstFragment = false
    for _ in 0...extensionLimit {
      if let transport = TransportProtocol(rawValue: next), transport != .icmp {
        return NetworkHeader(
          source: source, destination: destination, transport: transport, payload: offset, end: end, isFirstFragment: isFirstFragment)
      }
      guard let kind = ExtensionHeader(rawValue: next) else { throw .notDNS }
      // Every extension header has at least eight bytes (RFC 8200 4).
      guard limit - offset >= 8 else { throw .truncatedIP }
      next = bytes.octet(at: offset)
      let length = Int(bytes.octet(at: offset + 1))
      switch kind {
      case .hopByHop, .routing, .destinationOptions:
        offset += (length + 1) * 8
      case .authentication:
        // Counted in 4-byte units, minus 2 (RFC 4302 2.2).
        offset += (length + 2) * 4
      case .fragment:
        let fragment = bytes.uint16(at: offset + 2)
        guard fragment & 0xFFF8 == 0 else { throw .laterFragment }
        isFirstFragment = fragment & 1 != 0
        offset += 8
      }
    }
    throw .tooManyExtensions
  }
}

/// The extension headers that may stand before UDP or TCP (IANA, Assigned Internet Protocol Numbers).
private enum ExtensionHeader: UInt8, BitwiseCopyable {
  case hopByHop = 0
  case routing = 43
  case fragment = 44
  case authentication = 51
  case destinationOptions = 60
}
