import Foundation
import TestSupport

/// The kernel that this runs on, as far as it decides what a race must come to. Told by its maker and its release: what the product finds out by itself is
/// what is tested.
struct Kernel {
  /// True where UDP clash resolution is switched off.
  var dropsClashes: Bool
  let release: String
  let hasBridgeNetfilter = FileManager.default.fileExists(atPath: "/proc/sys/net/bridge/bridge-nf-call-iptables")

  init(dropsClashes: Bool) {
    self.dropsClashes = dropsClashes
    release = ((try? String(contentsOfFile: "/proc/sys/kernel/osrelease", encoding: .utf8)) ?? "").trimmingCharacters(in: .whitespacesAndNewlines)
  }

  /// Before 6.12 a packet that comes back from an NFQUEUE and finds its flow in the table is translated to that entry's backend, and leaves on the route of
  /// its first one (nf_conntrack_update in net/netfilter/nf_conntrack_core.c at v6.1).
  var translatesHeldAgain: Bool {
    let numbers = release.split { !$0.isNumber }.prefix(2).compactMap { Int($0) }
    return numbers.count == 2 && (numbers[0], numbers[1]) < (6, 12)
  }
}
