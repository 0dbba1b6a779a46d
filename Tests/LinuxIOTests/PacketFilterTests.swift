import CLinux
import Flows
import Testing

@testable import LinuxIO

/// One frame as it came out of the ring, with the ID that its last two bytes hold.
struct SeenFrame: Hashable {
  var id: UInt16
  var isOutgoing: Bool
  var interface: UInt32
  var vlan: UInt16
  var protocolNumber: UInt16
}

/// Reads until a frame with the ID `last` came in over a device, or 5 s are over.
func drain(_ ring: inout PacketRing, until last: UInt16) throws -> [SeenFrame] {
  var seen: [SeenFrame] = []
  var loop = try EventLoop()
  try loop.add(ring.descriptor, as: EventToken(0), .immediate)
  let deadline = Clocks.monotonic() + 5 * Nanoseconds.perSecond
  while Clocks.monotonic() < deadline, !seen.contains(where: { $0.id == last && !$0.isOutgoing }) {
    _ = loop.wait(timeoutMilliseconds: 100)
    ring.collect()
    ring.process(upTo: WallTime(nanoseconds: .max)) { header, bytes in
      let id = UInt16(bigEndian: bytes.unsafeLoadUnaligned(fromByteOffset: bytes.byteCount - 2, as: UInt16.self))
      seen.append(
        SeenFrame(
          id: id, isOutgoing: header.isOutgoing, interface: header.interface, vlan: header.vlan, protocolNumber: header.protocolNumber))
    }
  }
  return seen
}

@Suite(.enabled(if: Sandbox.isAvailable, Sandbox.reason))
struct PacketFilterTests {
  static let sentinel: UInt16 = 0xFFFE

  struct Shape: Sendable {
    var name: String
    var frame: [UInt8]
    var passes: Bool
  }

  /// The ID of a shape is its place in the list.
  static func shapes() -> [Shape] {
    table().enumerated().map { Shape(name: $1.0, frame: $1.1(UInt16($0)), passes: $1.2) }
  }

  private static func table() -> [(String, (UInt16) -> [UInt8], Bool)] {
    typealias P = Packets
    func v4(_ frame: @escaping (UInt16) -> [UInt8]) -> (UInt16) -> [UInt8] { { P.ethernet(0x0800, frame($0)) } }
    func v6(_ frame: @escaping (UInt16) -> [UInt8]) -> (UInt16) -> [UInt8] { { P.ethernet(0x86DD, frame($0)) } }
    return [
      ("v4 query", v4 { P.v4(17, P.udp(40000, 53, id: $0)) }, true),
      ("v4 answer", v4 { P.v4(17, P.udp(53, 40000, id: $0)) }, true),
      ("v4 second port", v4 { P.v4(17, P.udp(40000, 5353, id: $0)) }, true),
      ("v4 options", v4 { P.v4(17, P.udp(40000, 53, id: $0), options: 3) }, true),
      ("v4 first fragment", v4 { P.v4(17, P.udp(40000, 53, id: $0), fragment: 0x2000) }, true),
      ("v4 later fragment", v4 { P.v4(17, P.udp(40000, 53, id: $0), fragment: 0x2001) }, false),
      ("v4 other port", v4 { P.v4(17, P.udp(40000, 54, id: $0)) }, false),
      ("v4 ports in the option's place", v4 { P.v4(17, P.udp(40000, 54, id: $0), options: 1) }, false),
      ("v4 GRE", v4 { P.v4(47, P.udp(40000, 53, id: $0)) }, false),
      ("v4 TCP data", v4 { P.v4(6, P.tcp(40000, 53, id: $0)) }, true),
      ("v4 TCP data after options", v4 { P.v4(6, P.tcp(53, 40000, id: $0, options: 3), options: 2) }, true),
      ("v4 TCP without data", v4 { _ in P.v4(6, P.tcp(40000, 53, id: nil)) }, false),
      ("v4 TCP options without data", v4 { _ in P.v4(6, P.tcp(40000, 53, id: nil, options: 5)) }, false),
      ("v4 TCP too long for its length", v4 { P.v4(6, P.tcp(40000, 53, id: $0), totalLength: 0) }, true),
      ("v4 TCP other port", v4 { P.v4(6, P.tcp(40000, 80, id: $0)) }, false),
      ("v6 query", v6 { P.v6(17, P.udp(40000, 53, id: $0)) }, true),
      ("v6 answer", v6 { P.v6(17, P.udp(5353, 40000, id: $0)) }, true),
      ("v6 other port", v6 { P.v6(17, P.udp(40000, 54, id: $0)) }, false),
      ("v6 destination options", v6 { P.v6(60, P.extended(17, P.udp(40000, 53, id: $0))) }, true),
      ("v6 hop-by-hop of 16 bytes", v6 { P.v6(0, P.extended(17, units: 2, P.udp(40000, 53, id: $0))) }, true),
      ("v6 routing", v6 { P.v6(43, P.extended(17, units: 3, P.udp(40000, 53, id: $0))) }, true),
      ("v6 extension, other port", v6 { P.v6(60, P.extended(17, units: 2, P.udp(40000, 54, id: $0))) }, false),
      ("v6 first fragment", v6 { P.v6(44, P.fragmented(17, offset: 0, P.udp(40000, 53, id: $0))) }, true),
      ("v6 later fragment", v6 { P.v6(44, P.fragmented(17, offset: 5, P.udp(40000, 53, id: $0))) }, false),
      ("v6 TCP data", v6 { P.v6(6, P.tcp(40000, 53, id: $0)) }, true),
      ("v6 TCP without data", v6 { _ in P.v6(6, P.tcp(40000, 53, id: nil)) }, false),
      ("v6 TCP data after an extension", v6 { P.v6(60, P.extended(6, units: 2, P.tcp(40000, 53, id: $0, options: 1))) }, true),
      ("v6 TCP without data after an extension", v6 { _ in P.v6(60, P.extended(6, units: 2, P.tcp(40000, 53, id: nil, options: 1))) }, false),
      ("v6 TCP too long for its length", v6 { P.v6(6, P.tcp(40000, 53, id: $0), payloadLength: 0) }, true),
      ("v6 ICMP", v6 { P.v6(58, P.udp(40000, 53, id: $0)) }, false),
      ("v4 port unreachable", v4 { P.v4(1, P.icmp(3, P.v4(17, P.udp(40000, 53, id: $0)))) }, true),
      ("v4 time exceeded", v4 { P.v4(1, P.icmp(11, P.v4(17, P.udp(40000, 5353, id: $0)))) }, true),
      ("v4 unreachable, options in both", v4 { P.v4(1, P.icmp(3, P.v4(17, P.udp(40000, 53, id: $0), options: 2)), options: 3) }, true),
      ("v4 unreachable about an answer", v4 { P.v4(1, P.icmp(3, P.v4(17, P.udp(53, 40000, id: $0)))) }, true),
      ("v4 unreachable about another port", v4 { P.v4(1, P.icmp(3, P.v4(17, P.udp(40000, 54, id: $0)))) }, false),
      ("v4 unreachable about TCP", v4 { P.v4(1, P.icmp(3, P.v4(6, P.tcp(40000, 53, id: $0)))) }, false),
      ("v4 unreachable about a later fragment", v4 { P.v4(1, P.icmp(3, P.v4(17, P.udp(40000, 53, id: $0), fragment: 0x2001))) }, false),
      ("v4 echo", v4 { P.v4(1, P.icmp(8, P.v4(17, P.udp(40000, 53, id: $0)))) }, false),
      ("v4 redirect", v4 { P.v4(1, P.icmp(5, P.v4(17, P.udp(40000, 53, id: $0)))) }, false),
      ("v4 unreachable cut before the ports", v4 { _ in P.v4(1, Array(P.icmp(3, P.v4(17, P.udp(40000, 53, id: 0))).prefix(28))) }, false),
      ("v6 port unreachable", v6 { P.v6(58, P.icmp(1, P.v6(17, P.udp(40000, 53, id: $0)))) }, true),
      ("v6 time exceeded", v6 { P.v6(58, P.icmp(3, P.v6(17, P.udp(40000, 53, id: $0)))) }, true),
      ("v6 unreachable about another port", v6 { P.v6(58, P.icmp(1, P.v6(17, P.udp(40000, 54, id: $0)))) }, false),
      ("v6 packet too big", v6 { P.v6(58, P.icmp(2, P.v6(17, P.udp(40000, 53, id: $0)))) }, false),
      ("v6 neighbour solicitation", v6 { P.v6(58, P.icmp(135, P.v6(17, P.udp(40000, 53, id: $0)))) }, false),
      ("ARP", { P.ethernet(0x0806, P.udp(40000, 53, id: $0)) }, false),
      ("v4 header cut", { _ in P.ethernet(0x0800, Array(P.v4(17, P.udp(40000, 53, id: 0)).prefix(20))) }, false),
    ]
  }

  private struct Capture: Sendable {
    var seen: [SeenFrame] = []
    var statistics = PacketStatistics()
    var a: UInt32 = 0
    var b: UInt32 = 0
  }

  /// Sends the frames and a last query out of `b`, whose other end is `a`.
  private func capture(_ frames: [[UInt8]], ports: [UInt16] = [53], learned: [UInt16] = [], last: UInt16 = 53) throws -> Capture {
    var result = Capture()
    try Sandbox.run {
      try Sandbox.vethPair()
      var options = PacketRingOptions()
      options.ports = ports
      var ring = try PacketRing(options)
      if !learned.isEmpty { try ring.setPorts(learned) }
      let sender = try FrameSender("b")
      for frame in frames { sender.send(frame) }
      sender.send(Packets.query(Self.sentinel, port: last))
      result.seen = try drain(&ring, until: Self.sentinel)
      result.statistics = ring.statistics()
      result.a = Sandbox.index("a")
      result.b = Sandbox.index("b")
    }
    return result
  }

  @Test func passesAndRefusesEachShapeInBothDirections() throws {
    let shapes = Self.shapes()
    let captured = try capture(shapes.map(\.frame), ports: [53, 5353])
    let seen = captured.seen
    #expect(seen.contains { $0.id == Self.sentinel && !$0.isOutgoing && $0.interface == captured.a })
    #expect(seen.contains { $0.id == Self.sentinel && $0.isOutgoing && $0.interface == captured.b })
    for (number, shape) in shapes.enumerated() {
      let copies = seen.filter { $0.id == UInt16(number) }
      #expect(copies.count == (shape.passes ? 2 : 0), "\(shape.name)")
      if shape.passes { #expect(Set(copies.map(\.isOutgoing)) == [true, false], "\(shape.name)") }
    }
    #expect(seen.count == 2 * (1 + shapes.count { $0.passes }))
    #expect(captured.statistics == PacketStatistics(packets: UInt64(seen.count), drops: 0, freezes: 0))
  }

  @Test func seesThroughOneVLANTag() throws {
    let captured = try capture([
      Packets.ethernet(0x0800, Packets.v4(17, Packets.udp(40000, 53, id: 1)), vlan: 3 << 13 | 100),
      Packets.ethernet(0x86DD, Packets.v6(17, Packets.udp(40000, 53, id: 2)), vlan: 7),
    ])
    let came = Set(captured.seen.filter { !$0.isOutgoing })
    #expect(
      came == [
        SeenFrame(id: 1, isOutgoing: false, interface: captured.a, vlan: 100, protocolNumber: 0x0800),
        SeenFrame(id: 2, isOutgoing: false, interface: captured.a, vlan: 7, protocolNumber: 0x86DD),
        SeenFrame(id: Self.sentinel, isOutgoing: false, interface: captured.a, vlan: 0, protocolNumber: 0x0800),
      ])
  }

  @Test func takesLearnedPortsWhileRunning() throws {
    let frames = [Packets.query(1, port: 5353), Packets.query(2)]
    #expect(try Set(capture(frames).seen.map(\.id)) == [2, Self.sentinel])
    #expect(try Set(capture(frames, learned: [53, 5353]).seen.map(\.id)) == [1, 2, Self.sentinel])
    #expect(try Set(capture(frames, learned: [5353], last: 5353).seen.map(\.id)) == [1, Self.sentinel])
  }

  @Test func sixteenPortsFitAndSeventeenAreRefused() throws {
    #expect(try PacketFilter(ports: Array(1...16), snapLength: 512).program.count < 128)
    #expect(throws: SetupError.self) { try PacketFilter(ports: Array(1...17), snapLength: 512) }
    let captured = try capture((1...17).map { Packets.query($0, port: $0) }, ports: Array(1...16), last: 16)
    #expect(Set(captured.seen.map(\.id)) == Set(1...16).union([Self.sentinel]))
  }
}
