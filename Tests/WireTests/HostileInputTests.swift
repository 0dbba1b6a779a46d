import Flows
import Testing
import Wire

/// What must hold for every packet: it is decoded or refused, and what was decoded is what stands there.
@Suite struct HostileInputTests {
  @Test func everyTruncationLengthIsDecodedOrRefused() {
    var decoder = PacketDecoder(hashSeed: 3)
    for packet in Golden.all {
      for length in 0...packet.bytes.count {
        // A copy of exactly this length: a read past it would trap.
        check(packet.prefix(length), &decoder)
      }
    }
  }

  @Test func everySingleByteChangedToEveryValue() {
    var decoder = PacketDecoder(hashSeed: 3)
    for packet in [
      Golden.queryAAAAWithEDNS, Golden.queryIPv6WithExtensionHeaders, Golden.answerA, Golden.pointerIntoHeader,
      QuotationTests.icmp(about: Golden.queryA), QuotationTests.icmp(about: Golden.queryIPv6, type: 1),
    ] {
      for offset in packet.bytes.indices {
        for value in 0...UInt8.max { check(packet.with(value, at: offset), &decoder) }
      }
    }
  }

  @Test func mutatedPackets() {
    #if DEBUG
      let rounds = 20_000
    #else
      let rounds = 300_000
    #endif
    var random = SplitMix64(state: 0x7261_6365)
    var decoder = PacketDecoder(hashSeed: 3)
    var decoded = 0
    for _ in 0..<rounds {
      var packet = Golden.all[Int(random.next() % UInt64(Golden.all.count))]
      for _ in 0...(random.next() % 6) { mutate(&packet.bytes, &random) }
      if random.next() % 16 == 0 { packet.family = packet.family == .ipv4 ? .ipv6 : .ipv4 }
      if check(packet, &decoder) { decoded += 1 }
    }
    // The mutations must not be so wild that only refusals are tested, nor so tame that none are.
    #expect(decoded > rounds / 10 && decoded < rounds * 9 / 10)
  }

  /// Compares with a plain second decoder, and the name with its own re-encoding. Returns true if the packet was decoded.
  @discardableResult
  private func check(_ packet: Packet, _ decoder: inout PacketDecoder) -> Bool {
    let decoded: DecodedPacket
    do throws(DecodeError) {
      decoded = try decoder.decode(packet)
    } catch {
      if decoder.nameLength != 0 { Issue.record("a refused packet left a name: \(packet.bytes)") }
      return false
    }
    _ = UDPChecksum.isWrong(packet.bytes.span.bytes, etherType: packet.family.rawValue)
    if decoded.transport == .icmp || decoded.transport == .icmpv6 {
      if decoder.nameLength > 0 && decoded.dns.questionCount == 0 { Issue.record("no question, but a name: \(packet.bytes)") }
      return true
    }
    guard decoded.transport == .udp, decoded.dns.questionCount > 0 else {
      if decoder.nameLength != 0 { Issue.record("no question, but a name: \(packet.bytes)") }
      return true
    }
    let name = decoder.name(in: packet)
    let message = referenceMessage(packet)
    guard let labels = referenceLabels(message, at: 12, depth: 0) else {
      Issue.record("decoded a name that the second decoder refuses: \(packet.bytes)")
      return true
    }
    let encoded: [UInt8] = labels.reduce(into: []) { $0 += [UInt8($1.count)] + $1 } + [0]
    if encoded != name { Issue.record("\(encoded) != \(name) in \(packet.bytes)") }
    if let hash = try? decode(Packet(query: name.map { (0x41...0x5A).contains($0) ? $0 | 0x20 : $0 }), seed: 3).packet.dns.nameHash {
      if hash != decoded.dns.nameHash { Issue.record("the hash depends on how the name was sent: \(packet.bytes)") }
    } else {
      Issue.record("a decoded name is refused when sent plainly: \(name)")
    }
    return true
  }

  /// The DNS message of a packet already known to be UDP; written to be plain, not fast.
  private func referenceMessage(_ packet: Packet) -> ArraySlice<UInt8> {
    var bytes = packet.bytes[...]
    func word(_ offset: Int) -> Int { Int(packet.bytes[offset]) << 8 | Int(packet.bytes[offset + 1]) }
    let header: Int
    if packet.family == .ipv4 {
      header = Int(packet.bytes[0] & 15) * 4
      if word(2) != 0 { bytes = bytes.prefix(word(2)) }
    } else {
      if word(4) != 0 { bytes = bytes.prefix(word(4) + 40) }
      var next = packet.bytes[6]
      var offset = 40
      while next != 17 {
        let units = Int(packet.bytes[offset + 1])
        let length = next == 44 ? 8 : next == 51 ? units * 4 + 8 : units * 8 + 8
        next = packet.bytes[offset]
        offset += length
      }
      header = offset
    }
    let length = word(header + 4)
    return Array(bytes.dropFirst(header).prefix(length).dropFirst(8))[...]
  }

  private func referenceLabels(_ message: ArraySlice<UInt8>, at start: Int, depth: Int) -> [[UInt8]]? {
    guard depth < 20 else { return nil }
    var labels: [[UInt8]] = []
    var offset = start
    while offset < message.count {
      let length = Int(message[offset])
      if length == 0 { return labels }
      if length >= 0xC0 {
        guard offset + 1 < message.count else { return nil }
        let target = (length & 0x3F) << 8 | Int(message[offset + 1])
        guard target < start, let rest = referenceLabels(message, at: target, depth: depth + 1) else { return nil }
        return labels + rest
      }
      guard length < 64, offset + 1 + length <= message.count else { return nil }
      labels.append(Array(message[(offset + 1)..<(offset + 1 + length)]))
      offset += 1 + length
    }
    return nil
  }
}

/// A small deterministic generator (Steele, Lea, Flood: "Fast splittable pseudorandom number generators").
struct SplitMix64 {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
    return z ^ z >> 31
  }
}
