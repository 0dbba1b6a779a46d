import CLinux
import Glibc

/// What the process may do. Corresponds to CAP_* of linux/capability.h.
package struct Capabilities: OptionSet, BitwiseCopyable, Hashable, Sendable {
  package let rawValue: UInt64
  package init(rawValue: UInt64) { self.rawValue = rawValue }

  package static let dacReadSearch = Capabilities(rawValue: 1 << 2)
  package static let netAdmin = Capabilities(rawValue: 1 << 12)
  package static let netRaw = Capabilities(rawValue: 1 << 13)
  package static let sysPtrace = Capabilities(rawValue: 1 << 19)
  package static let sysAdmin = Capabilities(rawValue: 1 << 21)
  package static let perfmon = Capabilities(rawValue: 1 << 38)
  package static let bpf = Capabilities(rawValue: 1 << 39)

  private static let names: [(Capabilities, StaticString)] = [
    (.dacReadSearch, "CAP_DAC_READ_SEARCH"), (.netAdmin, "CAP_NET_ADMIN"), (.netRaw, "CAP_NET_RAW"), (.sysPtrace, "CAP_SYS_PTRACE"),
    (.sysAdmin, "CAP_SYS_ADMIN"), (.perfmon, "CAP_PERFMON"), (.bpf, "CAP_BPF"),
  ]

  /// The kernel's names of those that racetrack uses.
  package var names: [String] { Self.names.compactMap { contains($0.0) ? "\($0.1)" : nil } }

  /// The effective set of the calling thread; empty where it cannot be read.
  package static func effective() -> Capabilities {
    var bits: UInt64 = 0
    return unsafe clinux_capabilities_effective(&bits) < 0 ? [] : Capabilities(rawValue: bits)
  }

  /// Gives up everything else for good. Called once, after set-up and before any other thread: capabilities belong to threads.
  ///
  /// What is not there is not asked for. Afterwards no program that is executed can gain rights (PR_SET_NO_NEW_PRIVS).
  package static func keepOnly(_ keep: Capabilities) throws(SetupError) {
    try SetupError.check(
      clinux_capabilities_keep(keep.rawValue), "giving up capabilities", remedy: "run without them, or report the kernel's answer")
    try SetupError.check(clinux_forbid_new_privileges(), "PR_SET_NO_NEW_PRIVS", remedy: "Linux 3.5 or later is needed")
  }
}
