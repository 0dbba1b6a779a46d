import Flows
import Testing
import Wire

@testable import Agent
@testable import LinuxIO

/// A place says of its frame what a new one would, whatever stood in it before.
@Suite struct FrameInHandTests {
  private struct Frame {
    var name: String
    var bytes: [UInt8]
    var etherType: UInt16 = 0x0800
    var isOutgoing = false
    var isChecksumOpen = false
  }

  private static func big(_ values: UInt16...) -> [UInt8] { values.flatMap { [UInt8($0 >> 8), UInt8($0 & 0xFF)] } }

  private static func ip(_ payload: [UInt8], transport: UInt8 = 17, options: [UInt8] = []) -> [UInt8] {
    let total = UInt16(20 + options.count + payload.count)
    return [UInt8(0x45 + options.count / 4), 0] + big(total, 0, 0) + [64, transport, 0, 0, 10, 0, 1, 2, 10, 1, 1, 2] + options + payload
  }

  private static func udp(_ message: [UInt8], checksum: UInt16 = 0) -> [UInt8] {
    big(40_000, 53, UInt16(8 + message.count), checksum) + message
  }

  private static let frames: [Frame] = {
    let question = [3, 0x61, 0x62, 0x63, 7] + Array("example".utf8) + [0] + big(1, 1)
    let query = big(9, 0x0100, 1, 0, 0, 0) + question
    let answer = big(9, 0x8783, 1, 0, 0, 1) + question + [0] + big(41, 1232, 0x0100, 0, 0)
    let pointer = big(8, 0x0100, 1, 0, 0, 0) + [1, 0x61, 0xC0, 2] + big(28, 1)
    let ipv6 = [0x60, 0, 0, 0] + big(UInt16(8 + query.count)) + [17, 64] + [UInt8](repeating: 0x20, count: 32) + udp(query)
    return [
      Frame(name: "query", bytes: ip(udp(query))),
      Frame(name: "query with a wrong checksum", bytes: ip(udp(query, checksum: 0x1234)), isChecksumOpen: true),
      Frame(name: "sent query with a wrong checksum", bytes: ip(udp(query, checksum: 0x1234)), isOutgoing: true, isChecksumOpen: true),
      Frame(name: "answer", bytes: ip(udp(answer)), isOutgoing: true),
      Frame(name: "options", bytes: ip(udp(query, checksum: 0x1234), options: [1, 1, 1, 0]), isChecksumOpen: true),
      Frame(name: "pointer", bytes: ip(udp(pointer))),
      Frame(name: "no question", bytes: ip(udp(big(7, 0x8181, 0, 0, 0, 0)))),
      Frame(name: "IPv6", bytes: ipv6, etherType: 0x86DD),
      Frame(name: "TCP", bytes: ip(big(40_001, 53, 0, 1, 0, 0, 0x5018, 100, 0, 0) + [1, 2, 3], transport: 6)),
      Frame(name: "ICMP", bytes: ip([3, 3, 0, 0, 0, 0, 0, 0] + ip(udp(query)), transport: 1)),
      Frame(name: "ARP", bytes: [UInt8](repeating: 0, count: 28), etherType: 0x0806),
      Frame(name: "cut", bytes: Array(ip(udp(query)).prefix(30))),
    ]
  }()

  /// All that is read of a place, as text.
  private static func decode(_ frame: Frame, into place: inout FrameInHand, _ decoder: inout PacketDecoder) -> String {
    let header = FrameHeader(
      stamp: WallTime(nanoseconds: 5), interface: 7, isOutgoing: frame.isOutgoing, isChecksumOpen: frame.isChecksumOpen,
      protocolNumber: frame.etherType, vlan: 0, originalLength: UInt32(frame.bytes.count))
    var said = ""
    do throws(DecodeError) {
      let isQuery = try place.decode(header, frame.bytes.span.bytes, at: Instant(nanoseconds: 6), &decoder)
      said = "query \(isQuery)"
    } catch {
      return "\(place.state) \(error)"
    }
    said += " \(place.state) \(place.packet)"
    if place.state == .plain { said += " \(place.nameStart) \(place.nameEnd)" }
    if place.state == .again { said += " \(place.etherType) \(place.wireLength)" }
    return said
  }

  @Test func nothingOfTheFrameBeforeIsLeft() {
    var states: Set<String> = []
    for before in Self.frames {
      for frame in Self.frames {
        var fresh = FrameInHand()
        var decoder = PacketDecoder(hashSeed: 3)
        let expected = Self.decode(frame, into: &fresh, &decoder)
        var place = FrameInHand()
        var other = PacketDecoder(hashSeed: 3)
        _ = Self.decode(before, into: &place, &other)
        let said = Self.decode(frame, into: &place, &other)
        #expect(said == expected, "\(frame.name) after \(before.name)")
        states.insert("\(place.state)")
      }
    }
    #expect(states.count == 3)
  }

  @Test func checksumsAreLookedAtWhereAQueryComesIn() {
    for frame in Self.frames {
      var place = FrameInHand()
      var decoder = PacketDecoder(hashSeed: 3)
      _ = Self.decode(frame, into: &place, &decoder)
      #expect(place.packet.hasBadChecksum == (frame.isChecksumOpen && !frame.isOutgoing), "\(frame.name)")
    }
  }
}
