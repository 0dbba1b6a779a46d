import Flows
import Glibc
import Testing
import Wire

/// The short cut says what the general path says, of every packet of which it says anything.
@Suite struct UsualPacketTests {
  private static let name = wireName("api", "example", "svc", "cluster", "local")

  @Test func theUsualOnesAreTaken() {
    var pair = Pair()
    let option: [UInt8] = [0] + bigEndian([41, 1232, 0, 0x8000, 0])
    for packet in [
      Golden.queryA, Golden.queryAAAAWithEDNS, Golden.answerA, Golden.nameErrorAnswer, Golden.truncatedAnswer, Golden.badVersionAnswer,
      Golden.rootQuery, Golden.mixedCaseQuery, Golden.twoQuestions, Golden.notify, Golden.update,
      Packet(dns: bigEndian([1, 0x0100, 1, 0, 0, 1]) + Self.name + bigEndian([1, 1]) + option),
    ] {
      let isTaken = pair.check(packet)
      #expect(isTaken, "\(packet.bytes)")
    }
    for packet in [
      Golden.queryWithIPOptions, Golden.queryIPv6, Golden.answerFirstFragment, Golden.answerLaterFragment, Golden.tcpSYN, Golden.pointerIntoHeader,
      Golden.formatErrorWithoutQuestion, QuotationTests.icmp(about: Golden.queryA), Golden.answerA.prefix(80), Golden.queryA.with(0, at: 3),
    ] {
      let isTaken = pair.check(packet)
      #expect(!isTaken, "\(packet.bytes)")
    }
  }

  @Test func everyTruncationLengthAndWireLength() {
    var pair = Pair()
    for packet in Golden.all + Self.built {
      for length in 0...packet.bytes.count {
        pair.check(packet.prefix(length))
        pair.check(packet.prefix(length), wireLength: packet.bytes.count)
        pair.check(packet, wireLength: length)
        // The header says what was captured.
        guard length >= 28 else { continue }
        pair.check(Self.fitted(packet.prefix(length)))
      }
    }
  }

  @Test func everyByteChanged() {
    var pair = Pair()
    for packet in Self.built + [Golden.queryIPv6, Golden.queryWithIPOptions, QuotationTests.icmp(about: Golden.queryA)] {
      for offset in packet.bytes.indices {
        let isHeader = offset < 45
        for value in isHeader ? Array(0...UInt8.max) : [0, 1, 0x20, 0x3F, 0x40, 0x41, 0x80, 0xC0, 0xFF, packet.bytes[offset] ^ 0x20] {
          pair.check(packet.with(value, at: offset))
          // The one before keeps its question for the next, and the other way round.
          if value & 15 == 0 { pair.check(packet) }
        }
      }
    }
  }

  /// Names of every length, with what follows them cut at every place.
  @Test func everyLengthOfName() {
    var pair = Pair()
    for length in 1...260 where length != 2 {
      let name = longName(length)
      let option: [UInt8] = [0] + bigEndian([41, 1232, 0x0100, 0, 0])
      for tail in [[], option, [1, 0x61] + option, Array(option.dropLast(2)), [0xC0, 12] + bigEndian([1, 1, 0, 60, 4, 1, 1]) + option] {
        for counts: [UInt16] in [[1, 0, 0, 1], [1, 0, 0, 0], [1, 1, 0, 1], [2, 0, 0, 1], [1, 0, 1, 3]] {
          let packet = Packet(dns: bigEndian([7, 0x8180] + counts) + name + bigEndian([1, 1]) + tail)
          pair.check(packet)
          pair.check(packet.with(8, at: 29))
        }
      }
      let packet = Packet(query: name)
      for cut in 1...min(packet.bytes.count - 28, 24) { pair.check(Self.fitted(packet.prefix(packet.bytes.count - cut))) }
      // A letter that differs in its case alone, and one that differs; each place of a vector is met.
      for offset in 41..<packet.bytes.count {
        pair.check(packet)
        pair.check(packet.with(packet.bytes[offset] ^ 0x20, at: offset))
        pair.check(packet.with(packet.bytes[offset] ^ 1, at: offset))
      }
    }
  }

  @Test func sequencesOfMutatedPackets() {
    #if DEBUG
      let rounds = 40_000
    #else
      let rounds = 1_000_000
    #endif
    var random = SplitMix64(state: 0x7573_7561)
    var pair = Pair()
    var taken = 0
    let pool = Golden.all + Self.built
    var recent = pool
    for _ in 0..<rounds {
      var packet = random.next() % 4 == 0 ? pool[Int(random.next() % UInt64(pool.count))] : recent[Int(random.next() % UInt64(recent.count))]
      switch random.next() % 8 {
      case 0: break
      case 1...2: mutate(&packet.bytes, &random)
      case 3:
        for _ in 0...(random.next() % 4) { mutate(&packet.bytes, &random) }
      case 4:
        // Another ID, and other flags.
        for offset in 28..<32 where offset < packet.bytes.count { packet.bytes[offset] = UInt8(truncatingIfNeeded: random.next()) }
      case 5:
        // Another case.
        for offset in 41..<max(41, packet.bytes.count) where packet.bytes[offset] & 0x5F >= 0x41 && random.next() % 4 == 0 {
          packet.bytes[offset] ^= 0x20
        }
      case 6: packet = packet.prefix(Int(random.next() % UInt64(packet.bytes.count + 1)))
      default: packet.bytes += [UInt8](repeating: UInt8(truncatingIfNeeded: random.next()), count: Int(random.next() % 40))
      }
      if packet.bytes.count > 600 { packet = packet.prefix(600) }
      if random.next() % 2 == 0 { packet = Self.fitted(packet) }
      let wireLength = random.next() % 4 == 0 ? Int(random.next() % 700) : random.next() % 2 == 0 ? packet.bytes.count : .max
      if pair.check(packet, wireLength: wireLength) { taken += 1 }
      recent[Int(random.next() % UInt64(recent.count))] = random.next() % 8 == 0 ? pool[Int(random.next() % UInt64(pool.count))] : packet
    }
    // Both ways must have been gone often.
    #expect(taken > rounds / 8 && taken < rounds * 7 / 8, "\(taken) of \(rounds)")
  }

  private static let built: [Packet] = {
    let option: [UInt8] = [0] + bigEndian([41, 1232, 0x0100, 0, 0])
    let record: [UInt8] = [0xC0, 0x0C] + bigEndian([1, 1, 0, 60, 4, 0x0A01, 0x0203])
    let question = name + bigEndian([1, 1])
    return [
      Packet(query: name), Packet(query: wireName("a", "b")), Packet(query: [0], type: 2),
      Packet(query: wireName("q12345678", "bench", "racetrack", "test")),
      Packet(dns: bigEndian([9, 0x0120, 1, 0, 0, 1]) + question + option),
      Packet(dns: bigEndian([9, 0x8583, 1, 2, 0, 1]) + question + record + record + option),
      Packet(dns: bigEndian([9, 0x8180, 1, 0, 0, 2]) + question + record + option),
      Packet(dns: bigEndian([9, 0x0100, 2, 0, 0, 1]) + question + [0xC0, 12] + bigEndian([28, 1]) + option),
      Packet(dns: bigEndian([9, 0x0100, 1, 0, 0, 0]) + [3, 0x77, 0x77, 0x77, 0xC0, 2] + bigEndian([1, 1])),
    ]
  }()

  /// Total length and UDP length as the bytes are many, if it is IPv4 without options.
  private static func fitted(_ packet: Packet) -> Packet {
    guard packet.family == .ipv4, packet.bytes.count >= 28, packet.bytes[0] == 0x45 else { return packet }
    var packet = packet
    packet.bytes.replaceSubrange(2..<4, with: bigEndian([UInt16(packet.bytes.count)]))
    if packet.bytes[9] == 17 { packet.bytes.replaceSubrange(24..<26, with: bigEndian([UInt16(packet.bytes.count - 20)])) }
    return packet
  }
}

/// Two decoders of one seed that see the same packets: one takes the short cut where it can, the other never.
private struct Pair {
  private var quick = PacketDecoder(hashSeed: 3)
  private var general = PacketDecoder(hashSeed: 3)
  private let page = GuardedPage()
  private var expected = blank(0)

  private static func blank(_ byte: UInt8) -> PacketObservation {
    var dns = DNSMessage()
    dns.isResponse = byte != 0
    dns.isTruncated = byte != 0
    dns.hasEDNS = byte != 0
    dns.opcode = byte
    dns.udpPayloadSize = UInt16(byte)
    dns.responseCode = UInt16(byte)
    dns.queryType = UInt16(byte)
    return PacketObservation(
      time: .zero, wallTime: WallTime(nanoseconds: 5), interface: 6, isOutgoing: true, source: .none, destination: .none,
      transport: byte == 0 ? .udp : .tcp, hasBadChecksum: byte != 0, dns: dns)
  }

  /// Compares everything that both say. Returns true if the short cut was taken.
  @discardableResult
  mutating func check(_ packet: Packet, wireLength: Int = .max) -> Bool {
    let etherType = packet.family.rawValue
    let bytes = packet.bytes.span.bytes
    var error: DecodeError?
    expected = Self.blank(0)
    do throws(DecodeError) {
      try general.observe(bytes, wireLength: wireLength, etherType: etherType, into: &expected)
    } catch let reason {
      error = reason
    }
    // First with nothing behind the last byte, then with nothing before the first, and a question that it knows now.
    var ends: [Int] = []
    for atEnd in [true, false] {
      // All of it must be written again, so it differs.
      var found = Self.blank(0xFF)
      let end = page.lend(packet.bytes, atEnd: atEnd) { quick.observeUsual($0, wireLength: wireLength, etherType: etherType, into: &found) }
      ends.append(end)
      if end > 0 { compare(found, error, end, packet) }
      let isWrong = page.lend(packet.bytes, atEnd: atEnd) { UDPChecksum.isWrong($0, etherType: etherType) }
      if isWrong != UDPChecksum.isWrongInAny(bytes, etherType: etherType) { complain("another checksum", packet) }
    }
    if ends[0] != ends[1] { complain("\(ends[0]), then \(ends[1])", packet) }
    checkDecode(packet, wireLength, error, isUsual: ends[0] > 0)
    return ends[0] > 0
  }

  private func compare(_ found: PacketObservation, _ error: DecodeError?, _ end: Int, _ packet: Packet) {
    if let error { complain("taken, but it is \(error)", packet) }
    if found.source != expected.source || found.destination != expected.destination || found.transport != expected.transport
      || found.hasBadChecksum != expected.hasBadChecksum || found.dns != expected.dns
    {
      complain("\(found) is not \(expected)", packet)
    }
    if found.wallTime.nanoseconds != 5 || found.interface != 6 || !found.isOutgoing { complain("the caller's part was changed", packet) }
    if general.nameOffset != PacketDecoder.usualNameOffset || general.nameOffset + general.nameLength != end { complain("another name", packet) }
    // By the plain way: the hash does not depend on who asked before, nor on how it is made.
    var hash = SeededHash(seed: 3)
    hash.combine(name: Array(packet.bytes[PacketDecoder.usualNameOffset..<end]).span.bytes)
    if hash.finish() != found.dns.nameHash { complain("another hash", packet) }
  }

  /// `decode` goes the short way first.
  private mutating func checkDecode(_ packet: Packet, _ wireLength: Int, _ error: DecodeError?, isUsual: Bool) {
    do throws(DecodeError) {
      let decoded = try quick.decode(packet, wireLength: wireLength)
      if error != nil || decoded.source != expected.source || decoded.destination != expected.destination || decoded.transport != expected.transport
        || decoded.dns != expected.dns || isUsual && (decoded.isFirstFragment || packet.bytes[6] & 0x20 != 0)
      {
        complain("\(decoded) is not \(expected)", packet)
      }
    } catch let reason {
      if reason != error { complain("refused as \(reason)", packet) }
    }
    if quick.nameOffset != general.nameOffset || quick.nameLength != general.nameLength || quick.name(in: packet) != general.name(in: packet)
      || quick.icmpError != general.icmpError
    {
      complain("another name or ICMP error", packet)
    }
  }

  private func complain(_ what: String, _ packet: Packet) { Issue.record("\(what): \(packet.bytes)") }
}

/// A page between two that cannot be read: a load outside the packet ends the test.
private final class GuardedPage {
  private let start: UnsafeMutableRawPointer
  private let size = Int(sysconf(Int32(_SC_PAGESIZE)))

  init() {
    start = mmap(nil, 3 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)!
    precondition(start != MAP_FAILED && mprotect(start + size, size, PROT_READ | PROT_WRITE) == 0)
  }

  deinit { munmap(start, 3 * size) }

  func lend<R>(_ packet: [UInt8], atEnd: Bool, _ body: (RawSpan) -> R) -> R {
    precondition(packet.count <= size)
    let place = atEnd ? start + 2 * size - packet.count : start + size
    packet.withUnsafeBytes { if let bytes = $0.baseAddress { place.copyMemory(from: bytes, byteCount: packet.count) } }
    return body(RawSpan(_unsafeStart: UnsafeRawPointer(place), byteCount: packet.count))
  }
}
