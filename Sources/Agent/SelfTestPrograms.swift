internal import CRaceGenerator
internal import Glibc

/// The programs of the system that the self-test runs, found before anything is changed.
package struct SelfTestPrograms: Sendable {
  package let ip: String
  package let nft: String?
  package let iptablesRestore: String?
  package let conntrack: String?

  /// Looks in PATH, and in the directories that PATH often leaves out.
  package init() throws(SelfTestObstacle) {
    guard let ip = Self.find("ip") else { throw SelfTestObstacle("selftest needs `ip`: install the package iproute2") }
    self.ip = ip
    nft = Self.find("nft")
    iptablesRestore = Self.find("iptables-restore")
    conntrack = Self.find("conntrack")
    guard nft != nil || iptablesRestore != nil else {
      throw SelfTestObstacle("selftest needs `nft` or `iptables-restore`: install the package nftables or iptables")
    }
  }

  private static func find(_ name: String) -> String? {
    var directories = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
    if let path = unsafe getenv("PATH") { directories = unsafe String(cString: path).split(separator: ":").map(String.init) + directories }
    for directory in directories where directory.utf8.first == UInt8(ascii: "/") {
      let path = "\(directory)/\(name)"
      if unsafe access(path, X_OK) == 0 { return path }
    }
    return nil
  }

  static func errorText(_ error: CInt) -> String {
    guard let text = unsafe strerror(error) else { return "error \(error)" }
    return unsafe String(cString: text)
  }

  /// Lends an array of C strings, ended by a null pointer.
  static func withCStrings<Result>(_ strings: [String], _ body: (UnsafePointer<UnsafePointer<CChar>?>?) -> Result) -> Result {
    let copies = unsafe strings.map { unsafe strdup($0) }
    defer { unsafe copies.forEach { unsafe free($0) } }
    let pointers = unsafe copies.map { unsafe UnsafePointer($0) } + [nil]
    return unsafe pointers.withUnsafeBufferPointer { unsafe body($0.baseAddress) }
  }

  /// Runs a program to its end. Status is its exit status, 128 + signal, or a negative errno.
  static func run(_ path: String, _ arguments: [String], input: String = "") -> (status: CInt, output: String) {
    var output = [CChar](repeating: 0, count: 16384)
    let status = unsafe withCStrings([path] + arguments) { pointers in
      unsafe output.withUnsafeMutableBufferPointer { unsafe racegen_run(path, pointers, input, $0.baseAddress, UInt32($0.count)) }
    }
    let bytes = output.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
    return (status, String(decoding: bytes, as: UTF8.self))
  }

  /// Runs a program that has to succeed; its first line of output explains a failure.
  func require(_ path: String, _ arguments: [String], input: String, doing what: String) throws(SelfTestObstacle) {
    let (status, output) = Self.run(path, arguments, input: input)
    guard status != 0 else { return }
    let line = output.split(separator: "\n").first.map(String.init) ?? (status < 0 ? Self.errorText(-status) : "exit status \(status)")
    throw SelfTestObstacle("\(what): \(path): \(line)")
  }

  /// Loads the rules with nft, or with iptables where nft is missing or its kernel part is.
  /// - Returns: what was used, and why not nft, in a few words.
  func addRules(_ topology: SelfTestTopology) throws(SelfTestObstacle) -> String {
    let what = "cannot add the rules"
    var reason = "nft is missing"
    if let nft {
      do {
        try require(nft, ["-f", "-"], input: topology.rules(.nft), doing: what)
        return "rules by nft"
      } catch {
        if iptablesRestore == nil { throw error }
        reason = error.message
      }
    }
    if let iptablesRestore { try require(iptablesRestore, [], input: topology.rules(.iptables), doing: what) }
    return "rules by iptables: \(reason)"
  }

  /// The counters of the namespace of the calling thread.
  func readCounters() throws(SelfTestObstacle) -> SelfTestCounters {
    if let text = Self.readFile("/proc/thread-self/net/stat/nf_conntrack"), let counters = SelfTestCounters(procText: text) { return counters }
    guard let conntrack else {
      throw SelfTestObstacle("this kernel has no /proc/net/stat/nf_conntrack: install the package conntrack, which reads the counters in another way")
    }
    let (status, output) = Self.run(conntrack, ["-S"])
    guard status == 0, let counters = SelfTestCounters(conntrackText: output) else {
      throw SelfTestObstacle("cannot read the counters with `conntrack -S`")
    }
    return counters
  }

  private static func readFile(_ path: String) -> String? {
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { _ = close(descriptor) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 16384)
    while bytes.count < 1 << 20 {
      let count = unsafe chunk.withUnsafeMutableBytes { unsafe read(descriptor, $0.baseAddress, $0.count) }
      guard count > 0 else { break }
      bytes += chunk.prefix(count)
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}
