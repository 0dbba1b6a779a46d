internal import Flows

/// The checksum of a UDP datagram (RFC 768, RFC 8200 8.1; RFC 1071).
package enum UDPChecksum {
  /// True if the datagram carries a checksum and it is wrong; nil where that cannot be told: a fragment, or more than was captured.
  ///
  /// - Parameters:
  ///   - bytes: what was captured of the packet, from the IP header on.
  ///   - etherType: `sll_protocol` in host order.
  package static func isWrong(_ bytes: RawSpan, etherType: UInt16) -> Bool? {
    isWrongInUsual(bytes, etherType: etherType) ?? isWrongInAny(bytes, etherType: etherType)
  }

  /// The same of an IPv4 packet without options that is whole and that the datagram fills, in fewer steps; nil of any other.
  @inline(__always) private static func isWrongInUsual(_ bytes: RawSpan, etherType: UInt16) -> Bool? {
    // All that is loaded without a check lies before 28, then before `total`.
    guard etherType == 0x0800, bytes.byteCount >= 28 else { return nil }
    let total = Int(bytes.uncheckedUInt16(at: 2))
    let length = bytes.uncheckedUInt16(at: 24)
    guard bytes.uncheckedOctet(at: 0) == 0x45, bytes.uncheckedOctet(at: 9) == 17, bytes.uncheckedUInt16(at: 6) & 0x3FFF == 0,
      total >= 28, total <= bytes.byteCount, Int(length) &+ 20 == total
    else { return nil }
    guard bytes.uncheckedUInt16(at: 26) != 0 else { return false }
    // The addresses stand before the datagram, so one run covers both. Eight bytes at a time, and the carry comes in again at the lower end: the sum
    // is the same (RFC 1071 2), with its bytes in the other order as those of the words are. From 12 to 28 the loop always finds two.
    var sum = UInt64(length.byteSwapped) &+ 17 << 8
    var offset = 12
    let last = total &- 8
    while offset < last {
      sum = plus(sum, bytes.uncheckedLittleEndian(at: offset))
      offset &+= 8
    }
    // One to eight bytes are left, the upper ones of the last eight.
    sum = plus(sum, bytes.uncheckedLittleEndian(at: last) &>> UInt64(truncatingIfNeeded: 8 &* (offset &- last)))
    // Folded to 33 bits, to 32, to 17 and to 16; none of the sums overflows.
    sum = sum >> 32 &+ sum & 0xFFFF_FFFF
    sum = sum >> 32 &+ sum & 0xFFFF_FFFF
    sum = sum >> 16 &+ sum & 0xFFFF
    sum = sum >> 16 &+ sum & 0xFFFF
    return sum != 0xFFFF
  }

  @inline(__always) private static func plus(_ a: UInt64, _ b: UInt64) -> UInt64 {
    let (sum, carries) = a.addingReportingOverflow(b)
    return sum &+ (carries ? 1 : 0)
  }

  @inline(never) package static func isWrongInAny(_ bytes: RawSpan, etherType: UInt16) -> Bool? {
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
