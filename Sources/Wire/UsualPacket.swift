public import Flows

/// The packet that nearly all are: IPv4 without options, whole, a whole UDP datagram in it, a question whose name stands in one piece.
extension PacketDecoder {
  /// Where its name begins: behind the IPv4, the UDP and the DNS header.
  @inlinable package static var usualNameOffset: Int { 40 }
  /// With the root as its name, and the type and the class.
  @inlinable static var shortestUsual: Int { 45 }

  /// Does what `observe` does, in fewer steps and where its caller stands.
  ///
  /// - Returns: the offset after the name in the packet; 0 where the packet is another, which means nothing more than that `observe` must be asked.
  @inlinable @inline(__always)
  package mutating func observeUsual(_ bytes: RawSpan, wireLength: Int, etherType: UInt16, into packet: inout PacketObservation) -> Int {
    // All that is loaded without a check lies before `shortestUsual`, what is left of the packet before `total`.
    let limit = min(bytes.byteCount, wireLength)
    guard etherType == 0x0800, limit >= Self.shortestUsual else { return 0 }
    // Version and header length; UDP; neither more fragments nor an offset.
    guard bytes.uncheckedOctet(at: 0) == 0x45, bytes.uncheckedOctet(at: 9) == 17, bytes.uncheckedUInt16(at: 6) & 0x3FFF == 0 else { return 0 }
    // From the shortest to the limit: what is less becomes a large number.
    let total = Int(bytes.uncheckedUInt16(at: 2))
    guard UInt(bitPattern: total &- Self.shortestUsual) <= UInt(bitPattern: limit &- Self.shortestUsual) else { return 0 }
    // The datagram fills the packet, and has a question.
    guard bytes.uncheckedUInt16(at: 24) == UInt16(truncatingIfNeeded: total &- 20), bytes.uncheckedUInt16(at: 32) > 0 else { return 0 }
    let length = readPlainQuestion(bytes, at: Self.usualNameOffset, count: total &- Self.usualNameOffset, into: &packet.dns)
    guard length > 0 else { return 0 }
    packet.source = Endpoint(IPAddress(v4: bytes.uncheckedUInt32(at: 12)), bytes.uncheckedUInt16(at: 20))
    packet.destination = Endpoint(IPAddress(v4: bytes.uncheckedUInt32(at: 16)), bytes.uncheckedUInt16(at: 22))
    packet.transport = .udp
    packet.hasBadChecksum = false
    let upper = bytes.uncheckedOctet(at: 30)
    packet.dns.id = bytes.uncheckedUInt16(at: 28)
    packet.dns.isResponse = upper & 0x80 != 0
    packet.dns.opcode = upper >> 3 & 0x0F
    packet.dns.isTruncated = upper & 0x02 != 0
    packet.dns.responseCode = UInt16(bytes.uncheckedOctet(at: 31) & 0x0F)
    packet.dns.questionCount = bytes.uncheckedUInt16(at: 32)
    packet.dns.hasEDNS = false
    packet.dns.udpPayloadSize = 0
    let end = Self.usualNameOffset &+ length
    if bytes.uncheckedUInt16(at: 38) > 0 { Self.readOPT(bytes, total: total, at: end &+ 4, into: &packet.dns) }
    return end
  }

  /// Reads the OPT record of a message with additional records.
  ///
  /// - Parameters:
  ///   - total: the packet's length; the caller has checked it.
  ///   - offset: of what follows the first question.
  @usableFromInline @inline(never) static func readOPT(_ bytes: RawSpan, total: Int, at offset: Int, into dns: inout DNSMessage) {
    // A query's follows the only question: the root, the type, the payload size, the upper bits of the response code.
    if bytes.uncheckedUInt32(at: 32) == 0x0001_0000, bytes.uncheckedUInt16(at: 36) == 0, total &- offset >= 11 {
      let record = bytes.uncheckedUInt64(at: offset)
      if record >> 40 == 41 {
        dns.hasEDNS = true
        dns.udpPayloadSize = UInt16(truncatingIfNeeded: record >> 24)
        dns.responseCode |= UInt16(UInt8(truncatingIfNeeded: record >> 16)) << 4
        return
      }
    }
    guard let record = OPTRecord.find(unsafe bytes.extracting(unchecked: 28..<total), from: offset &- 28) else { return }
    dns.hasEDNS = true
    dns.udpPayloadSize = record.udpPayloadSize
    dns.responseCode |= UInt16(record.extendedResponseCode) << 4
  }
}
