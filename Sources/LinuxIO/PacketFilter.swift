package import CConntrack
import CLinux
import Flows

/// The classic BPF program of the packet ring: DNS ports only, decided before a frame is copied.
///
/// Passes UDP, and TCP segments that carry data, whose source or destination port is in the list: over IPv4 with options and in first fragments, over
/// IPv6 without extension header, with one (hop-by-hop, destination or routing, RFC 8200 4) or in a first fragment. Of ICMP only the errors
/// "destination unreachable" and "time exceeded" about such a UDP datagram pass. All loads are relative to the
/// network header, so the program is the same on every kind of device; a VLAN tag is already gone (`skb_vlan_untag`).
package struct PacketFilter {
  package static let maximumPorts = 16

  package let program: [sock_filter]

  /// - Parameters:
  ///   - ports: up to 16, in host order. With none nothing passes.
  ///   - snapLength: how many bytes of a frame are kept, from the network header.
  /// - Throws: `SetupError` where there are more ports.
  package init(ports: [UInt16], snapLength: UInt32) throws(SetupError) {
    guard ports.count <= Self.maximumPorts else {
      throw SetupError("packet filter", cause: "\(ports.count) ports, at most \(Self.maximumPorts) fit", remedy: "name fewer DNS ports")
    }
    var assembler = Assembler()
    Self.classify(&assembler)
    Self.requireData(&assembler)
    Self.requireQuotation(&assembler)
    Self.matchPorts(ports, snapLength, &assembler)
    program = assembler.resolved()
  }

  /// Finds the transport header and leaves its offset in X; ends at `ports`, `tcp4`, `tcp6`, `icmp4` or `icmp6`.
  private static func classify(_ code: inout Assembler) {
    code.loadByte(0)
    code.shiftRight(4)
    code.jump(ifEqual: 4, to: .v4)
    code.jump(ifEqual: 6, to: .v6, else: .reject)

    code.place(.v4)
    code.loadHalf(6)
    code.jump(ifAnyOf: 0x1FFF, to: .reject)
    code.loadByte(0)
    code.and(0x0F)
    code.shiftLeft(2)
    code.moveToX()
    code.loadByte(9)
    code.jump(ifEqual: UInt32(TransportProtocol.udp.rawValue), to: .ports)
    code.jump(ifEqual: UInt32(TransportProtocol.tcp.rawValue), to: .tcp4)
    code.jump(ifEqual: UInt32(TransportProtocol.icmp.rawValue), to: .icmp4, else: .reject)

    code.place(.v6)
    code.loadX(40)
    code.loadByte(6)
    code.jump(ifEqual: UInt32(TransportProtocol.udp.rawValue), to: .ports)
    code.jump(ifEqual: UInt32(TransportProtocol.tcp.rawValue), to: .tcp6)
    code.jump(ifEqual: UInt32(TransportProtocol.icmpv6.rawValue), to: .icmp6)
    code.jump(ifEqual: 0, to: .extended)
    code.jump(ifEqual: 60, to: .extended)
    code.jump(ifEqual: 43, to: .extended)
    code.jump(ifEqual: 44, to: .fragment, else: .reject)

    // The length of an extension header counts units of eight bytes after the first.
    code.place(.extended)
    code.loadByte(41)
    code.shiftLeft(3)
    code.add(48)
    code.moveToX()
    code.jump(to: .afterExtension)

    code.place(.fragment)
    code.loadHalf(42)
    code.jump(ifAnyOf: 0xFFF8, to: .reject)
    code.loadX(48)

    code.place(.afterExtension)
    code.loadByte(40)
    code.jump(ifEqual: UInt32(TransportProtocol.udp.rawValue), to: .ports)
    code.jump(ifEqual: UInt32(TransportProtocol.tcp.rawValue), to: .tcp6, else: .reject)
  }

  /// Refuses TCP segments without data. A length of 0 is a segment too long for the field (RFC 2675, and the kernel's IPv4 equivalent) and passes.
  private static func requireData(_ code: inout Assembler) {
    code.place(.tcp6)
    code.loadHalf(4)
    code.jump(ifEqual: 0, to: .ports)
    code.add(40)
    code.jump(to: .tcp)

    code.place(.tcp4)
    code.loadHalf(2)
    code.jump(ifEqual: 0, to: .ports)

    // A is the packet's length, X the offset of the TCP header, whose own length is in the upper half of byte 12.
    code.place(.tcp)
    code.store(0)
    code.storeX(1)
    code.loadByte(atXPlus: 12)
    code.shiftRight(2)
    code.and(0x3C)
    code.addX()
    code.moveToX()
    code.load(0)
    code.jumpIfGreaterThanX(to: .data, else: .reject)
    code.place(.data)
    code.loadXFromMemory(1)
  }

  /// Goes on to the ports of the UDP header that an ICMP error quotes; X is the offset of the ICMP header (RFC 792; RFC 4443 3.1, 3.3).
  private static func requireQuotation(_ code: inout Assembler) {
    code.jump(to: .ports)
    code.place(.icmp4)
    code.loadByte(atXPlus: 0)
    code.jump(ifEqual: 3, to: .quoted4)
    code.jump(ifEqual: 11, to: .quoted4, else: .reject)
    code.place(.quoted4)
    code.loadByte(atXPlus: 17)
    code.jump(ifEqual: UInt32(TransportProtocol.udp.rawValue), to: .header4, else: .reject)
    code.place(.header4)
    code.loadHalf(atXPlus: 14)
    code.jump(ifAnyOf: 0x1FFF, to: .reject)
    // The quoted header begins after eight bytes, and its own length is in its first.
    code.loadByte(atXPlus: 8)
    code.and(0x0F)
    code.shiftLeft(2)
    code.addX()
    code.add(8)
    code.moveToX()
    code.jump(to: .ports)

    code.place(.icmp6)
    code.loadByte(40)
    code.jump(ifEqual: 1, to: .quoted6)
    code.jump(ifEqual: 3, to: .quoted6, else: .reject)
    code.place(.quoted6)
    code.loadByte(54)
    code.jump(ifEqual: UInt32(TransportProtocol.udp.rawValue), to: .header6, else: .reject)
    code.place(.header6)
    code.loadX(88)
  }

  private static func matchPorts(_ ports: [UInt16], _ snapLength: UInt32, _ code: inout Assembler) {
    code.place(.ports)
    for offset in [UInt32(0), 2] {
      code.loadHalf(atXPlus: offset)
      for port in ports { code.jump(ifEqual: UInt32(port), to: .accept) }
    }
    code.place(.reject)
    code.finish(0)
    code.place(.accept)
    code.finish(snapLength)
  }
}

/// Writes classic BPF with named jump targets. Jumps are forward and at most 255 instructions far: the longest program has 127.
private struct Assembler {
  enum Label: Int, CaseIterable {
    case next, v4, v6, extended, fragment, afterExtension, tcp4, tcp6, tcp, data, icmp4, quoted4, header4, icmp6, quoted6, header6, ports, reject,
      accept
  }

  private var instructions: [(code: UInt32, k: UInt32, yes: Label, no: Label)] = []
  private var places = [Int](repeating: 0, count: Label.allCases.count)

  /// SKF_NET_OFF: offsets above it count from the network header.
  private static let network = UInt32(bitPattern: SKF_NET_OFF)

  private mutating func emit(_ code: Int32, _ k: UInt32 = 0, _ yes: Label = .next, _ no: Label = .next) {
    instructions.append((UInt32(bitPattern: code), k, yes, no))
  }

  mutating func place(_ label: Label) { places[label.rawValue] = instructions.count }
  mutating func loadByte(_ offset: UInt32) { emit(BPF_LD | BPF_B | BPF_ABS, Self.network &+ offset) }
  mutating func loadHalf(_ offset: UInt32) { emit(BPF_LD | BPF_H | BPF_ABS, Self.network &+ offset) }
  mutating func loadByte(atXPlus offset: UInt32) { emit(BPF_LD | BPF_B | BPF_IND, Self.network &+ offset) }
  mutating func loadHalf(atXPlus offset: UInt32) { emit(BPF_LD | BPF_H | BPF_IND, Self.network &+ offset) }
  mutating func load(_ cell: UInt32) { emit(BPF_LD | BPF_MEM, cell) }
  mutating func loadX(_ value: UInt32) { emit(BPF_LDX | BPF_IMM, value) }
  mutating func loadXFromMemory(_ cell: UInt32) { emit(BPF_LDX | BPF_MEM, cell) }
  mutating func store(_ cell: UInt32) { emit(BPF_ST, cell) }
  mutating func storeX(_ cell: UInt32) { emit(BPF_STX, cell) }
  mutating func moveToX() { emit(BPF_MISC | BPF_TAX) }
  mutating func add(_ value: UInt32) { emit(BPF_ALU | BPF_ADD | BPF_K, value) }
  mutating func addX() { emit(BPF_ALU | BPF_ADD | BPF_X) }
  mutating func and(_ value: UInt32) { emit(BPF_ALU | BPF_AND | BPF_K, value) }
  mutating func shiftLeft(_ bits: UInt32) { emit(BPF_ALU | BPF_LSH | BPF_K, bits) }
  mutating func shiftRight(_ bits: UInt32) { emit(BPF_ALU | BPF_RSH | BPF_K, bits) }
  mutating func jump(to label: Label) { emit(BPF_JMP | BPF_JA, 0, label) }
  mutating func jump(ifEqual value: UInt32, to yes: Label, else no: Label = .next) { emit(BPF_JMP | BPF_JEQ | BPF_K, value, yes, no) }
  mutating func jump(ifAnyOf bits: UInt32, to yes: Label) { emit(BPF_JMP | BPF_JSET | BPF_K, bits, yes) }
  mutating func jumpIfGreaterThanX(to yes: Label, else no: Label) { emit(BPF_JMP | BPF_JGT | BPF_X, 0, yes, no) }
  mutating func finish(_ length: UInt32) { emit(BPF_RET | BPF_K, length) }

  func resolved() -> [sock_filter] {
    instructions.enumerated().map { index, instruction in
      func distance(_ label: Label) -> Int { label == .next ? 0 : places[label.rawValue] - index - 1 }
      if instruction.code == UInt32(bitPattern: BPF_JMP | BPF_JA) {
        return sock_filter(code: UInt16(instruction.code), jt: 0, jf: 0, k: UInt32(distance(instruction.yes)))
      }
      return sock_filter(
        code: UInt16(instruction.code), jt: UInt8(distance(instruction.yes)), jf: UInt8(distance(instruction.no)), k: instruction.k)
    }
  }
}
