import TestSupport
import Testing

extension KernelTests {
  /// Where no rung of the kernel probe can run: `require` says why in one line and ends, `auto` says it and works on.
  @Suite(.serialized) struct ProbeFailureTests {
    struct Obstacle: Sendable, CustomTestStringConvertible {
      var name: String
      var wrapper: [String]
      /// What the line must say.
      var line: String
      var testDescription: String { name }

      /// Without some capabilities, but with those that the agent needs otherwise.
      static func without(_ missing: String..., line: String) -> Obstacle {
        let list = missing.map { "-" + $0 }.joined(separator: ",")
        return Obstacle(
          name: "without \(missing.joined(separator: ", "))", wrapper: ["setpriv", "--bounding-set=\(list)", "--inh-caps=\(list)"], line: line)
      }

      /// What the kernel answers to bpf(), or to the loading of programs alone.
      static func refused(_ name: String, _ code: Int32, onlyPrograms: Bool = false, line: String) -> Obstacle {
        Obstacle(
          name: name, wrapper: [Executables.racelab, "refuse", "--errno", "\(code)"] + (onlyPrograms ? ["--command", "5"] : []), line: line)
      }

      /// In a mount namespace of its own, in which a script has put something over the kernel's files.
      func behind(_ script: String) -> Obstacle {
        var changed = self
        changed.wrapper = ["unshare", "--mount", "sh", "-euc", script + #"; exec "$@""#, "sh"] + wrapper
        return changed
      }
    }

    private static let rights = "needs CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN: "
    static let obstacles: [Obstacle] = [
      .without("bpf", "perfmon", "sys_admin", line: rights + "CAP_BPF and CAP_PERFMON missing"),
      .without("perfmon", "sys_admin", line: rights + "CAP_PERFMON missing"),
      .without("bpf", "sys_admin", line: rights + "CAP_BPF missing"),
      .refused("a seccomp profile without bpf()", 1, line: "the seccomp profile refuses bpf()"),
      .refused("bpf() not there", 38, line: "a seccomp profile without bpf(), or a kernel without it (CONFIG_BPF_SYSCALL)"),
      .refused("no JIT", 12, onlyPrograms: true, line: "the kernel has no JIT for such programs (CONFIG_BPF_JIT), or no memory"),
      Obstacle(name: "no BTF", wrapper: [], line: "needs a kernel with BTF (CONFIG_DEBUG_INFO_BTF): /sys/kernel/btf/vmlinux is not there")
        .behind("mount -t tmpfs none /sys/kernel/btf"),
      // The kernel's file says so; what it would answer then is put in its place.
      Obstacle.refused("lockdown", 1, onlyPrograms: true, line: "the kernel is locked down (confidentiality), and lets no program read it")
        .behind("mount -t tmpfs none /sys/kernel/security; echo 'none integrity [confidentiality]' >/sys/kernel/security/lockdown"),
    ]

    @Test(arguments: obstacles) func oneClearLineAndTheAgentWorksOn(_ obstacle: Obstacle) throws {
      let lab = try Lab(clients: 1, backends: 1)
      var rules = Ruleset()
      rules.fillerRules = 1
      rules.service("10.96.0.12", to: [lab.backends[0].v4])
      try lab.load(rules)
      try lab.serve(lab.backends[0])
      let required = try Command.result(
        ["ip", "netns", "exec", lab.node] + obstacle.wrapper + [Executables.racetrack, "agent", "--kernel-probe", "require"], seconds: 20)
      #expect(required.status == 3)
      let last = String(required.errors.split(separator: "\n").last ?? "")
      #expect(last.hasPrefix("racetrack agent: kernel probe fexit-resolve: ") && last.contains(obstacle.line), "\(required.errors)")

      let agent = try AgentProcess(in: lab.node, options: ["--kernel-probe", "auto", "--dns.timeout", "2s"], wrapper: obstacle.wrapper)
      try agent.waitUntilSeeing()
      let pod = lab.clients[0]
      let words = "ask --count 20 --types A --rate 200 --label x --from \(pod.v4) --server 10.96.0.12".split(separator: " ").map(String.init)
      let asked = try lab.truth(in: pod, words)
      #expect(asked.count == 20 && asked.allSatisfy { $0.answered != nil })
      let page = try agent.settle(transmissions: 20, seconds: 8)
      #expect(page.sum("racetrack_dns_fates_total", ["fate": "answered"]) == 20)
      #expect(page.sum("racetrack_source_up", ["source": "kernel_probe"]) == 0)
      for source in ["conntrack", "counters", "packets"] { #expect(page.sum("racetrack_source_up", ["source": source]) == 1) }
      #expect(try agent.stop() == 0)
      let lines = agent.log.split(separator: "\n").filter { $0.contains("kernel probe rung cannot run") }
      #expect(lines.count == 5 && lines.allSatisfy { $0.contains("rung=") && $0.contains("reason=") }, "\(agent.log)")
      #expect(lines.first?.contains(obstacle.line) == true, "\(agent.log)")
      #expect(agent.log.contains("the kernel probe does not run"))
    }

    /// From Linux 5.11 on eBPF is no locked memory: the limit is nothing to it.
    @Test func lockedMemoryIsNoObstacle() throws {
      let lab = try Lab(clients: 1, backends: 1)
      let agent = try AgentProcess(in: lab.node, options: ["--kernel-probe", "require"], wrapper: ["prlimit", "--memlock=0:0"])
      try agent.waitUntilSeeing()
      #expect(try agent.metrics().sum("racetrack_source_up", ["source": "kernel_probe"]) == 1)
      #expect(try agent.stop() == 0)
    }
  }
}
