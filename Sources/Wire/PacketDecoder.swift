public import Flows

/// Decodes IP packets that carry DNS: addresses, ports, DNS header and first question; and ICMP errors about such packets.
/// Allocates nothing, and no input makes it trap, loop or read past what was captured.
@usableFromInline
package struct PacketDecoder: Sendable {
  @usableFromInline var lastQuestion = LastQuestion()
  private let emptyHash: SeededHash
  /// Where the last decoded name stands in the packet, or -1 where it is not there in one piece. `observeUsual` leaves both as they are.
  package private(set) var nameOffset = 0
  /// Bytes of the last decoded name, the root's zero byte included; 0 where the message had no question or was refused.
  package private(set) var nameLength = 0
  /// The last packet was the first of several fragments.
  private var isFirstFragment = false
  /// Of the last packet whose transport is ICMP.
  package internal(set) var icmpError = ICMPError()
  /// The last question's name, where compression had to be undone. 255 bytes are the most a name can have (RFC 1035 3.1).
  private var name = InlineArray<256, UInt8>(repeating: 0)

  /// - Parameter hashSeed: seeds `questionHash` and `nameHash`; messages are comparable only under one seed.
  package init(hashSeed: UInt64) {
    emptyHash = SeededHash(seed: hashSeed)
  }

  /// Decodes one packet.
  ///
  /// - Parameters:
  ///   - bytes: what was captured of the packet, from the IP header on. Bytes after the length that the header states (padding) are ignored.
  ///   - wireLength: the packet's length before it was cut to the snap length; where it is given, headers that claim more are refused.
  ///   - etherType: `sll_protocol` in host order.
  package mutating func decode(
    _ bytes: RawSpan, wireLength: Int = .max, etherType: UInt16
  ) throws(DecodeError) -> DecodedPacket {
    var packet = PacketObservation(
      time: .zero, wallTime: WallTime(nanoseconds: 0), interface: 0, isOutgoing: false, source: .none, destination: .none, dns: DNSMessage())
    let nameEnd = observeUsual(bytes, wireLength: wireLength, etherType: etherType, into: &packet)
    if nameEnd > 0 {
      nameOffset = Self.usualNameOffset
      nameLength = nameEnd &- Self.usualNameOffset
      isFirstFragment = false
    } else {
      try observe(bytes, wireLength: wireLength, etherType: etherType, into: &packet)
    }
    return DecodedPacket(
      source: packet.source, destination: packet.destination, transport: packet.transport, isFirstFragment: isFirstFragment, dns: packet.dns)
  }

  /// The same into an observation, where it stands: all but its time and its device, which are the caller's. Of an ICMP error: the datagram that it
  /// quotes. What a refused packet leaves there means nothing. Knows every packet; `observeUsual` is a short cut that says nothing else.
  package mutating func observe(
    _ bytes: RawSpan, wireLength: Int, etherType: UInt16, into packet: inout PacketObservation
  ) throws(DecodeError) {
    nameLength = 0
    nameOffset = 0
    let header = try NetworkHeader.decode(bytes, wireLength: wireLength, etherType: etherType)
    isFirstFragment = header.isFirstFragment
    let limit = min(bytes.byteCount, header.end)
    let transport = header.payload
    packet.hasBadChecksum = false
    if header.transport == .icmp || header.transport == .icmpv6 {
      let quoted = try decodeError(bytes.extracting(first: limit), header)
      packet.source = quoted.source
      packet.destination = quoted.destination
      packet.transport = quoted.transport
      packet.dns = quoted.dns
      return
    }
    guard limit &- transport >= header.transport.headerLength else {
      throw header.transport == .udp ? .truncatedUDP : .truncatedTCP
    }
    // Both transports begin with source and destination port; UDP's length follows.
    let words = bytes.uint64(at: transport)
    packet.source = Endpoint(header.source, UInt16(truncatingIfNeeded: words >> 48))
    packet.destination = Endpoint(header.destination, UInt16(truncatingIfNeeded: words >> 32))
    packet.transport = header.transport
    packet.dns = DNSMessage()
    guard header.transport == .udp else { return }
    let length = Int(words >> 16 & 0xFFFF)
    // The first of several fragments states the length of the whole datagram.
    guard length >= 8, header.isFirstFragment || length <= header.end &- transport else { throw .badUDPLength }
    let start = transport &+ 8
    try decodeMessage(bytes.extracting(start..<min(limit, transport &+ length)), at: start, into: &packet.dns)
  }

  /// Lends the last decoded name: labels as sent, compression undone, the root's zero byte included. Empty where there was none.
  ///
  /// - Parameter bytes: what was decoded. Where `nameOffset` is not negative the name can be had there, `nameLength` bytes long, for less.
  package func withName<R>(in bytes: RawSpan, _ body: (RawSpan) -> R) -> R {
    if nameOffset >= 0 { return body(bytes.extracting(nameOffset..<(nameOffset + nameLength))) }
    return body(unsafe name.span.bytes.extracting(first: nameLength))
  }

  /// Header, first question and, where it was captured, the OPT record (RFC 1035 4.1, RFC 6891 6.1).
  ///
  /// - Parameter start: of the message in the packet.
  mutating func decodeMessage(_ message: RawSpan, at start: Int, into dns: inout DNSMessage) throws(DecodeError) {
    guard message.byteCount >= DNSHeader.length else { throw .truncatedDNS }
    // ID, flags and the first two counts at once.
    let words = message.uint64(at: DNSHeader.id)
    let flags = UInt16(truncatingIfNeeded: words >> 32)
    dns.id = UInt16(truncatingIfNeeded: words >> 48)
    dns.isResponse = flags & 0x8000 != 0
    dns.opcode = UInt8(truncatingIfNeeded: flags >> 11) & 0x0F
    dns.isTruncated = flags & 0x0200 != 0
    dns.responseCode = flags & 0x000F
    dns.questionCount = UInt16(truncatingIfNeeded: words >> 16)
    var offset = DNSHeader.length
    if dns.questionCount > 0 {
      let plain = readPlainQuestion(message, at: offset, count: message.byteCount &- offset, into: &dns)
      if plain > 0 {
        nameLength = plain
        nameOffset = start &+ offset
        offset &+= plain &+ 4
      } else {
        offset = try readQuestion(message, into: &dns)
      }
    }
    if message.uint16(at: DNSHeader.additionalCount) > 0, let record = OPTRecord.find(message, from: offset) {
      dns.hasEDNS = true
      dns.udpPayloadSize = record.udpPayloadSize
      dns.responseCode |= UInt16(record.extendedResponseCode) << 4
    }
  }

  /// Reads the first question where its name stands in one piece.
  ///
  /// - Parameters:
  ///   - offset: of the question.
  ///   - count: how many bytes there are from there on; the caller has checked it.
  /// - Returns: bytes of the name; 0 where it has a pointer, is refused or ends too late.
  @inlinable @inline(__always)
  mutating func readPlainQuestion(_ bytes: RawSpan, at offset: Int, count: Int, into dns: inout DNSMessage) -> Int {
    guard lastQuestion.isRepeated(by: bytes, at: offset, count: count) else { return readNewQuestion(bytes, at: offset, count: count, into: &dns) }
    dns.queryType = lastQuestion.queryType
    dns.queryClass = lastQuestion.queryClass
    dns.nameHash = lastQuestion.nameHash
    dns.questionHash = lastQuestion.questionHash
    return lastQuestion.length &- 4
  }

  /// Reads, hashes and keeps a question for `readPlainQuestion`.
  @usableFromInline @inline(never)
  mutating func readNewQuestion(_ bytes: RawSpan, at offset: Int, count: Int, into dns: inout DNSMessage) -> Int {
    // The root's zero byte, the type and the class must find room behind the labels: every load below lies before the limit, and as the offset only
    // grows and a packet is short, nothing overflows.
    let limit = offset &+ count &- 4
    var end = offset
    var octet = 1
    while end < limit {
      octet = Int(bytes.uncheckedOctet(at: end))
      end &+= 1 &+ octet
      // Neither the root nor the length of a label.
      if UInt(bitPattern: octet &- 1) >= 63 { break }
    }
    let length = end &- offset
    guard octet == 0, length <= 255 else { return 0 }
    let typeAndClass = bytes.uncheckedUInt32(at: end)
    let queryType = UInt16(truncatingIfNeeded: typeAndClass >> 16)
    let queryClass = UInt16(truncatingIfNeeded: typeAndClass)
    var hash = emptyHash
    if length < 16 || !hash.combine(lowerCaseName: bytes, from: offset, to: end) {
      hash = emptyHash
      hash.combine(anyName: bytes, from: offset, to: end)
    }
    let nameHash = hash.finish()
    hash.combine(UInt64(typeAndClass))
    let questionHash = hash.finish()
    dns.queryType = queryType
    dns.queryClass = queryClass
    dns.nameHash = nameHash
    dns.questionHash = questionHash
    lastQuestion.note(
      bytes, at: offset, length: length &+ 4, queryType: queryType, queryClass: queryClass, nameHash: nameHash, questionHash: questionHash)
    return length
  }

  /// Reads the first question whose name has a pointer or makes no sense.
  ///
  /// - Returns: the offset after it.
  @inline(never) private mutating func readQuestion(_ message: RawSpan, into dns: inout DNSMessage) throws(DecodeError) -> Int {
    let (length, next) = try readName(message)
    guard message.byteCount &- next >= 4 else { throw .truncatedDNS }
    let typeAndClass = message.uint32(at: next)
    dns.queryType = UInt16(truncatingIfNeeded: typeAndClass >> 16)
    dns.queryClass = UInt16(truncatingIfNeeded: typeAndClass)
    nameLength = length
    nameOffset = -1
    var hash = emptyHash
    // Not by `withName`, which costs a copy of the whole buffer here.
    unsafe withUnsafeMutableBytes(of: &name) { unsafe hash.combine(name: $0.bytes.extracting(first: length)) }
    dns.nameHash = hash.finish()
    hash.combine(UInt64(typeAndClass))
    dns.questionHash = hash.finish()
    return next &+ 4
  }

  /// Reads the first question's name into `name`, following compression pointers (RFC 1035 4.1.4).
  /// Each pointer must point before the run of labels that it ends, so that no chain of them is endless.
  ///
  /// - Returns: the name's length, and the offset after it in the question.
  @inline(never) private mutating func readName(_ message: RawSpan) throws(DecodeError) -> (length: Int, next: Int) {
    var length = 0
    var run = DNSHeader.length
    var offset = run
    var next: Int?
    while offset < message.byteCount {
      let octet = Int(message.octet(at: offset))
      switch octet {
      case 0:
        append(message, run..<(offset + 1), at: length)
        return (length + offset + 1 - run, next ?? offset + 1)
      case 1...63:
        offset += 1 + octet
        // The root's zero byte must still find room in 255.
        guard length + offset - run <= 254 else { throw .nameTooLong }
      case 0xC0...:
        guard message.byteCount - offset >= 2 else { throw .truncatedDNS }
        let target = Int(message.uint16(at: offset) & 0x3FFF)
        guard target < run else { throw .badPointer }
        append(message, run..<offset, at: length)
        length += offset - run
        if next == nil { next = offset + 2 }
        run = target
        offset = target
      default:
        throw .badName
      }
    }
    throw .truncatedDNS
  }

  @inline(__always)
  private mutating func append(_ message: RawSpan, _ range: Range<Int>, at position: Int) {
    unsafe message.extracting(range).withUnsafeBytes { source in
      unsafe withUnsafeMutableBytes(of: &name) { unsafe UnsafeMutableRawBufferPointer(rebasing: $0[position...]).copyMemory(from: source) }
    }
  }
}

extension TransportProtocol {
  /// Without options (RFC 768, RFC 9293 3.1).
  fileprivate var headerLength: Int { self == .udp ? 8 : 20 }
}
