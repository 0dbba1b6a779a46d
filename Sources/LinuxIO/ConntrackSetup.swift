import CConntrack
import Glibc

extension SetupError {
  /// - Parameter code: a positive errno that a ctnetlink socket or request answered.
  package init(conntrack operation: String, code: Int32) {
    let remedy =
      switch code {
      case EPERM, EACCES: "needs CAP_NET_ADMIN"
      // nfnetlink without the ctnetlink subsystem answers EINVAL; without nfnetlink there is no such protocol.
      case EINVAL, EPROTONOSUPPORT, EAFNOSUPPORT, EOPNOTSUPP, ENOENT: "load nf_conntrack_netlink"
      case ENOPROTOOPT: "needs Linux 4.12 or newer"
      case E2BIG: "give at most \(CONNTRACK_PORTS_MAX) ports"
      case ETIMEDOUT: "the kernel did not answer; try again"
      case EMFILE, ENFILE: "raise the limit of open files"
      default: ""
      }
    self.init(operation, code: code, cause: unsafe String(cString: conntrack_error_text(code)), remedy: remedy)
  }

  init(conntrack failure: conntrack_failure) {
    unsafe self.init(conntrack: String(cString: failure.operation), code: failure.code)
  }
}
