import CLinux
import Flows
import Glibc
import Testing

@testable import LinuxIO

// Glibc's module is made without _GNU_SOURCE.
@_silgen_name("unshare") private func unshare(_ flags: Int32) -> Int32
@_silgen_name("setns") private func setns(_ descriptor: Int32, _ kind: Int32) -> Int32
@_silgen_name("pipe2") func pipe2(_ ends: UnsafeMutablePointer<Int32>, _ flags: Int32) -> Int32
private let newNetwork: Int32 = 0x4000_0000  // CLONE_NEWNET

/// A network namespace for the length of one synchronous test: the test's own thread moves into a new one and back. Whatever was made in it goes with
/// its last descriptor.
enum Sandbox {
  static let isAvailable = geteuid() == 0 && access("/usr/sbin/ip", X_OK) == 0
  static let reason: Comment = "needs root and /usr/sbin/ip"

  struct Failure: Error, CustomStringConvertible {
    let description: String
  }

  static func run(_ body: () throws -> Void) throws {
    let home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)
    guard home >= 0, unshare(newNetwork) == 0 else { throw Failure(description: "unshare: errno \(errno)") }
    defer {
      precondition(setns(home, newNetwork) == 0, "the test's thread is lost in its namespace")
      close(home)
    }
    try ip("link set dev lo up")
    try body()
  }

  static func ip(_ line: String) throws {
    let (status, output) = attempt(line)
    guard status == 0 else { throw Failure(description: "ip \(line): \(output)") }
  }

  /// Devices `a` and `b`, up, each other's ends. A work queue of the kernel notices their carrier (net/core/link_watch.c); what is sent before is dropped.
  static func vethPair(_ a: String = "a", _ b: String = "b") throws {
    try ip("link add name \(a) type veth peer name \(b)")
    try ip("link set dev \(a) up")
    try ip("link set dev \(b) up")
    let deadline = Clocks.monotonic() + 30 * Nanoseconds.perSecond
    while ![a, b].allSatisfy({ attempt("-o link show dev \($0)").1.contains("state UP") }) {
      guard Clocks.monotonic() < deadline else { throw Failure(description: "\(a) and \(b) did not come up") }
      usleep(1000)
    }
  }

  /// Runs `ip` with these words and returns its exit status and what it wrote.
  static func attempt(_ line: String) -> (Int32, String) {
    var ends: [Int32] = [0, 0]
    guard pipe2(&ends, O_CLOEXEC) == 0 else { return (-1, "pipe") }
    defer { close(ends[0]) }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    for output: Int32 in 1...2 { posix_spawn_file_actions_adddup2(&actions, ends[1], output) }
    defer { posix_spawn_file_actions_destroy(&actions) }
    var words: [UnsafeMutablePointer<CChar>?] = (["ip"] + line.split(separator: " ").map(String.init)).map { strdup($0) } + [nil]
    defer { words.forEach { free($0) } }
    var child: pid_t = 0
    let spawned = posix_spawn(&child, "/usr/sbin/ip", &actions, nil, &words, environ)
    close(ends[1])
    guard spawned == 0 else { return (-1, "posix_spawn: \(spawned)") }
    var text: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 512)
    while case let count = read(ends[0], &chunk, chunk.count), count > 0 { text += chunk[..<count] }
    var status: Int32 = 0
    while waitpid(child, &status, 0) < 0, errno == EINTR {}
    return (status, String(decoding: text, as: UTF8.self))
  }

  static func index(_ device: String) -> UInt32 { if_nametoindex(device) }
}

/// Sends Ethernet frames out of one device.
struct FrameSender: ~Copyable {
  let descriptor: Int32

  init(_ device: String) throws {
    descriptor = socket(AF_PACKET, Int32(SOCK_RAW.rawValue), 0)
    var address = sockaddr_ll()
    address.sll_family = UInt16(AF_PACKET)
    address.sll_ifindex = Int32(Sandbox.index(device))
    let bound = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_ll>.size)) }
    }
    guard descriptor >= 0, bound == 0 else { throw Sandbox.Failure(description: "raw socket on \(device): errno \(errno)") }
  }

  deinit { close(descriptor) }

  func send(_ frame: [UInt8]) {
    while Glibc.send(descriptor, frame, frame.count, 0) < 0, errno == ENOBUFS || errno == EINTR {}
  }
}

/// Builds the packets that the filter has to judge. Checksums are left out: the tap comes before anything that looks at them.
enum Packets {
  static func ethernet(_ type: UInt16, _ packet: [UInt8], vlan: UInt16? = nil) -> [UInt8] {
    let addresses = [UInt8](repeating: 0xFF, count: 6) + [2, 0, 0, 0, 0, 9]
    let tag = vlan.map { [0x81, 0x00] + big($0) } ?? []
    return addresses + tag + big(type) + packet
  }

  static func udp(_ source: UInt16, _ destination: UInt16, id: UInt16, padding: Int = 20) -> [UInt8] {
    let payload = [UInt8](repeating: 0, count: padding) + big(id)
    return big(source) + big(destination) + big(UInt16(8 + payload.count)) + [0, 0] + payload
  }

  /// `options` words of TCP options; data ends with `id`, nil for none.
  static func tcp(_ source: UInt16, _ destination: UInt16, id: UInt16?, options: Int = 0) -> [UInt8] {
    let header = big(source) + big(destination) + [UInt8](repeating: 0, count: 8) + [UInt8((5 + options) << 4), 0x10, 0xFF, 0xFF, 0, 0, 0, 0]
    return header + [UInt8](repeating: 1, count: 4 * options) + (id.map { big($0) } ?? [])
  }

  static func v4(_ protocolNumber: UInt8, _ payload: [UInt8], options: Int = 0, fragment: UInt16 = 0, totalLength: Int? = nil) -> [UInt8] {
    let length = UInt16(totalLength ?? 20 + 4 * options + payload.count)
    return [UInt8(0x45 + options), 0] + big(length) + [0, 7] + big(fragment) + [64, protocolNumber, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2]
      + [UInt8](repeating: 1, count: 4 * options) + payload
  }

  static func v6(_ next: UInt8, _ payload: [UInt8], payloadLength: Int? = nil) -> [UInt8] {
    let address: [UInt8] = [0xFD] + [UInt8](repeating: 0, count: 14) + [1]
    return [0x60, 0, 0, 0] + big(UInt16(payloadLength ?? payload.count)) + [next, 64] + address + address + payload
  }

  /// An ICMP message with what it quotes.
  static func icmp(_ type: UInt8, _ quoted: [UInt8]) -> [UInt8] { [type, 3, 0, 0, 0, 0, 0, 0] + quoted }

  /// An extension header of `units` times eight bytes.
  static func extended(_ next: UInt8, units: Int = 1, _ payload: [UInt8]) -> [UInt8] {
    [next, UInt8(units - 1)] + [UInt8](repeating: 0, count: 8 * units - 2) + payload
  }

  static func fragmented(_ next: UInt8, offset: UInt16, _ payload: [UInt8]) -> [UInt8] {
    [next, 0] + big(offset << 3 | 1) + [0, 0, 0, 9] + payload
  }

  static func query(_ id: UInt16, port: UInt16 = 53) -> [UInt8] { ethernet(0x0800, v4(17, udp(40000, port, id: id))) }

  static func big(_ value: UInt16) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 0xFF)] }
}
