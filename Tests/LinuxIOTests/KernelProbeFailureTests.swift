import Foundation
import Glibc
import Testing

@testable import LinuxIO

@Suite struct KernelProbeFailureTests {
  private static let able: KernelProbeHost = {
    var host = KernelProbeHost()
    host.rights = [.bpf, .perfmon]
    return host
  }()

  private static func host(_ change: (inout KernelProbeHost) -> Void) -> KernelProbeHost {
    var host = able
    change(&host)
    return host
  }

  private static let trivial = "Error in bpf_object__probe_loading():Operation not permitted(1). Couldn't load trivial BPF program."
  private static let noHelper = "program of this type cannot use helper bpf_probe_read#4"

  struct Row: Sendable, CustomTestStringConvertible {
    var what: String
    var failure: KernelProbeFailure
    var remedy: String
    var testDescription: String { what }

    init(
      _ what: String, _ step: KernelProbeFailure.Step, _ code: Int32, _ host: KernelProbeHost, rung: KernelProbeRung = .fexitResolve,
      detail: String = "", verdict: String = "", _ remedy: String
    ) {
      self.what = what
      failure = KernelProbeFailure(rung, step, code, detail: detail, verdict: verdict, host: host)
      self.remedy = remedy
    }
  }

  static let lockdown = "the kernel is locked down (confidentiality), and lets no program read it: boot with lockdown=integrity or none"
  static let memory = "raise the limit of locked memory (ulimit -l; LimitMEMLOCK= in systemd), which holds for eBPF before Linux 5.11"
  static let kernelTooOld = "the kernel lacks what it needs (Linux 5.8 is the oldest that can have it)"

  static let rows: [Row] = [
    Row(
      "no rights", .load, EPERM, host { $0.rights = [.netAdmin] }, "needs CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN: CAP_BPF and CAP_PERFMON missing"),
    Row("no CAP_PERFMON", .load, EPERM, host { $0.rights = [.bpf] }, "needs CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN: CAP_PERFMON missing"),
    Row("no CAP_BPF", .load, EACCES, host { $0.rights = [.perfmon] }, "needs CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN: CAP_BPF missing"),
    Row(
      "no rights under lockdown", .load, EPERM,
      host {
        $0.rights = []
        $0.lockdown = .confidentiality
      }, "needs CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN: CAP_BPF and CAP_PERFMON missing"),
    Row(
      "refused under CAP_SYS_ADMIN", .load, EPERM, host { $0.rights = [.sysAdmin] },
      "a security module or the kernel's build refuses this kind of program"
    ),
    Row("lockdown takes helpers away", .load, EINVAL, host { $0.lockdown = .confidentiality }, verdict: noHelper, lockdown),
    Row("lockdown forbids kprobes", .attach, EPERM, host { $0.lockdown = .confidentiality }, rung: .kprobeResolve, lockdown),
    Row("lockdown that cannot be read, newer kernels", .load, EINVAL, able, verdict: noHelper, lockdown),
    Row("lockdown that cannot be read, older kernels", .load, EINVAL, able, verdict: "unknown func bpf_probe_read#4", lockdown),
    Row("the same, where libbpf leaves the helper its name", .load, EINVAL, able, verdict: "unknown func bpf_probe_read_kernel#113", lockdown),
    Row("lockdown=integrity is not the cause", .load, EINVAL, host { $0.lockdown = .integrity }, kernelTooOld),
    Row(
      "lockdown=none is not the cause", .load, EPERM, host { $0.lockdown = KernelProbeHost.Lockdown.off },
      "a security module or the kernel's build refuses this kind of program"),
    Row("another helper is missing", .load, EINVAL, host { $0.lockdown = KernelProbeHost.Lockdown.off }, verdict: noHelper, kernelTooOld),
    Row(
      "seccomp", .load, EPERM, host { $0.isFiltered = true }, detail: trivial,
      "the seccomp profile refuses bpf(): it needs one that allows it"),
    Row("a security module", .load, EPERM, able, detail: trivial, "a security module refuses bpf()"),
    Row("seccomp or not", .attach, EPERM, host { $0.isFiltered = true }, "a security module or the seccomp profile refuses this kind of program"),
    Row("locked memory, EPERM", .load, EPERM, host { $0.limitsMemory = true }, detail: trivial, memory),
    Row("locked memory, ENOMEM", .load, ENOMEM, host { $0.limitsMemory = true }, memory),
    Row("no JIT", .load, ENOMEM, able, "the kernel has no JIT for such programs (CONFIG_BPF_JIT), or no memory"),
    Row("no memory", .open, ENOMEM, able, "free some memory"),
    Row(
      "no BTF", .load, ESRCH, host { $0.hasTypes = false }, "needs a kernel with BTF (CONFIG_DEBUG_INFO_BTF): /sys/kernel/btf/vmlinux is not there"),
    Row(
      "no BTF of the module", .load, ESRCH, able,
      "needs the function in the kernel's BTF: nf_conntrack must be loaded, and built with CONFIG_DEBUG_INFO_BTF_MODULES where it is a module"),
    Row(
      "no kprobes", .attach, ENOENT, able, rung: .kprobeConfirm, "needs kprobes (CONFIG_KPROBE_EVENTS), and the function in the kernel"),
    Row("no such function", .attach, ENOENT, able, rung: .fexitConfirm, "needs the function in the kernel"),
    Row("no such tracepoint", .attach, ENOENT, able, rung: .kfreeSkb, "needs the tracepoint in the kernel"),
    Row("no bpf()", .load, ENOSYS, able, "needs a kernel with CONFIG_BPF_SYSCALL"),
    Row("no trampolines", .attach, 524, able, "this kernel cannot attach such programs on this architecture"),
    Row("another architecture", .readRegisters, EOPNOTSUPP, able, rung: .kprobeResolve, "only the registers of x86-64 and arm64 are known"),
    Row("held", .attach, EBUSY, able, "another tracer or a live patch holds the function"),
    Row("too many", .attach, E2BIG, able, "too many programs sit there, or this one is too much for the kernel's verifier"),
    Row("too old", .load, EINVAL, able, kernelTooOld),
    Row("no descriptors", .load, EMFILE, able, "raise the limit of open files (ulimit -n; LimitNOFILE= in systemd)"),
    Row("big endian", .open, 4002, able, "the programs are made for little-endian machines"),
  ]

  @Test(arguments: rows) func remedies(_ row: Row) { #expect(row.failure.error.remedy == row.remedy) }

  /// Whatever the kernel answers to whichever step on whatever host: one line with operation, cause and remedy.
  @Test func everyKindOfFailureHasItsLine() {
    var hosts: [KernelProbeHost] = []
    for rights in [[], [.bpf, .perfmon]] as [Capabilities] {
      for lockdown in [nil, KernelProbeHost.Lockdown.confidentiality] {
        for bits in 0..<8 {
          hosts.append(
            Self.host {
              $0.rights = rights
              $0.lockdown = lockdown
              $0.hasTypes = bits & 1 != 0
              $0.isFiltered = bits & 2 != 0
              $0.limitsMemory = bits & 4 != 0
            })
        }
      }
    }
    var lines = 0
    for step in KernelProbeFailure.Step.allCases {
      for rung in [KernelProbeRung.fexitResolve, .kprobeConfirm, .kfreeSkb] {
        for code in Array(1...133) + [KernelProbeFailure.notSupported] + Array(4000...4013) as [Int32] {
          for host in hosts {
            let error = KernelProbeFailure(rung, step, code, detail: "what libbpf\nsaid", verdict: "and the verifier", host: host).error
            let line = error.description
            lines += 1
            if line.contains("\n") || error.remedy.isEmpty || error.cause.isEmpty || !line.hasPrefix("kernel probe \(rung.rawValue): ")
              || !line.contains("(what libbpf said: and the verifier); ")
            {
              Issue.record("step \(step), code \(code): \(line)")
            }
            // Who lacks rights is told so first, whatever else is wrong.
            if code == EPERM && !host.mayLoad && !error.remedy.hasPrefix("needs CAP_BPF") { Issue.record("\(line)") }
          }
        }
      }
    }
    #expect(lines == 7 * 3 * (133 + 1 + 14) * 32)
  }

  // MARK: The host

  private func tree(_ files: [String: String], _ body: (String) throws -> Void) throws {
    let root = NSTemporaryDirectory() + "probe-host-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: root) }
    for (path, text) in files {
      let url = URL(fileURLWithPath: root + path)
      try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
      try Data(text.utf8).write(to: url)
    }
    try body(root)
  }

  @Test(
    arguments: [
      ("[none] integrity confidentiality\n", KernelProbeHost.Lockdown.off), ("none [integrity] confidentiality\n", .integrity),
      ("none integrity [confidentiality]\n", .confidentiality), ("none [secrecy]", nil), ("none integrity", nil), ("[", nil), ("", nil),
    ] as [(String, KernelProbeHost.Lockdown?)])
  func lockdownIsReadFromTheKernelsFile(text: String, expected: KernelProbeHost.Lockdown?) throws {
    try tree(["/sys/kernel/security/lockdown": text]) { root in #expect(KernelProbeHost(root: root, lockedMemory: .max).lockdown == expected) }
  }

  @Test func lockdownIsToldFromARefusal() throws {
    func remedy(_ lockdown: String) throws -> String {
      var remedy = ""
      try tree(["/sys/kernel/security/lockdown": lockdown, "/sys/kernel/btf/vmlinux": ""]) { root in
        var host = KernelProbeHost(root: root, lockedMemory: .max)
        host.rights = .sysAdmin
        remedy = KernelProbeFailure(.kprobeConfirm, .attach, EPERM, host: host).error.remedy
      }
      return remedy
    }
    #expect(try remedy("none integrity [confidentiality]\n") == Self.lockdown)
    #expect(try remedy("[none] integrity confidentiality\n") == "a security module or the kernel's build refuses this kind of program")
  }

  @Test func typesSeccompAndLockedMemoryAreRead() throws {
    func host(_ release: String, _ locked: UInt64) throws -> KernelProbeHost {
      var host = KernelProbeHost()
      try tree(["/proc/sys/kernel/osrelease": release + "\n", "/proc/self/status": "Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n"]) { root in
        host = KernelProbeHost(root: root, lockedMemory: locked)
      }
      return host
    }
    let old = try host("5.10.0-28-amd64", 65536)
    #expect(old.limitsMemory && old.isFiltered && !old.hasTypes && old.lockdown == nil)
    #expect(try !host("5.10.0-28-amd64", .max).limitsMemory)
    #expect(try !host("5.11.0", 65536).limitsMemory)
    #expect(try !host("6.1.0-56-amd64", 65536).limitsMemory)
    #expect(try host("4.19", 65536).limitsMemory)
    #expect(try !host("strange", 65536).limitsMemory)
    try tree(["/proc/self/status": "Seccomp:\t0\n", "/sys/kernel/btf/vmlinux": "x"]) { root in
      let bare = KernelProbeHost(root: root, lockedMemory: 0)
      #expect(!bare.isFiltered && bare.hasTypes && !bare.limitsMemory)
    }
    #expect(KernelProbeHost.current().rights == Capabilities.effective())
  }
}
