import CConntrack
import Flows
import Glibc
import Testing

/// What decides in the kernel which ctnetlink messages user space gets.
protocol MessageFilter {
  func passes(_ message: [UInt8]) -> Bool
}

/// The real kernel's socket filter on a pair of UNIX datagram sockets: what went in, and whether it came out.
final class FilteredPair: MessageFilter {
  private let sockets: [Int32]

  init(ports: [UInt16]) throws {
    sockets = try Self.socketPair()
    try #require(conntrack_attach_filter(sockets[1], ports, ports.count) == 0)
  }

  deinit { for socket in sockets { close(socket) } }

  static func socketPair() throws -> [Int32] {
    var sockets: [Int32] = [-1, -1]
    try #require(socketpair(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0, &sockets) == 0)
    return sockets
  }

  func passes(_ message: [UInt8]) -> Bool {
    precondition(send(sockets[0], message, message.count, 0) == message.count)
    var buffer = [UInt8](repeating: 0, count: 4096)
    let count = recv(sockets[1], &buffer, buffer.count, 0)
    if count < 0 { return false }
    precondition(Array(buffer[..<count]) == message)
    return true
  }
}

@Suite struct ConntrackFilterTests {
  /// Message type, flags, and which status words it passes with: the truth table.
  struct Row: Sendable, CustomStringConvertible {
    var name: String
    var type: UInt16
    var flags: UInt16
    var passes: @Sendable (UInt32?) -> Bool
    var description: String { name }
  }

  static let rows = [
    Row(name: "NEW", type: 0x0100, flags: 0x600) { _ in true },
    Row(name: "NEW with other flags", type: 0x0100, flags: 0x607) { _ in true },
    Row(name: "UPDATE", type: 0x0100, flags: 0) { ($0 ?? 0) & 0x1000 != 0 },
    Row(name: "UPDATE, CREATE only", type: 0x0100, flags: 0x400) { ($0 ?? 0) & 0x1000 != 0 },
    Row(name: "UPDATE, EXCL only", type: 0x0100, flags: 0x200) { ($0 ?? 0) & 0x1000 != 0 },
    Row(name: "DESTROY", type: 0x0102, flags: 0) { ($0 ?? 0) & 0x1000 != 0 || ($0 ?? 0) & 2 == 0 },
    Row(name: "GET", type: 0x0101, flags: 0x600) { _ in false },
    Row(name: "expectation", type: 0x0200, flags: 0x600) { _ in false },
    Row(name: "byte-swapped NEW", type: 0x0001, flags: 0x600) { _ in false },
    Row(name: "NLMSG_DONE", type: 3, flags: 0) { _ in false },
  ]
  static let statuses: [UInt32?] = [nil, 0, 2, 0x1000, 0x1002, 0x0400, 0x118a, 0x1402, 0xffff_efff, 0xffff_ffff, 0x0010_0000]

  @Test(arguments: rows) func kindAndStatus(_ row: Row) throws { Self.check(row, try FilteredPair(ports: [53])) }

  static func check(_ row: Row, _ pair: some MessageFilter) {
    for (client, server) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
      for number: UInt8 in [17, 6] {
        let tuple = FiveTuple(source: endpoint(client, 4000), destination: endpoint(server, 53), protocolNumber: number)
        for status in statuses {
          let message = Netlink.message(
            type: row.type, flags: row.flags, Netlink.tuple(1, tuple), Netlink.tuple(2, tuple.inverse),
            Netlink.attribute(12, Netlink.be32(2)), status.map { Netlink.attribute(3, Netlink.be32($0)) } ?? [])
          #expect(pair.passes(message) == row.passes(status), "\(row) status \(status.map { String($0, radix: 16) } ?? "absent")")
        }
      }
    }
  }

  @Test func portOnEverySide() throws { Self.checkPortOnEverySide(try FilteredPair(ports: [53])) }

  static func checkPortOnEverySide(_ pair: some MessageFilter) {
    for number: UInt8 in [17, 6, 132, 1, 0] {
      for position in 0..<5 {
        var ports: [UInt16] = [4000, 4001, 4002, 4003]
        if position < 4 { ports[position] = 53 }
        let original = FiveTuple(source: endpoint("10.0.0.1", ports[0]), destination: endpoint("10.0.0.2", ports[1]), protocolNumber: number)
        let reply = FiveTuple(source: endpoint("10.0.0.3", ports[2]), destination: endpoint("10.0.0.1", ports[3]), protocolNumber: number)
        let expected = position < 4 && (number == 17 || number == 6)
        #expect(pair.passes(Netlink.message(Netlink.tuple(1, original), Netlink.tuple(2, reply))) == expected, "\(original) \(reply)")
      }
    }
  }

  @Test func sixteenPortsAndNoMore() throws {
    let ports = Self.sixteenPorts
    Self.checkSixteenPorts(try FilteredPair(ports: ports))
    var code = [sock_filter](repeating: sock_filter(), count: Int(CONNTRACK_FILTER_MAX))
    let length = conntrack_filter(ports, 16, &code)
    #expect(length > 0 && length <= Int(CONNTRACK_FILTER_MAX))
    #expect(conntrack_filter(ports + [1], 17, &code) == 0)
    #expect(conntrack_filter([], 0, &code) > 0)
  }

  static let sixteenPorts = (0..<16).map { UInt16(5300 + 7 * $0) }

  static func checkSixteenPorts(_ pair: some MessageFilter) {
    let ports = sixteenPorts
    for port in ports + [53, 5299, 5301, 0, 0xb414] {
      let tuple = FiveTuple(udp: endpoint("10.0.0.1", 4000), endpoint("10.0.0.2", port))
      let reply = FiveTuple(udp: endpoint("10.0.0.3", 4001), endpoint("10.0.0.1", 4000))
      let expected = ports.contains(port)
      #expect(pair.passes(Netlink.message(Netlink.tuple(1, tuple), Netlink.tuple(2, reply))) == expected)
      #expect(pair.passes(Netlink.message(Netlink.tuple(1, reply), Netlink.tuple(2, tuple))) == expected)
    }
  }

  @Test func truncatedMessagesDoNotPassBeforeTheirPort() throws {
    let pair = try FilteredPair(ports: [53])
    for length in 1..<72 { #expect(!pair.passes(Array(goldenMessage[..<length]))) }
    #expect(pair.passes(goldenMessage))
  }
}
