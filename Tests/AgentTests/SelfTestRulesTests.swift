import Glibc
import Testing

@testable import Agent

/// Shows each rule text to its own program in a namespace of its own, checking only.
@Suite struct SelfTestRulesTests {
  static let canUnshare = geteuid() == 0 && access("/usr/bin/unshare", X_OK) == 0

  @Test(.enabled(if: canUnshare && access("/usr/sbin/nft", X_OK) == 0, "needs root, unshare and nft"))
  func nftAcceptsTheRules() {
    let result = SelfTestPrograms.run("/usr/bin/unshare", ["-n", "/usr/sbin/nft", "-c", "-f", "-"], input: SelfTestTopology().rules(.nft))
    #expect(result.status == 0, "\(result.output)")
  }

  @Test(.enabled(if: canUnshare && access("/usr/sbin/iptables-restore", X_OK) == 0, "needs root, unshare and iptables-restore"))
  func iptablesAcceptsTheRules() {
    let result = SelfTestPrograms.run(
      "/usr/bin/unshare", ["-n", "/usr/sbin/iptables-restore", "--test"], input: SelfTestTopology().rules(.iptables))
    #expect(result.status == 0, "\(result.output)")
  }

  @Test func aProgramsEndIsReported() {
    #expect(SelfTestPrograms.run("/bin/cat", [], input: "seen\n").output == "seen\n")
    #expect(SelfTestPrograms.run("/bin/sh", ["-c", "exit 7"]).status == 7)
    #expect(SelfTestPrograms.run("/bin/sh", ["-c", "kill -9 $$"]).status == 128 + 9)
    #expect(SelfTestPrograms.run("/nonexistent", []).status == 127)
    #expect(SelfTestPrograms.run("/bin/true", [], input: String(repeating: "x", count: 1 << 20)).status == 0)
  }
}
