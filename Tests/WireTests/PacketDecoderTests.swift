import Flows
import Testing
import Wire

private let client = Endpoint(IPAddress("10.40.0.17")!, 36882)
private let server = Endpoint(IPAddress("10.96.0.10")!, 53)
private let client6 = Endpoint(IPAddress("fd00:40::17")!, 36882)
private let server6 = Endpoint(IPAddress("fd00:96::a")!, 53)
private let name = wireName("api", "example", "svc", "cluster", "local")

@Suite struct PacketDecoderTests {
  @Test func query() throws {
    let (packet, decodedName) = try decode(Golden.queryA)
    #expect(packet.source == client)
    #expect(packet.destination == server)
    #expect(packet.transport == .udp)
    #expect(!packet.isFirstFragment)
    #expect(decodedName == name)
    var expected = DNSMessage()
    expected.id = 4711
    expected.questionCount = 1
    expected.queryType = QueryType.a
    expected.queryClass = 1
    expected.questionHash = packet.dns.questionHash
    expected.nameHash = packet.dns.nameHash
    #expect(packet.dns == expected)
    #expect(packet.dns.questionHash != 0 && packet.dns.nameHash != 0 && packet.dns.questionHash != packet.dns.nameHash)
  }

  @Test func queryWithEDNS() throws {
    let (packet, decodedName) = try decode(Golden.queryAAAAWithEDNS)
    #expect(packet.dns.id == 22522)
    #expect(packet.dns.queryType == QueryType.aaaa)
    #expect(packet.dns.hasEDNS)
    #expect(packet.dns.udpPayloadSize == 1232)
    #expect(packet.dns.responseCode == 0)
    #expect(decodedName == name)
  }

  @Test func answer() throws {
    let query = try decode(Golden.queryA).packet
    let (packet, decodedName) = try decode(Golden.answerA)
    #expect(packet.source == server)
    #expect(packet.destination == client)
    #expect(packet.dns.isResponse)
    #expect(packet.dns.hasEDNS)
    #expect(packet.dns.udpPayloadSize == 4096)
    #expect(packet.dns.questionHash == query.dns.questionHash)
    #expect(decodedName == name)
  }

  @Test func responseCodes() throws {
    let nameError = try decode(Golden.nameErrorAnswer).packet.dns
    #expect(nameError.responseCode == 3)
    #expect(!nameError.hasEDNS)
    let badVersion = try decode(Golden.badVersionAnswer).packet.dns
    #expect(badVersion.responseCode == 16)
  }

  @Test func truncatedAnswer() throws {
    let dns = try decode(Golden.truncatedAnswer).packet.dns
    #expect(dns.isTruncated && dns.isResponse && dns.queryType == 16 && dns.udpPayloadSize == 512)
  }

  @Test func answerWithoutQuestion() throws {
    let (packet, decodedName) = try decode(Golden.formatErrorWithoutQuestion)
    #expect(packet.dns.questionCount == 0)
    #expect(packet.dns.responseCode == 1)
    #expect(packet.dns.questionHash == 0)
    #expect(packet.dns.nameHash == 0)
    #expect(packet.dns.queryType == 0)
    #expect(decodedName.isEmpty)
  }

  @Test func twoQuestions() throws {
    let (packet, decodedName) = try decode(Golden.twoQuestions)
    #expect(packet.dns.questionCount == 2)
    #expect(packet.dns.queryType == QueryType.a)
    #expect(packet.dns.udpPayloadSize == 1232)
    #expect(decodedName == name)
  }

  @Test func opcodes() throws {
    #expect(try decode(Golden.queryA).packet.dns.opcode == 0)
    #expect(try decode(Golden.notify).packet.dns.opcode == 4)
    let update = try decode(Golden.update)
    #expect(update.packet.dns.opcode == 5)
    #expect(update.name == wireName("example"))
  }

  @Test func optionsAndPadding() throws {
    let plain = try decode(Golden.queryA).packet
    let withOptions = try decode(Golden.queryWithIPOptions).packet
    #expect(withOptions.source == client && withOptions.destination == server && withOptions.dns == plain.dns)
    // Ethernet pads short frames; what stands after the total length is no part of the message.
    var padded = Golden.queryA
    padded.bytes += [UInt8](repeating: 0xFF, count: 18)
    #expect(try decode(padded).packet.dns == plain.dns)
    // A zero total length (BIG TCP) says nothing.
    #expect(try decode(Golden.queryA.with(0, at: 3)).packet.dns == plain.dns)
  }

  @Test func ipv6() throws {
    let plain = try decode(Golden.queryIPv6)
    #expect(plain.packet.source == client6)
    #expect(plain.packet.destination == server6)
    #expect(plain.name == name)
    let extended = try decode(Golden.queryIPv6WithExtensionHeaders)
    #expect(extended.packet.source == client6)
    #expect(extended.packet.destination == server6)
    #expect(extended.packet.dns == plain.packet.dns)
  }

  @Test func fragments() throws {
    for packet in [Golden.answerIPv6FirstFragment, Golden.answerFirstFragment] {
      let first = try decode(packet)
      #expect(first.packet.isFirstFragment)
      #expect(first.packet.source.port == 53)
      #expect(first.packet.dns.isResponse && first.packet.dns.queryType == 16)
      #expect(first.name == name)
    }
    #expect(throws: DecodeError.laterFragment) { try decode(Golden.answerIPv6LaterFragment) }
    #expect(throws: DecodeError.laterFragment) { try decode(Golden.answerLaterFragment) }
    // An atomic fragment (RFC 6946) is a whole datagram, and this one's UDP length does not fit into it.
    #expect(throws: DecodeError.badUDPLength) { try decode(Golden.answerIPv6FirstFragment.with(0, at: 43)) }
  }

  @Test func tcpIsNotLookedInto() throws {
    let (packet, decodedName) = try decode(Golden.tcpSYN)
    #expect(packet.transport == .tcp)
    #expect(packet.source == Endpoint(client.address, 40000))
    #expect(packet.destination == server)
    #expect(packet.dns == DNSMessage())
    #expect(decodedName.isEmpty)
    #expect(throws: DecodeError.truncatedTCP) { try decode(Golden.tcpSYN.prefix(39)) }
  }

  @Test func answerBeyondTheSnapLength() throws {
    let record: [UInt8] = [0xC0, 0x0C] + bigEndian([16, 1, 0, 30, 256]) + [255] + [UInt8](repeating: 0x78, count: 255)
    let optRecord: [UInt8] = [0] + bigEndian([41, 1232, 0, 0, 0])
    let whole = Packet(dns: bigEndian([1, 0x8180, 1, 3, 0, 1]) + name + bigEndian([16, 1]) + record + record + record + optRecord)
    #expect(whole.bytes.count > 512)
    #expect(try decode(whole).packet.dns.hasEDNS)
    let captured = try decode(whole.prefix(512))
    #expect(captured.name == name)
    #expect(captured.packet.dns.queryType == 16)
    #expect(!captured.packet.dns.hasEDNS)
    var decoder = PacketDecoder(hashSeed: 1)
    #expect(try decoder.decode(whole.prefix(512), wireLength: whole.bytes.count).dns == captured.packet.dns)
  }

  @Test func walkToTheOPTRecordIsBounded() throws {
    let record: [UInt8] = [0] + bigEndian([1, 1, 0, 30, 0])
    let optRecord: [UInt8] = [0] + bigEndian([41, 1232, 0, 0, 0])
    func answer(_ records: Int) -> Packet {
      let head = bigEndian([1, 0x8180, 1, UInt16(records), 0, 1]) + [0] + bigEndian([2, 1])
      return Packet(dns: head + Array(repeating: record, count: records).joined() + optRecord)
    }
    #expect(try decode(answer(31)).packet.dns.hasEDNS)
    #expect(try !decode(answer(32)).packet.dns.hasEDNS)
  }

  @Test func optRecordCountsInTheAdditionalSectionAloneAndUnderTheRoot() throws {
    let head = bigEndian([1, 0x8180, 1, 1, 0, 1]) + [0] + bigEndian([2, 1])
    let optRecord: [UInt8] = bigEndian([41, 1232, 0, 0, 0])
    let other: [UInt8] = bigEndian([1, 1, 0, 0, 0])
    #expect(try decode(Packet(dns: head + [0] + other + [0] + optRecord)).packet.dns.hasEDNS)
    #expect(try !decode(Packet(dns: head + [0] + optRecord + [0] + other)).packet.dns.hasEDNS)
    #expect(try !decode(Packet(dns: head + [0] + other + [1, 0x61, 0] + optRecord)).packet.dns.hasEDNS)
  }
}

@Suite struct RefusalTests {
  private static let cases: [(DecodeError, Packet)] = [
    (.truncatedIP, Golden.queryA.prefix(19)),
    (.truncatedIP, Golden.queryWithIPOptions.prefix(23)),
    (.truncatedIP, Golden.queryIPv6.prefix(39)),
    (.truncatedIP, Golden.queryIPv6WithExtensionHeaders.prefix(47)),
    (.truncatedUDP, Golden.queryA.prefix(27)),
    // The second extension header claims 2,048 bytes.
    (.truncatedUDP, Golden.queryIPv6WithExtensionHeaders.with(255, at: 49)),
    (.truncatedDNS, Golden.queryA.prefix(39)),
    (.truncatedDNS, Golden.queryA.prefix(Golden.queryA.bytes.count - 1)),
    // Version 5; a header of 16 bytes; a total length below the header's.
    (.badIP, Golden.queryA.with(0x55, at: 0)),
    (.badIP, Golden.queryA.with(0x44, at: 0)),
    (.badIP, Golden.queryA.with(19, at: 3)),
    (.badIP, Golden.queryIPv6.with(0x40, at: 0)),
    // ICMP; no next header (RFC 8200 4.7).
    (.notDNS, Golden.queryA.with(1, at: 9)),
    (.notDNS, Golden.queryIPv6.with(59, at: 6)),
    // UDP lengths of 7 bytes, and of one more than the packet has.
    (.badUDPLength, Golden.queryA.with(7, at: 25)),
    (.badUDPLength, Golden.queryA.with(Golden.queryA.bytes[25] + 1, at: 25)),
    (.badUDPLength, Golden.queryIPv6.with(0, at: 45)),
    // A label type of the first two bits 01, and of 10.
    (.badName, Packet(query: [0x41, 0x61, 0])),
    (.badName, Packet(query: [0x80, 0x61, 0])),
  ]

  @Test(arguments: cases.indices) func refused(_ index: Int) {
    let (reason, packet) = Self.cases[index]
    #expect(throws: reason) { try decode(packet) }
  }

  @Test func otherEtherTypes() {
    #expect(throws: DecodeError.notIP) {
      var decoder = PacketDecoder(hashSeed: 1)
      let bytes = Golden.queryA.bytes
      _ = try decoder.decode(bytes.span.bytes, etherType: 0x0806)
    }
  }

  @Test func headerClaimsMoreThanTheWireHad() throws {
    var decoder = PacketDecoder(hashSeed: 1)
    for packet in [Golden.queryA, Golden.queryIPv6] {
      _ = try decoder.decode(packet, wireLength: packet.bytes.count)
      #expect(throws: DecodeError.badIP) { try decoder.decode(packet, wireLength: packet.bytes.count - 1) }
    }
  }

  @Test func ipv4MappedAddressInAnIPv6Header() {
    for start in [8, 24] {
      var packet = Golden.queryIPv6
      packet.bytes.replaceSubrange(start..<(start + 16), with: [UInt8](repeating: 0, count: 10) + [255, 255, 10, 0, 0, 1])
      #expect(throws: DecodeError.mappedAddress) { try decode(packet) }
    }
  }

  @Test func extensionHeadersAreBounded() throws {
    func packet(_ count: Int) -> Packet {
      let header: [UInt8] = [60, 0, 1, 4, 0, 0, 0, 0]
      var extensions = [UInt8](Array(repeating: header, count: count).joined())
      extensions[extensions.count - 8] = 17
      var packet = Golden.queryIPv6
      packet.bytes[5] += UInt8(extensions.count)
      packet.bytes[6] = 60
      packet.bytes.insert(contentsOf: extensions, at: 40)
      return packet
    }
    #expect(try decode(packet(8)).name == name)
    #expect(throws: DecodeError.tooManyExtensions) { try decode(packet(9)) }
  }

  @Test func refusalLeavesNoName() throws {
    var decoder = PacketDecoder(hashSeed: 1)
    _ = try decoder.decode(Golden.queryA)
    #expect(decoder.nameLength == name.count)
    #expect(throws: DecodeError.truncatedDNS) { try decoder.decode(Golden.queryA.prefix(70)) }
    #expect(decoder.nameLength == 0)
    #expect(decoder.name(in: Golden.queryA).isEmpty)
  }

  @Test func reasonsAreDistinctLabelValues() {
    let names = DecodeError.allCases.map { "\($0.name)" }
    #expect(Set(names).count == DecodeError.allCases.count)
    for name in names { #expect(name.allSatisfy { $0 == "_" || ("a"..."z").contains($0) }) }
  }
}
