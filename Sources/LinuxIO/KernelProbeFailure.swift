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

  private static func remedy(_ operation: String, _ code: Int32, _ rung: KernelProbeRung) -> String {
    let rights = Capabilities.effective()
    let isAllowed = rights.contains(.sysAdmin) || (rights.contains(.bpf) && rights.contains(.perfmon))
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
    case EINVAL: return "the kernel lacks something that it needs; Linux 5.8 is the oldest that can have it"
    default: return ""
    }
  }
}
