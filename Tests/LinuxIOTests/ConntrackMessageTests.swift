import AllocationCount
import CConntrack
import Flows
import Glibc
import LinuxIO
import Testing

/// A page that ends where nothing may be read: what the parser touches beyond the message ends the test process.
final class GuardedPage {
  private let base: UnsafeMutableRawPointer
  private let size = 4096

  init() {
    base = mmap(nil, 2 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)!
    mprotect(base + size, size, PROT_NONE)
  }

  deinit { munmap(base, 2 * size) }

  /// Lends the bytes, as near to the end of the page as 4-byte alignment allows.
  func lend<R>(_ bytes: [UInt8], _ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
    let start = base + size - (bytes.count + 3) / 4 * 4
    bytes.withUnsafeBytes { start.copyMemory(from: $0.baseAddress ?? UnsafeRawPointer(start), byteCount: $0.count) }
    return try body(UnsafeRawBufferPointer(start: start, count: bytes.count))
  }
}

/// An IPv4 UDP entry behind DNAT 53 -> 5353, with everything the record holds and one attribute from the future.
let goldenMessage: [UInt8] = [
  0xc4, 0, 0, 0, 0x00, 0x01, 0x00, 0x06, 0, 0, 0, 0, 0, 0, 0, 0,  // 196 bytes, IPCTNL_MSG_CT_NEW, NLM_F_CREATE|NLM_F_EXCL
  2, 0, 0, 0,  // AF_INET
  0x34, 0, 0x01, 0x80,  // CTA_TUPLE_ORIG
  0x14, 0, 0x01, 0x80, 8, 0, 1, 0, 10, 40, 0, 17, 8, 0, 2, 0, 10, 96, 0, 10,  // 10.40.0.17 > 10.96.0.10
  0x1c, 0, 0x02, 0x80, 5, 0, 1, 0, 17, 0, 0, 0, 6, 0, 2, 0, 0x90, 0x12, 0, 0, 6, 0, 3, 0, 0, 53, 0, 0,  // UDP 36882 > 53
  0x34, 0, 0x02, 0x80,  // CTA_TUPLE_REPLY
  0x14, 0, 0x01, 0x80, 8, 0, 1, 0, 10, 32, 1, 6, 8, 0, 2, 0, 10, 40, 0, 17,  // 10.32.1.6 > 10.40.0.17
  0x1c, 0, 0x02, 0x80, 5, 0, 1, 0, 17, 0, 0, 0, 6, 0, 2, 0, 0x14, 0xe9, 0, 0, 6, 0, 3, 0, 0x90, 0x12, 0, 0,  // UDP 5353 > 36882
  8, 0, 12, 0, 0xde, 0xad, 0xbe, 0xef,  // CTA_ID
  8, 0, 3, 0, 0, 0, 0x01, 0xa8,  // CTA_STATUS
  8, 0, 8, 0, 0, 0, 0, 42,  // CTA_MARK
  6, 0, 18, 0, 0, 7, 0, 0,  // CTA_ZONE
  0x1c, 0, 0x14, 0x80, 12, 0, 1, 0, 0x18, 0x7a, 0, 0, 0, 0, 0, 1, 12, 0, 2, 0, 0x18, 0x7a, 0, 0, 0, 0, 0, 2,  // CTA_TIMESTAMP
  9, 0, 63, 0, 1, 2, 3, 4, 5, 0, 0, 0,  // unknown
]

@Suite struct ConntrackMessageTests {
  let page = GuardedPage()

  func decode(_ bytes: [UInt8]) -> Result<ConntrackEvent, ConntrackDecodeError> {
    page.lend(bytes) { buffer in
      Result { () throws(ConntrackDecodeError) in try ConntrackMessage.decode(buffer.bytes, readAt: Instant(nanoseconds: 9)) }
    }
  }

  @Test func goldenBytes() throws {
    let event = try decode(goldenMessage).get()
    #expect(event.kind == .new)
    #expect(event.original == FiveTuple(udp: endpoint("10.40.0.17", 36882), endpoint("10.96.0.10", 53)))
    #expect(event.reply == FiveTuple(udp: endpoint("10.32.1.6", 5353), endpoint("10.40.0.17", 36882)))
    #expect(event.id == 0xdead_beef)
    #expect(event.status == [.confirmed, .destinationNAT, .sourceNATDone, .destinationNATDone])
    #expect(event.mark == 42)
    #expect(event.zone == 7)
    #expect(event.start == 0x187a_0000_0000_0001)
    #expect(event.stop == 0x187a_0000_0000_0002)
    #expect(event.readAt == Instant(nanoseconds: 9))
    #expect(event.isDestinationTranslated && !event.isSourceTranslated)
  }

  @Test func libraryAgreesOnTheGoldenBytes() {
    var text = [CChar](repeating: 0, count: 1024)
    let length = page.lend(goldenMessage) { conntrack_text($0.baseAddress!, &text, text.count) }
    let line = String(decoding: text[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    #expect(line.contains("src=10.40.0.17 dst=10.96.0.10 sport=36882 dport=53"))
    #expect(line.contains("src=10.32.1.6 dst=10.40.0.17 sport=5353 dport=36882"))
    #expect(line.contains("mark=42") && line.contains("zone=7"))
  }

  @Test func everyReceivedLength() {
    for length in 0..<goldenMessage.count {
      guard case .failure(.shortMessage) = decode(Array(goldenMessage[..<length])) else {
        Issue.record("\(length) of \(goldenMessage.count) bytes were taken for a message")
        return
      }
    }
  }

  /// Cut and made to look whole: either refused, or everything that was left is right.
  @Test func everyClaimedLength() throws {
    let whole = try decode(goldenMessage).get()
    var taken = 0
    for length in 16..<goldenMessage.count {
      let bytes = Netlink.host(UInt32(length)) + goldenMessage[4..<length]
      switch decode(bytes) {
      case .failure(let error):
        #expect(error != .otherType)
        if length < 20 { #expect(error == .shortMessage) }
      case .success(let event):
        taken += 1
        #expect(event.original == whole.original && event.reply == whole.reply && event.kind == .new)
        #expect(event.id == 0 || event.id == whole.id)
        #expect(event.mark == 0 || event.mark == whole.mark)
        #expect(event.zone == 0 || event.zone == whole.zone)
        #expect(event.start == 0 || event.start == whole.start)
        #expect(length >= 124)
      }
    }
    // At the end of REPLY, ID, STATUS, MARK, ZONE (twice more inside its padding) and TIMESTAMP; inside the unknown one's padding three times.
    #expect(taken == 11)
  }

  @Test(arguments: [
    (UInt16(0x0100), UInt16(0x600), ConntrackEvent.Kind.new), (0x0100, 0x400, .update), (0x0100, 0x200, .update), (0x0100, 0, .update),
    (0x0102, 0, .destroy),
  ])
  func kinds(_ type: UInt16, _ flags: UInt16, _ kind: ConntrackEvent.Kind) throws {
    let tuple = FiveTuple(udp: endpoint("10.0.0.1", 1), endpoint("10.0.0.2", 53))
    let bytes = Netlink.message(type: type, flags: flags, Netlink.tuple(1, tuple), Netlink.tuple(2, tuple.inverse))
    #expect(try decode(bytes).get().kind == kind)
  }

  @Test func ipv6AndTupleZones() throws {
    let tuple = FiveTuple(source: endpoint("2001:db8::17", 40000), destination: endpoint("fd00::a", 53), protocolNumber: 6)
    func zone(_ original: UInt16?, _ reply: UInt16?) throws -> UInt16 {
      let event = try decode(
        Netlink.message(family: 10, Netlink.tuple(1, tuple, zone: original), Netlink.tuple(2, tuple.inverse, zone: reply))
      ).get()
      #expect(event.original == tuple && event.reply == tuple.inverse)
      return event.zone
    }
    #expect(try zone(nil, nil) == 0)
    #expect(try zone(5, nil) == 5)
    #expect(try zone(nil, 6) == 0)
  }

  @Test func reasons() {
    let tuple = FiveTuple(udp: endpoint("10.0.0.1", 1), endpoint("10.0.0.2", 53))
    let original = Netlink.tuple(1, tuple)
    let reply = Netlink.tuple(2, tuple.inverse)
    func reason(_ bytes: [UInt8]) -> ConntrackDecodeError? {
      if case .failure(let error) = decode(bytes) { return error }
      return nil
    }
    #expect(reason(Netlink.message(original, reply)) == nil)
    #expect(reason(Netlink.message(type: 0x0200, original, reply)) == .otherType)
    #expect(reason(Netlink.message(type: 0x0101, original, reply)) == .otherType)
    #expect(reason(Netlink.message(original)) == .noTuple)
    #expect(reason(Netlink.message(reply)) == .noTuple)
    #expect(reason(Netlink.message(Netlink.nest(1), reply)) == .noTuple)
    #expect(reason(Netlink.message(original, reply, Netlink.attribute(3, [0, 0]))) == .badAttribute)
    #expect(reason(Netlink.message(original, reply, Netlink.attribute(18, []))) == .badAttribute)
    #expect(reason(Netlink.message(original, reply, Netlink.nest(20, Netlink.attribute(1, [1])))) == .badAttribute)
    #expect(reason(Netlink.message(original, reply, [200, 0, 3, 0])) == .badAttribute)
    #expect(reason(Netlink.message(original, reply, [0, 0, 0, 0])) == .badAttribute)
    let mixed = Netlink.nest(
      1, Netlink.nest(1, Netlink.attribute(1, [1, 2, 3, 4]), Netlink.attribute(4, Array(repeating: 1, count: 16))),
      Netlink.nest(2, Netlink.attribute(1, [17])))
    #expect(reason(Netlink.message(mixed, reply)) == .noTuple)
    let short = Netlink.nest(1, Netlink.nest(1, Netlink.attribute(3, [1, 2, 3, 4])))
    #expect(reason(Netlink.message(short, reply)) == .badAttribute)
  }

  @Test func mutatedBytesNeverReadBeyondTheMessage() {
    var random = SystemRandomNumberGenerator()
    var seed = random.next()
    var outcomes = 0
    for _ in 0..<50_000 {
      var bytes = goldenMessage
      for _ in 0..<3 {
        seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        bytes[16 + Int((seed >> 33) % UInt64(bytes.count - 16))] = UInt8(truncatingIfNeeded: seed >> 24)
      }
      if case .failure = decode(bytes) { outcomes += 1 }
    }
    #expect(outcomes > 0 && outcomes < 50_000)
  }

  /// With the attributes for which libnetfilter_conntrack allocates: CTA_HELP with CTA_HELP_INFO, CTA_SECCTX and CTA_LABELS.
  @Test func noAllocationPerMessage() {
    let tuple = FiveTuple(udp: endpoint("10.0.0.1", 1), endpoint("10.0.0.2", 53))
    let bytes = Netlink.message(
      Netlink.tuple(1, tuple), Netlink.tuple(2, tuple.inverse),
      Netlink.nest(5, Netlink.attribute(1, [0x66, 0]), Netlink.attribute(2, [1, 2, 3, 4])),
      Netlink.nest(19, Netlink.attribute(1, [0x73, 0])), Netlink.attribute(22, Array(repeating: 1, count: 16)))
    page.lend(bytes) { buffer in
      var ports = 0
      var sum: UInt64 = 0
      let before = allocation_count()
      for index in 0..<10_000 {
        if let event = try? ConntrackMessage.decode(buffer.bytes, readAt: Instant(nanoseconds: Int64(index))) {
          ports += Int(event.original.destination.port)
          sum &+= event.original.source.address.low
        }
      }
      let allocations = allocation_count() - before
      #expect(ports == 530_000 && sum > 0)
      #expect(allocations == 0)

      var text = [CChar](repeating: 0, count: 1024)
      let beforeText = allocation_count()
      _ = conntrack_text(buffer.baseAddress!, &text, text.count)
      #expect(allocation_count() - beforeText >= 3, "the counter must see the library's allocations")
    }
  }
}
