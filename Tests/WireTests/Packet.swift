import Flows
import Wire

/// A packet from its IP header on.
struct Packet: Sendable {
  enum Family: UInt16 {
    case ipv4 = 0x0800
    case ipv6 = 0x86DD
  }

  var family: Family
  var bytes: [UInt8]

  init(_ family: Family, bytes: [UInt8]) {
    self.family = family
    self.bytes = bytes
  }

  /// - Parameter text: hexadecimal digits, white space anywhere.
  init(_ family: Family, _ text: String) {
    let digits = text.compactMap(\.hexDigitValue)
    self.init(family, bytes: stride(from: 0, to: digits.count, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) })
  }

  /// An IPv4 and UDP header around a DNS message, with lengths that fit.
  init(dns message: [UInt8]) {
    let udp = bigEndian([36882, 53, UInt16(message.count + 8), 0])
    let ip: [UInt8] = [0x45, 0] + bigEndian([UInt16(message.count + 28), 0, 0]) + [64, 17, 0, 0, 10, 40, 0, 17, 10, 96, 0, 10]
    self.init(.ipv4, bytes: ip + udp + message)
  }

  /// A standard query for `name`, given in wire form.
  init(query name: [UInt8], type: UInt16 = 1) {
    self.init(dns: bigEndian([1, 0x0100, 1, 0, 0, 0]) + name + bigEndian([type, 1]))
  }

  /// Where the DNS message begins in a packet without options or extension headers.
  var dnsOffset: Int { family == .ipv4 ? 28 : 48 }

  func with(_ value: UInt8, at offset: Int) -> Packet {
    var copy = self
    copy.bytes[offset] = value
    return copy
  }

  func prefix(_ count: Int) -> Packet { Packet(family, bytes: Array(bytes.prefix(count))) }
}

func bigEndian(_ values: [UInt16]) -> [UInt8] {
  values.flatMap { [UInt8($0 >> 8), UInt8($0 & 0xFF)] }
}

/// Wire form of labels given as text.
func wireName(_ labels: String...) -> [UInt8] {
  labels.flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) } + [0]
}

/// A name of `length` bytes in labels of the letter `a`; any length but 2 exists.
func longName(_ length: Int) -> [UInt8] {
  var name: [UInt8] = []
  var rest = length - 1
  while rest > 0 {
    // Two bytes are the least a label takes.
    let label = rest <= 64 ? rest - 1 : min(63, rest - 3)
    name += [UInt8(label)] + [UInt8](repeating: 0x61, count: label)
    rest -= label + 1
  }
  return name + [0]
}

extension PacketDecoder {
  mutating func decode(_ packet: Packet, wireLength: Int = .max) throws(DecodeError) -> DecodedPacket {
    try decode(packet.bytes.span.bytes, wireLength: wireLength, etherType: packet.family.rawValue)
  }

  /// The last name's wire bytes.
  ///
  /// - Parameter packet: what was decoded last.
  func name(in packet: Packet) -> [UInt8] {
    withName(in: packet.bytes.span.bytes) { name in (0..<name.byteCount).map { name.unsafeLoad(fromByteOffset: $0, as: UInt8.self) } }
  }
}

/// Decodes with a fresh decoder, and gives the name with it.
func decode(_ packet: Packet, seed: UInt64 = 1) throws(DecodeError) -> (packet: DecodedPacket, name: [UInt8]) {
  var decoder = PacketDecoder(hashSeed: seed)
  let decoded = try decoder.decode(packet)
  return (decoded, decoder.name(in: packet))
}

/// Does one of the things to a packet that go wrong on a wire, or that somebody does to hurt.
func mutate(_ bytes: inout [UInt8], _ random: inout SplitMix64) {
  guard !bytes.isEmpty else { return }
  let offset = Int(random.next() % UInt64(bytes.count))
  switch random.next() % 9 {
  case 0: bytes[offset] ^= 1 << (random.next() % 8)
  case 1: bytes[offset] = UInt8(truncatingIfNeeded: random.next())
  case 2: bytes[offset] = [0, 1, 0x3F, 0x40, 0x7F, 0x80, 0xC0, 0xFF][Int(random.next() % 8)]
  case 3: bytes.removeSubrange(offset...)
  case 4: bytes.remove(at: offset)
  case 5: bytes.insert(UInt8(truncatingIfNeeded: random.next()), at: offset)
  case 6:
    // A pointer somewhere in the message.
    guard offset + 1 < bytes.count else { return }
    bytes[offset] = 0xC0
    bytes[offset + 1] = UInt8(random.next() % 32)
  case 7:
    // One of the counts of the DNS header behind the usual headers.
    guard bytes.count >= 40 else { return }
    bytes[33 + 2 * Int(random.next() % 4)] = UInt8(random.next() % 4)
  default:
    // A slice of the packet copied over another place.
    let from = Int(random.next() % UInt64(bytes.count))
    let count = min(Int(random.next() % 24), bytes.count - max(from, offset))
    let slice = Array(bytes[from..<(from + count)])
    bytes.replaceSubrange(offset..<(offset + count), with: slice)
  }
}
