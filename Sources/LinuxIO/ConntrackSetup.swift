import CConntrack
import Glibc

extension SetupError {
  /// - Parameter code: a positive errno that a ctnetlink socket or request answered.
  package init(conntrack operation: String, code: Int32) {
    let remedy =
      switch code {
      case EPERM, EACCES: "needs CAP_NET_ADMIN"
      case _ where Self.meansNoConntrack(code): "load nf_conntrack_netlink"
      case ENOPROTOOPT: "needs Linux 4.12 or newer"
      case E2BIG: "give at most \(CONNTRACK_PORTS_MAX) ports"
      case ETIMEDOUT: "the kernel did not answer; try again"
      case EMFILE, ENFILE: "raise the limit of open files"
      default: ""
      }
    self.init(operation, code: code, cause: unsafe String(cString: conntrack_error_text(code)), remedy: remedy)
  }

  /// - Parameter code: a positive errno that the set-up of the event ring ended with.
  init(ringOperation operation: String, code: Int32) {
    let remedy =
      switch code {
      case EPERM:
        "needs CAP_BPF or CAP_SYS_ADMIN, a seccomp profile that allows bpf(), and before Linux 5.11 more locked memory (ulimit -l)"
      case EACCES: "a security module or the kernel's verifier refuses the program"
      case EINVAL, ENOSYS, EOPNOTSUPP: "needs Linux 5.8 or newer with CONFIG_BPF_SYSCALL, whose verifier takes the program"
      case ENOMEM: "free some memory"
      case E2BIG: "give at most \(CONNTRACK_PORTS_MAX) ports"
      default: ""
      }
    self.init(operation, code: code, cause: unsafe String(cString: conntrack_error_text(code)), remedy: remedy)
  }

  init(ring failure: conntrack_failure) {
    unsafe self.init(ringOperation: String(cString: failure.operation), code: failure.code)
  }

  /// True if this kernel has no ctnetlink, and could not load it when it was asked for.
  package var saysNoConntrack: Bool { Self.meansNoConntrack(code) }

  /// nfnetlink without the ctnetlink subsystem answers EINVAL; without nfnetlink there is no such protocol.
  private static func meansNoConntrack(_ code: Int32) -> Bool { [EINVAL, EPROTONOSUPPORT, EAFNOSUPPORT, EOPNOTSUPP, ENOENT].contains(code) }

  init(conntrack failure: conntrack_failure) {
    unsafe self.init(conntrack: String(cString: failure.operation), code: failure.code)
  }
}
