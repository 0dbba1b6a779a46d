internal import Flows

/// The checksum of a UDP datagram (RFC 768, RFC 8200 8.1; RFC 1071).
package enum UDPChecksum {
  /// True if the datagram carries a checksum and it is wrong; nil where that cannot be told: a fragment, or more than was captured.
  ///
  /// - Parameters:
  ///   - bytes: what was captured of the packet, from the IP header on.
  ///   - etherType: `sll_protocol` in host order.
  package static func isWrong(_ bytes: RawSpan, etherType: UInt16) -> Bool? {
    guard let header = try? NetworkHeader.decode(bytes, wireLength: .max, etherType: etherType), header.transport == .udp, !header.isFirstFragment
    else { return nil }
    let start = header.payload
    guard bytes.byteCount - start >= 8 else { return nil }
    let length = Int(bytes.uint16(at: start + 4))
    guard length >= 8, start + length <= min(bytes.byteCount, header.end) else { return nil }
    guard bytes.uint16(at: start + 6) != 0 else { return false }
    // The pseudo-header: addresses, length, protocol.
    let addresses = bytes.octet(at: 0) >> 4 == 4 ? 12..<20 : 8..<40
    var sum = UInt32(length) + UInt32(header.transport.rawValue)
    sum += words(bytes.extracting(addresses)) + words(bytes.extracting(start..<(start + length)))
    while sum > 0xFFFF { sum = sum >> 16 + sum & 0xFFFF }
    return sum != 0xFFFF
  }

  /// The sum of the big-endian 16-bit words; an odd byte counts as if a zero followed. No more than 65,535 bytes.
  private static func words(_ bytes: RawSpan) -> UInt32 {
    var sum: UInt32 = 0
    var offset = 0
    while offset + 1 < bytes.byteCount {
      sum += UInt32(bytes.uint16(at: offset))
      offset += 2
    }
    if offset < bytes.byteCount { sum += UInt32(bytes.octet(at: offset)) << 8 }
    return sum
  }
}
