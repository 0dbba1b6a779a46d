import Flows
import Testing
import Wire

@Suite struct QuestionNameTests {
  @Test func root() throws {
    let (packet, name) = try decode(Golden.rootQuery)
    #expect(name == [0])
    #expect(packet.dns.queryType == 2)
    #expect(packet.dns.nameHash != 0)
  }

  @Test func caseIsKeptAndHashedAlike() throws {
    let lower = try decode(Golden.queryA)
    let mixed = try decode(Golden.mixedCaseQuery)
    #expect(mixed.name == wireName("aPi", "eXAMplE", "SVC", "clUSTer", "LoCAL"))
    #expect(mixed.name != lower.name)
    #expect(mixed.packet.dns.questionHash == lower.packet.dns.questionHash)
    #expect(mixed.packet.dns.nameHash == lower.packet.dns.nameHash)
  }

  @Test func hashesDependOnNameTypeClassAndSeed() throws {
    let a = try decode(Packet(query: wireName("a", "example"), type: 1)).packet.dns
    let aaaa = try decode(Packet(query: wireName("a", "example"), type: 28)).packet.dns
    let other = try decode(Packet(query: wireName("b", "example"), type: 1)).packet.dns
    let otherSeed = try decode(Packet(query: wireName("a", "example"), type: 1), seed: 2).packet.dns
    var chaos = Packet(query: wireName("a", "example"))
    chaos.bytes[chaos.bytes.count - 1] = 3
    #expect(a.nameHash == aaaa.nameHash)
    let classThree = try decode(chaos).packet.dns
    #expect(Set([a.questionHash, aaaa.questionHash, other.questionHash, otherSeed.questionHash, classThree.questionHash]).count == 5)
    #expect(Set([a.nameHash, other.nameHash, otherSeed.nameHash]).count == 3)
  }

  /// A decoder keeps its last question, for the packet's next copy: what it says of any packet must be what one that saw no other says.
  @Test func aDecoderSaysTheSameWhateverItSawBefore() throws {
    var packets: [Packet] = [Golden.queryA, Golden.mixedCaseQuery, Golden.rootQuery, Golden.queryA]
    for length in [1, 3, 4, 5, 11, 12, 13, 27, 59, 60, 61, 68, 255] {
      let packet = Packet(query: longName(length))
      packets += [packet, packet, Packet(query: longName(length), type: 28)]
      for offset in packet.dnsOffset..<packet.bytes.count {
        packets += [packet, packet.with(packet.bytes[offset] ^ 1, at: offset), packet, packet.with(0xC0, at: offset)]
      }
      for count in packet.dnsOffset..<packet.bytes.count { packets += [packet, packet.prefix(count)] }
    }
    var used = PacketDecoder(hashSeed: 1)
    for packet in packets {
      var fresh = PacketDecoder(hashSeed: 1)
      let expected = Result { () throws(DecodeError) in try fresh.decode(packet) }
      let found = Result { () throws(DecodeError) in try used.decode(packet) }
      switch (expected, found) {
      case (.success(let a), .success(let b)):
        #expect(a.source == b.source && a.destination == b.destination && a.transport == b.transport && a.dns == b.dns)
        #expect(fresh.name(in: packet) == used.name(in: packet) && fresh.nameOffset == used.nameOffset)
      case (.failure(let a), .failure(let b)): #expect(a == b)
      default: Issue.record("\(expected) and \(found) of \(packet.bytes)")
      }
    }
  }

  /// Every length from the root to the longest name, so that each remainder of the eight-byte steps is met.
  @Test func everyLength() throws {
    var hashes: Set<UInt64> = []
    for length in 1...255 where length != 2 {
      let name = longName(length)
      #expect(name.count == length)
      let (packet, decoded) = try decode(Packet(query: name))
      #expect(decoded == name)
      let upper = name.map { $0 == 0x61 ? 0x41 : $0 }
      #expect(try decode(Packet(query: upper)).packet.dns.nameHash == packet.dns.nameHash)
      hashes.insert(packet.dns.nameHash)
      // The last letter counts too.
      guard length > 2 else { continue }
      var changed = name
      changed[length - 2] = 0x62
      #expect(try decode(Packet(query: changed)).packet.dns.nameHash != packet.dns.nameHash)
    }
    #expect(hashes.count == 254)
  }

  @Test func limits() throws {
    let label63 = [63] + [UInt8](repeating: 0x61, count: 63)
    #expect(try decode(Packet(query: label63 + [0])).name.count == 65)
    #expect(throws: DecodeError.badName) { try decode(Packet(query: [64] + [UInt8](repeating: 0x61, count: 64) + [0])) }
    #expect(try decode(Packet(query: longName(255))).name == longName(255))
    #expect(throws: DecodeError.nameTooLong) { try decode(Packet(query: label63 + label63 + label63 + [62] + label63.dropFirst(2) + [0])) }
  }

  @Test func anyByteMayStandInALabel() throws {
    let name: [UInt8] = [5] + Array("a.b\\c".utf8) + [4, 0, 10, 34, 255] + [1, 32, 0]
    let decoded = try decode(Packet(query: name)).name
    #expect(decoded == name)
    #expect(DNSName.presentation(decoded) == #"a\.b\\c.\000\010\"\255.\032"#)
  }

  /// No earlier name stands before the first question; a pointer can reach into the header only. It is followed, as resolvers follow it.
  @Test func pointerIntoTheHeader() throws {
    let (packet, name) = try decode(Golden.pointerIntoHeader)
    #expect(name == wireName("www", "a"))
    #expect(packet.dns.queryType == 1 && packet.dns.queryClass == 1)
    #expect(packet.dns.nameHash == (try decode(Packet(query: wireName("www", "a"))).packet.dns.nameHash))
  }

  @Test func pointersThatDoNotPointBack() {
    // Itself.
    #expect(throws: DecodeError.badPointer) { try decode(Packet(query: [0xC0, 12])) }
    // The label before it, which runs into it again.
    #expect(throws: DecodeError.badPointer) { try decode(Packet(query: [1, 0x61, 0xC0, 12])) }
    // Forwards, to a name that is there.
    #expect(throws: DecodeError.badPointer) { try decode(Packet(query: [0xC0, 18, 0, 1, 0, 1, 0])) }
    #expect(throws: DecodeError.badPointer) { try decode(Packet(query: [0xFF, 0xFF])) }
    // Two that point at each other: ID c0 0c, question c0 00.
    let loop: [UInt8] = [0xC0, 0x0C] + bigEndian([0, 1, 0, 0, 0]) + [0xC0, 0] + bigEndian([1, 1])
    #expect(throws: DecodeError.badPointer) { try decode(Packet(dns: loop)) }
    // A label of the header that runs into the question, whose pointer leads back to it: ID 0b xx.
    let through: [UInt8] = [0x0B, 0x61] + bigEndian([0, 1, 0, 0, 0]) + [0xC0, 0] + bigEndian([1, 1])
    #expect(throws: DecodeError.badPointer) { try decode(Packet(dns: through)) }
  }

  @Test func pointerCutInHalf() {
    #expect(throws: DecodeError.truncatedDNS) { try decode(Packet(dns: bigEndian([1, 0, 1, 0, 0, 0]) + [0xC0])) }
  }
}
