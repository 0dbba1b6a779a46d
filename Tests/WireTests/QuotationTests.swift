import Flows
import Testing
import Wire

/// ICMP errors and the DNS datagrams that they quote.
@Suite struct QuotationTests {
  /// An IPv4 header and an ICMP error about `packet`, of which the first `quoted` bytes are quoted.
  static func icmp(about packet: Packet, quoted: Int = .max, type: UInt8 = 3, code: UInt8 = 3, words: UInt8 = 0, extra: [UInt8] = []) -> Packet {
    let quotation = Array(packet.bytes.prefix(quoted)) + extra
    if packet.family == .ipv4 {
      let ip: [UInt8] = [0x45, 0xC0] + bigEndian([UInt16(28 + quotation.count), 9, 0]) + [64, 1, 0, 0, 10, 32, 1, 6, 10, 40, 0, 17]
      return Packet(.ipv4, bytes: ip + [type, code, 0, 0, 0, words, 0, 0] + quotation)
    }
    let router: [UInt8] = [0xFD] + [UInt8](repeating: 0, count: 14) + [9]
    let ip: [UInt8] = [0x60, 0, 0, 0] + bigEndian([UInt16(8 + quotation.count)]) + [58, 64] + router + packet.bytes[8..<24]
    return Packet(.ipv6, bytes: ip + [type, code, 0, 0, words, 0, 0, 0] + quotation)
  }

  private func decoded(_ packet: Packet) throws -> (DecodedPacket, ICMPError, [UInt8]) {
    var decoder = PacketDecoder(hashSeed: 1)
    let decoded = try decoder.decode(packet)
    return (decoded, decoder.icmpError, decoder.name(in: packet))
  }

  @Test func theWholeQueryIsQuoted() throws {
    let (packet, error, name) = try decoded(Self.icmp(about: Golden.queryA))
    let query = try decode(Golden.queryA)
    #expect(packet.transport == .icmp)
    #expect(packet.source == query.packet.source && packet.destination == query.packet.destination && packet.dns == query.packet.dns)
    #expect(name == query.name)
    #expect(error.sender == IPAddress("10.32.1.6") && error.receiver == IPAddress("10.40.0.17"))
    #expect(error.type == 3 && error.code == 3 && error.quotesID)
  }

  @Test func overIPv6() throws {
    let (packet, error, _) = try decoded(Self.icmp(about: Golden.queryIPv6, type: 1, code: 4))
    let query = try decode(Golden.queryIPv6)
    #expect(packet.transport == .icmpv6)
    #expect(packet.source == query.packet.source && packet.destination == query.packet.destination && packet.dns == query.packet.dns)
    #expect(error.sender == IPAddress("fd00::9") && error.receiver == query.packet.source.address && error.type == 1 && error.code == 4)
  }

  /// RFC 792 asks for the header and eight bytes: the ports.
  @Test func whereNoMoreThanThePortsAreQuoted() throws {
    for length in 28..<32 {
      let (packet, error, name) = try decoded(Self.icmp(about: Golden.queryA, quoted: length))
      #expect(packet.destination.port == 53 && packet.source.port == 36882 && !error.quotesID && packet.dns == DNSMessage() && name.isEmpty)
    }
    #expect(throws: DecodeError.badQuotation) { try decoded(Self.icmp(about: Golden.queryA, quoted: 27)) }
  }

  @Test func whereTheQuestionIsCut() throws {
    for length in 32..<Golden.queryA.bytes.count {
      let (packet, error, name) = try decoded(Self.icmp(about: Golden.queryA, quoted: length))
      #expect(error.quotesID && packet.dns.id == 4711 && packet.dns.questionCount == 0 && packet.dns.questionHash == 0 && name.isEmpty)
    }
  }

  @Test func ofAnAnswerTheDirectionIsKnown() throws {
    #expect(try decoded(Self.icmp(about: Golden.answerA)).0.dns.isResponse)
    #expect(try decoded(Self.icmp(about: Golden.answerA, quoted: 32)).0.dns.isResponse)
  }

  /// RFC 4884: what follows the length in the header is an extension, and no part of the question.
  @Test func anExtensionIsNoPartOfTheQuotation() throws {
    let (packet, error, _) = try decoded(Self.icmp(about: Golden.queryA, quoted: 40, words: 10, extra: [UInt8](repeating: 1, count: 60)))
    #expect(error.quotesID && packet.dns.id == 4711 && packet.dns.questionCount == 0)
  }

  @Test func whatIsNoErrorAboutUDPIsRefused() {
    func refuses(_ packet: Packet, as expected: DecodeError) {
      #expect(throws: expected) { try decoded(packet) }
    }
    for type: UInt8 in [0, 4, 5, 8, 12] { refuses(Self.icmp(about: Golden.queryA, type: type), as: .notDNS) }
    for type: UInt8 in [0, 2, 4, 128, 135] { refuses(Self.icmp(about: Golden.queryIPv6, type: type), as: .notDNS) }
    refuses(Self.icmp(about: Golden.tcpSYN), as: .badQuotation)
    refuses(Self.icmp(about: Golden.answerLaterFragment), as: .badQuotation)
    refuses(Self.icmp(about: Golden.queryA).with(0x65, at: 28), as: .badQuotation)
    refuses(Self.icmp(about: Golden.queryA, quoted: 0), as: .badQuotation)
    refuses(Self.icmp(about: Golden.queryA).with(0, at: 28 + 24).with(7, at: 28 + 25), as: .badUDPLength)
    // ICMPv6 over IPv4, and the other way round.
    refuses(Self.icmp(about: Golden.queryA).with(58, at: 9), as: .notDNS)
    refuses(Self.icmp(about: Golden.queryIPv6, type: 1).with(1, at: 6), as: .notDNS)
  }
}

@Suite struct UDPChecksumTests {
  private func isWrong(_ packet: Packet) -> Bool? { UDPChecksum.isWrong(packet.bytes.span.bytes, etherType: packet.family.rawValue) }

  @Test func realPacketsAreRight() {
    for packet in [Golden.queryA, Golden.queryAAAAWithEDNS, Golden.answerA, Golden.queryIPv6, Golden.queryIPv6WithExtensionHeaders] {
      #expect(isWrong(packet) == false)
    }
  }

  @Test func everyChangedBitOfTheDatagramIsFound() {
    for packet in [Golden.queryA, Golden.queryIPv6] {
      let udp = packet.dnsOffset - 8
      // Ports, checksum and payload; with another length the datagram may end elsewhere.
      for offset in Array(udp..<(udp + 4)) + Array((udp + 6)..<packet.bytes.count) {
        for bit in 0..<8 {
          let changed = packet.with(packet.bytes[offset] ^ 1 << bit, at: offset)
          #expect(isWrong(changed) == true, "byte \(offset), bit \(bit)")
        }
      }
    }
  }

  @Test func whatCannotBeToldIsNotWrong() {
    #expect(isWrong(Golden.queryA.with(0, at: 26).with(0, at: 27)) == false, "no checksum")
    #expect(isWrong(Golden.queryA.prefix(60)) == nil)
    #expect(isWrong(Golden.answerFirstFragment) == nil)
    #expect(isWrong(Golden.tcpSYN) == nil)
    for length in 0..<28 { #expect(isWrong(Golden.queryA.prefix(length)) == nil) }
  }
}
