import Flows
import Glibc
import LinuxIO
import Testing

// The Glibc module leaves these out.
@_silgen_name("unshare") private func libcUnshare(_ flags: Int32) -> Int32
@_silgen_name("setns") private func libcSetns(_ descriptor: Int32, _ type: Int32) -> Int32
@_silgen_name("capget") private func libcCapget(_ header: UnsafeMutableRawPointer, _ data: UnsafeMutableRawPointer) -> Int32
@_silgen_name("capset") private func libcCapset(_ header: UnsafeMutableRawPointer, _ data: UnsafeRawPointer) -> Int32

/// A network namespace of its own for the calling thread: the body must not suspend. It goes away with the body.
enum ConntrackNamespace {
  /// Why the kernel tests of conntrack cannot run here; nil if they can.
  static let missing: String? = {
    if geteuid() != 0 { return "not root" }
    for tool in ["/usr/sbin/ip", "/usr/sbin/nft", "/usr/sbin/conntrack"] where access(tool, X_OK) != 0 { return "no \(tool)" }
    return nil
  }()

  /// Rules without which conntrack is idle, one a family.
  static func run(rules: String = "", _ body: () throws -> Void) throws {
    let home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)
    try #require(home >= 0)
    defer { close(home) }
    try #require(libcUnshare(0x4000_0000) == 0, "unshare(CLONE_NEWNET)")
    defer { precondition(libcSetns(home, 0x4000_0000) == 0) }
    try command("/usr/sbin/ip", "link", "set", "lo", "up")
    try command(
      "/usr/sbin/nft",
      "table inet watch { chain out { type filter hook output priority 0; ct state invalid counter; }; };"
        + "table ip watch4 { chain nat { type nat hook output priority -100; \(rules) }; };")
    try body()
  }

  static func command(_ arguments: String...) throws {
    var pointers: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
    defer { for pointer in pointers { free(pointer) } }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0)
    var child: pid_t = 0
    try #require(posix_spawn(&child, arguments[0], &actions, nil, &pointers, environ) == 0)
    var status: Int32 = 0
    while waitpid(child, &status, 0) < 0 && errno == EINTR {}
    try #require(status == 0, "\(arguments.joined(separator: " "))")
  }

  /// Runs the body without CAP_NET_ADMIN in this thread's effective set.
  static func withoutNetAdmin(_ body: () throws -> Void) throws { try without(.netAdmin, body) }

  /// Runs the body without these in this thread's effective set.
  static func without(_ rights: Capabilities, _ body: () throws -> Void) throws {
    var header: [UInt32] = [0x2008_0522, 0]
    var data = [UInt32](repeating: 0, count: 6)
    try #require(libcCapget(&header, &data) == 0)
    let whole = data
    // Of each 32 rights: effective, permitted, inheritable.
    data[0] &= ~UInt32(truncatingIfNeeded: rights.rawValue)
    data[3] &= ~UInt32(truncatingIfNeeded: rights.rawValue >> 32)
    try #require(libcCapset(&header, data) == 0)
    defer { precondition(libcCapset(&header, whole) == 0) }
    try body()
  }
}

/// A socket on a loopback address, blocking with a limit of 2 s.
final class LoopbackSocket {
  let descriptor: Int32
  private let isV6: Bool

  init(v6: Bool = false, port: UInt16 = 0, stream: Bool = false) throws {
    isV6 = v6
    let type = stream ? SOCK_STREAM : SOCK_DGRAM
    descriptor = socket(v6 ? AF_INET6 : AF_INET, Int32(type.rawValue), 0)
    var limit = timeval(tv_sec: 2, tv_usec: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    var on: Int32 = 1
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, 4)
    try #require(withAddress(port) { bind(descriptor, $0, $1) } == 0, "bind to port \(port)")
  }

  deinit { close(descriptor) }

  var port: UInt16 {
    var address = sockaddr_in6()
    var length = socklen_t(MemoryLayout<sockaddr_in6>.size)
    withUnsafeMutablePointer(to: &address) { p in
      p.withMemoryRebound(to: sockaddr.self, capacity: 1) { _ = getsockname(descriptor, $0, &length) }
    }
    return UInt16(bigEndian: address.sin6_port)
  }

  func withAddress<R>(_ port: UInt16, _ body: (UnsafePointer<sockaddr>, socklen_t) -> R) -> R {
    if isV6 {
      var address = sockaddr_in6()
      address.sin6_family = sa_family_t(AF_INET6)
      address.sin6_port = port.bigEndian
      address.sin6_addr = in6addr_loopback
      return withUnsafePointer(to: &address) { p in
        p.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_in6>.size)) }
      }
    }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    return withUnsafePointer(to: &address) { p in
      p.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
    }
  }

  func send(to port: UInt16) { withAddress(port) { precondition(sendto(descriptor, "q", 1, 0, $0, $1) == 1) } }

  /// Waits for one datagram.
  func receive() throws {
    var byte: UInt8 = 0
    try #require(recv(descriptor, &byte, 1, 0) == 1, "nothing came")
  }
}

/// One datagram each from this many source ports, so that each makes an entry.
func query(_ port: UInt16, from sources: Range<UInt16>, v6: Bool = false) throws {
  for source in sources { try LoopbackSocket(v6: v6, port: source).send(to: port) }
}
