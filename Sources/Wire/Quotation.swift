internal import Flows

/// The UDP header that an ICMP error quotes (RFC 792; RFC 4443 3.1, 3.3).
struct Quotation {
  var source: IPAddress
  var destination: IPAddress
  /// Offset of the quoted UDP header.
  var udp: Int

  /// - Parameters:
  ///   - bytes: a packet, cut where its ICMP error's quotation ends.
  ///   - start: of the quoted IP header.
  static func decodeIPv4(_ bytes: RawSpan, at start: Int) throws(DecodeError) -> Quotation {
    guard bytes.byteCount - start >= 20 else { throw .badQuotation }
    let first = bytes.octet(at: start)
    let length = Int(first & 0x0F) * 4
    guard first >> 4 == 4, length >= 20, bytes.octet(at: start + 9) == TransportProtocol.udp.rawValue, bytes.uint16(at: start + 6) & 0x1FFF == 0
    else { throw .badQuotation }
    return Quotation(
      source: IPAddress(v4: bytes.uint32(at: start + 12)), destination: IPAddress(v4: bytes.uint32(at: start + 16)), udp: start + length)
  }

  static func decodeIPv6(_ bytes: RawSpan, at start: Int) throws(DecodeError) -> Quotation {
    guard bytes.byteCount - start >= 40, bytes.octet(at: start) >> 4 == 6, bytes.octet(at: start + 6) == TransportProtocol.udp.rawValue
    else { throw .badQuotation }
    let source = IPAddress(high: bytes.uint64(at: start + 8), low: bytes.uint64(at: start + 16))
    let destination = IPAddress(high: bytes.uint64(at: start + 24), low: bytes.uint64(at: start + 32))
    guard !source.isV4, !destination.isV4 else { throw .mappedAddress }
    return Quotation(source: source, destination: destination, udp: start + 40)
  }
}

extension PacketDecoder {
  /// Decodes an ICMP error and what it quotes of a DNS datagram.
  ///
  /// - Parameter bytes: the packet, without padding.
  @inline(never) mutating func decodeError(_ bytes: RawSpan, _ header: NetworkHeader) throws(DecodeError) -> DecodedPacket {
    let start = header.payload
    guard bytes.byteCount - start >= 8 else { throw .badQuotation }
    let isV4 = header.transport == .icmp
    let type = bytes.octet(at: start)
    // Destination unreachable and time exceeded.
    guard isV4 ? type == 3 || type == 11 : type == 1 || type == 3 else { throw .notDNS }
    // Where an extension follows the quotation, its length stands in the header (RFC 4884 4): in words of four bytes, or of eight.
    let words = isV4 ? Int(bytes.octet(at: start + 5)) * 4 : Int(bytes.octet(at: start + 4)) * 8
    let end = words == 0 ? bytes.byteCount : min(bytes.byteCount, start + 8 + words)
    let quoted = bytes.extracting(first: end)
    let quotation = isV4 ? try Quotation.decodeIPv4(quoted, at: start + 8) : try Quotation.decodeIPv6(quoted, at: start + 8)
    let udp = quotation.udp
    guard end - udp >= 8 else { throw .badQuotation }
    let length = Int(quoted.uint16(at: udp + 4))
    guard length >= 8 else { throw .badUDPLength }
    var packet = DecodedPacket(
      source: Endpoint(quotation.source, quoted.uint16(at: udp)), destination: Endpoint(quotation.destination, quoted.uint16(at: udp + 2)),
      transport: header.transport)
    icmpError.sender = header.source
    icmpError.receiver = header.destination
    icmpError.type = type
    icmpError.code = bytes.octet(at: start + 1)
    let message = quoted.extracting((udp + 8)..<min(end, udp + length))
    icmpError.quotesID = message.byteCount >= 4
    if icmpError.quotesID { packet.dns = decodeQuotedMessage(message, at: udp + 8) }
    return packet
  }

  /// What is left of a message that may be cut anywhere after its flags.
  private mutating func decodeQuotedMessage(_ message: RawSpan, at start: Int) -> DNSMessage {
    var dns = DNSMessage()
    do throws(DecodeError) {
      try decodeMessage(message, at: start, into: &dns)
    } catch {
      dns = DNSMessage()
      dns.id = message.uint16(at: DNSHeader.id)
      dns.isResponse = message.octet(at: DNSHeader.flags) & 0x80 != 0
      dns.opcode = message.octet(at: DNSHeader.flags) >> 3 & 0x0F
    }
    return dns
  }
}
