import CLinux
import Glibc

/// What of this host and process decides whether eBPF programs may run.
package struct KernelProbeHost: Equatable, Sendable {
  package enum Lockdown: String, Sendable {
    case off = "none"
    case integrity, confidentiality
  }

  package var rights: Capabilities = []
  /// Nil where it cannot be read: no such security module, or securityfs is not mounted.
  package var lockdown: Lockdown?
  /// The kernel tells its types (BTF) where libbpf looks first.
  package var hasTypes = true
  /// A seccomp filter is on the process.
  package var isFiltered = false
  /// Before Linux 5.11 eBPF counts as locked memory, which is limited here.
  package var limitsMemory = false

  package init() {}

  package static let typesPath = "/sys/kernel/btf/vmlinux"
  /// What the maps take, with room to spare.
  private static let neededMemory: UInt64 = 16 << 20

  package var mayLoad: Bool { rights.contains(.sysAdmin) || rights.isSuperset(of: [.bpf, .perfmon]) }

  package static func current() -> KernelProbeHost {
    var host = KernelProbeHost(root: "", lockedMemory: lockedMemoryLimit())
    host.rights = Capabilities.effective()
    return host
  }

  /// - Parameters:
  ///   - root: stands before the paths.
  ///   - lockedMemory: RLIMIT_MEMLOCK, bytes.
  package init(root: String, lockedMemory: UInt64) {
    lockdown = Self.text(root + "/sys/kernel/security/lockdown").flatMap(Self.chosen)
    hasTypes = unsafe access(root + Self.typesPath, R_OK) == 0
    let status = Self.text(root + "/proc/self/status") ?? ""
    isFiltered = status.split(separator: "\n").contains { $0.hasPrefix("Seccomp:") && $0.hasSuffix("2") }
    let release = (Self.text(root + "/proc/sys/kernel/osrelease") ?? "").split { !$0.isNumber }.prefix(2).compactMap { Int($0) }
    limitsMemory = release.count == 2 && (release[0], release[1]) < (5, 11) && lockedMemory < Self.neededMemory
  }

  /// The word in brackets of `none integrity [confidentiality]` (security/lockdown/lockdown.c, `lockdown_read`).
  private static func chosen(_ line: String) -> Lockdown? {
    line.split(separator: "[", omittingEmptySubsequences: false).dropFirst().first.flatMap { $0.split(separator: "]").first }.flatMap {
      Lockdown(rawValue: String($0))
    }
  }

  private static func lockedMemoryLimit() -> UInt64 {
    var limit = rlimit()
    return unsafe getrlimit(__rlimit_resource_t(__RLIMIT_MEMLOCK.rawValue), &limit) == 0 ? UInt64(limit.rlim_cur) : .max
  }

  /// A small file of the kernel's; nil where it cannot be read.
  private static func text(_ path: String) -> String? {
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    return unsafe withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 1) { buffer in
      let count = unsafe read(descriptor, buffer.baseAddress, buffer.count)
      return count < 0 ? nil : unsafe String(decoding: buffer.prefix(count), as: UTF8.self)
    }
  }
}
