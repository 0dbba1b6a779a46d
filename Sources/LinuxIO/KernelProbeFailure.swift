import CKernelProbe
import Glibc

extension SetupError {
  /// Why a rung of the probe does not run, and what would help.
  init(probe failure: kernel_probe_failure, _ rung: KernelProbeRung) {
    let operation = unsafe String(cString: failure.operation)
    let said = unsafe withUnsafeBytes(of: failure.detail) { unsafe String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    let code = unsafe failure.code
    var cause = unsafe strerror(code).map { unsafe String(cString: $0) } ?? "errno \(code)"
    if !said.isEmpty { cause += " (\(said))" }
    self.init("kernel probe \(rung.rawValue): \(operation)", code: code, cause: cause, remedy: Self.remedy(operation, code, rung))
  }

  /// True in the mode confidentiality; false where the kernel has no lockdown, or securityfs is not to be seen (kernel_lockdown(7)).
  private static func isLockedDown() -> Bool {
    let descriptor = unsafe open("/sys/kernel/security/lockdown", O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return false }
    defer { close(descriptor) }
    var text = [UInt8](repeating: 0, count: 64)
    let length = unsafe text.withUnsafeMutableBytes { unsafe read(descriptor, $0.baseAddress, $0.count) }
    return String(decoding: text.prefix(max(0, length)), as: UTF8.self).contains("[confidentiality]")
  }

  private static func remedy(_ operation: String, _ code: Int32, _ rung: KernelProbeRung) -> String {
    let rights = Capabilities.effective()
    let isAllowed = rights.contains(.sysAdmin) || (rights.contains(.bpf) && rights.contains(.perfmon))
    // The verifier does not know a helper that the lockdown forbids: EINVAL (bpf_base_func_proto in kernel/bpf/helpers.c at v6.1).
    if (code == EINVAL || isAllowed && (code == EPERM || code == EACCES)) && isLockedDown() {
      return "the kernel is locked down (confidentiality), and lets no program read it: boot with lockdown=integrity or none"
    }
    switch code {
    case EPERM, EACCES:
      if !isAllowed { return "needs CAP_BPF and CAP_PERFMON (before Linux 5.8, CAP_SYS_ADMIN)" }
      return "the kernel refuses this kind of program: lockdown, a security module, or a seccomp profile without bpf()"
    case ENOMEM: return "the kernel has no JIT for such programs (CONFIG_BPF_JIT), or no memory"
    case ESRCH: return "needs a kernel with BTF (CONFIG_DEBUG_INFO_BTF), and nf_conntrack loaded with its own"
    case ENOENT:
      switch rung {
      case .kprobeResolve, .kprobeConfirm: return "needs kprobes (CONFIG_KPROBES) and the function in the kernel"
      default: return "needs the function or tracepoint in the kernel"
      }
    case EINVAL: return "the kernel lacks what it needs (Linux 5.8 is the oldest that can have it), or a lockdown forbids it (confidentiality)"
    default: return ""
    }
  }
}
