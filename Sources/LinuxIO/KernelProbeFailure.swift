import CKernelProbe
import Glibc

/// Why a rung of the kernel probe does not run: what was tried, what the kernel answered, and what would help on this host.
package struct KernelProbeFailure: Error, Equatable, Sendable {
  /// Corresponds to `enum kernel_probe_step`.
  package enum Step: UInt32, CaseIterable, Sendable {
    case findNamespace
    case readRegisters
    case open
    case load
    case seed
    case mapRing
    case attach

    fileprivate var name: String {
      switch self {
      case .findNamespace: "find the network namespace"
      case .readRegisters: "read registers"
      case .open: "open"
      case .load: "load"
      case .seed: "seed the counters"
      case .mapRing: "map the ring buffer"
      case .attach: "attach"
      }
    }
  }

  package var rung: KernelProbeRung
  package var step: Step
  /// An errno, the kernel's own ENOTSUPP, or a number of libbpf's (`enum libbpf_errno`, from 4000 on).
  package var code: Int32
  /// libbpf's first warning; may be empty.
  package var detail: String
  /// What the verifier said last; may be empty.
  package var verdict: String
  package var host: KernelProbeHost

  package init(
    _ rung: KernelProbeRung, _ step: Step, _ code: Int32, detail: String = "", verdict: String = "", host: KernelProbeHost = KernelProbeHost()
  ) {
    self.rung = rung
    self.step = step
    self.code = code
    self.detail = detail
    self.verdict = verdict
    self.host = host
  }

  init(_ failure: kernel_probe_failure, _ rung: KernelProbeRung) {
    self.init(
      rung, Step(rawValue: failure.step.rawValue) ?? .open, failure.code,
      detail: unsafe withUnsafeBytes(of: failure.detail) { unsafe Self.line($0) },
      verdict: unsafe withUnsafeBytes(of: failure.verdict) { unsafe Self.line($0) }, host: .current())
  }

  private static func line(_ text: UnsafeRawBufferPointer) -> String { unsafe String(decoding: text.prefix { $0 != 0 }, as: UTF8.self) }

  /// One line.
  package var error: SetupError {
    SetupError("kernel probe \(rung.rawValue): \(step.name)", code: code, cause: cause, remedy: remedy)
  }

  private var cause: String {
    var cause = "errno \(code)"
    switch code {
    case Self.notSupported: cause = "not supported by the kernel"
    case 4000...: cause = "libbpf's error \(code)"
    default: if let text = unsafe strerror(code) { cause = unsafe String(cString: text) }
    }
    let said = [detail, verdict].filter { !$0.isEmpty }.joined(separator: ": ")
    return said.isEmpty ? cause : cause + " (" + String(said.unicodeScalars.map { $0.value < 32 ? " " : Character($0) }) + ")"
  }

  /// The kernel's ENOTSUPP (include/linux/errno.h), which is no errno of user space; and libbpf's LIBBPF_ERRNO__ENDIAN.
  package static let notSupported: Int32 = 524
  package static let otherEndian: Int32 = 4002

  // MARK: What would help

  private var remedy: String {
    switch code {
    case EPERM, EACCES: refusal
    case EINVAL: isLockedDown ? Self.lockdown : "the kernel lacks what it needs (Linux 5.8 is the oldest that can have it)"
    case ENOMEM:
      if step != .load {
        "free some memory"
      } else {
        host.limitsMemory ? Self.lockedMemory : "the kernel has no JIT for such programs (CONFIG_BPF_JIT), or no memory"
      }
    case ESRCH: missingTypes
    case ENOENT: step == .load && !host.hasTypes ? missingTypes : missingPlace
    case ENODEV, ENXIO: missingPlace
    case ENOSYS:
      host.isFiltered ? "a seccomp profile without bpf(), or a kernel without it (CONFIG_BPF_SYSCALL)" : "needs a kernel with CONFIG_BPF_SYSCALL"
    case EOPNOTSUPP, Self.notSupported:
      step == .readRegisters ? "only the registers of x86-64 and arm64 are known" : "this kernel cannot attach such programs on this architecture"
    case EBUSY: "another tracer or a live patch holds the function"
    case E2BIG, ENOSPC: "too many programs sit there, or this one is too much for the kernel's verifier"
    case EEXIST, EALREADY: "a program sits there already that admits no other"
    case EAGAIN, EINTR: "it was interrupted: start again"
    case Self.otherEndian: "the programs are made for little-endian machines"
    default: "no remedy is known; --kernel-probe=off does without"
    }
  }

  private static let lockdown = "the kernel is locked down (confidentiality), and lets no program read it: boot with lockdown=integrity or none"
  private static let lockedMemory = "raise the limit of locked memory (ulimit -l; LimitMEMLOCK= in systemd), which holds for eBPF before Linux 5.11"

  /// Lockdown takes helpers away, so that the verifier refuses (`bpf_tracing_func_proto` in kernel/trace/bpf_trace.c), and forbids kprobes. Where
  /// securityfs is not mounted, as in containers, the missing helper tells.
  private var isLockedDown: Bool { host.lockdown == .confidentiality || (host.lockdown == nil && lacksHelper) }
  private var lacksHelper: Bool {
    verdict.contains("bpf_probe_read") && (verdict.contains("unknown func") || verdict.contains("cannot use helper"))
  }

  private var refusal: String {
    if !host.mayLoad {
      let missing = [(Capabilities.bpf, "CAP_BPF"), (.perfmon, "CAP_PERFMON")].filter { !host.rights.contains($0.0) }.map(\.1)
      return "needs CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN: \(missing.joined(separator: " and ")) missing"
    }
    if isLockedDown { return Self.lockdown }
    if host.limitsMemory && (step == .load || step == .mapRing) { return Self.lockedMemory }
    // libbpf tries a program that does nothing first (bpf_object__probe_loading).
    if detail.contains("trivial BPF program") {
      return host.isFiltered ? "the seccomp profile refuses bpf(): it needs one that allows it" : "a security module refuses bpf()"
    }
    if host.isFiltered { return "a security module or the seccomp profile refuses this kind of program" }
    return "a security module or the kernel's build refuses this kind of program"
  }

  private var missingTypes: String {
    host.hasTypes
      ? "needs the function in the kernel's BTF: nf_conntrack must be loaded, and built with CONFIG_DEBUG_INFO_BTF_MODULES where it is a module"
      : "needs a kernel with BTF (CONFIG_DEBUG_INFO_BTF): \(KernelProbeHost.typesPath) is not there"
  }

  private var missingPlace: String {
    switch rung {
    case .kprobeResolve, .kprobeConfirm: "needs kprobes (CONFIG_KPROBE_EVENTS), and the function in the kernel"
    case .fexitResolve, .fexitConfirm: "needs the function in the kernel"
    case .kfreeSkb: "needs the tracepoint in the kernel"
    }
  }
}
