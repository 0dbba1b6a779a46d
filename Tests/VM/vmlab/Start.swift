import Foundation
import TestSupport

/// How the agent starts where something is missing, in the order in which it can be taken away: a lockdown is not lifted again.
enum Start: String, CaseIterable {
  /// nf_conntrack is a module that nobody loads, and the kernel cannot.
  case noConntrack = "no-conntrack"
  /// The same, and the kernel finds the module when ctnetlink is asked for.
  case loadsConntrack = "loads-conntrack"
  /// Nothing is missing.
  case whole
  /// /sys/kernel/btf is empty.
  case noBTF = "no-btf"
  /// net.core.bpf_jit_enable=0.
  case noJIT = "no-jit"
  case integrity = "lockdown-integrity"
  case confidentiality = "lockdown-confidentiality"

  private static let modprobe = "/proc/sys/kernel/modprobe"
  private static let lockdown = "/sys/kernel/security/lockdown"

  /// What is done to the agent's own view of /sys, which `ip netns exec` mounts anew.
  private var wrapper: [String] {
    let mount: String? =
      switch self {
      case .noBTF: "-t tmpfs none /sys/kernel/btf"
      case .integrity, .confidentiality: "-t securityfs none /sys/kernel/security"
      default: nil
      }
    return mount.map { ["sh", "-c", "mount \($0) && exec \"$0\" \"$@\""] } ?? []
  }

  private var hasConntrack: Bool { FileManager.default.fileExists(atPath: "/proc/sys/net/netfilter/nf_conntrack_max") }

  /// Brings the machine into its state. Returns why that cannot be, or nil.
  private func prepare(_ modules: String?) throws -> String? {
    switch self {
    case .noConntrack:
      if hasConntrack {
        // Where modules are named the machine was booted without them.
        guard modules == nil else { throw LabError("nf_conntrack is there already") }
        return "nf_conntrack is there already"
      }
      try "/bin/false".write(toFile: Self.modprobe, atomically: false, encoding: .utf8)
    case .loadsConntrack:
      guard let modules else { return "no folder of modules" }
      if hasConntrack { throw LabError("nf_conntrack is there already") }
      let script = NSTemporaryDirectory() + "/modprobe"
      try "#!/bin/sh\nexec /sbin/modprobe -d \(modules) \"$@\"\n".write(toFile: script, atomically: false, encoding: .utf8)
      try Command.run(["chmod", "755", script])
      try script.write(toFile: Self.modprobe, atomically: false, encoding: .utf8)
    case .whole, .noBTF: break
    case .noJIT:
      let result = try Command.result(["sysctl", "-qw", "net.core.bpf_jit_enable=0"])
      let value = (try? String(contentsOfFile: "/proc/sys/net/core/bpf_jit_enable", encoding: .utf8))?.first
      // CONFIG_BPF_JIT_ALWAYS_ON allows 1 alone.
      if value != "0" { return "this kernel does not switch its JIT off: \(result.errors.split(separator: "\n").first ?? "")" }
    case .integrity, .confidentiality:
      if !FileManager.default.fileExists(atPath: Self.lockdown) {
        _ = try Command.result(["mount", "-t", "securityfs", "none", "/sys/kernel/security"])
      }
      guard let modes = try? String(contentsOfFile: Self.lockdown, encoding: .utf8) else { return "this kernel has no lockdown" }
      let mode = self == .integrity ? "integrity" : "confidentiality"
      if !modes.contains("[\(mode)]") { try mode.write(toFile: Self.lockdown, atomically: false, encoding: .utf8) }
    }
    return nil
  }

  private func restore() {
    if self == .noJIT { _ = try? Command.run(["sysctl", "-qw", "net.core.bpf_jit_enable=1"]) }
  }

  /// True where the probe must run, false where it must not, nil where either is right.
  private var runsProbe: Bool? {
    switch self {
    case .noConntrack, .noBTF, .confidentiality: false
    case .loadsConntrack, .whole, .integrity: true
    case .noJIT: nil
    }
  }

  /// What the agent's last line must name where it ends.
  private var remedy: [String] {
    switch self {
    case .noConntrack: ["nf_conntrack"]
    case .noBTF: ["BTF"]
    case .confidentiality: ["lockdown"]
    case .noJIT: ["JIT"]
    default: []
    }
  }

  /// Fields of a row, and whether it fails.
  func row(_ modules: String?) -> RowReport {
    do {
      if let obstacle = try prepare(modules) { return report(attached: "-", "skipped: \(obstacle)") }
      defer { restore() }
      let lab = try Lab(clients: 1, backends: 1)
      return self == .noConntrack ? try endsAtOnce(lab) : try worksOn(lab)
    } catch {
      return report(attached: "-", "failed: \(error)".replacingOccurrences(of: "\n", with: " "))
    }
  }

  private func report(attached: String, _ outcome: String) -> RowReport { RowReport(start: rawValue, attached: attached, outcome: outcome) }

  /// Runs the agent, which must end by itself.
  private func ending(_ lab: Lab, _ options: [String]) throws -> CommandResult {
    let agent = [Executables.racetrack, "agent", "--web.listen-address", AgentProcess.listenAddress]
    return try Command.result(["timeout", "10", "ip", "netns", "exec", lab.node] + wrapper + agent + options)
  }

  /// One line with the remedy, and status 3.
  private func problems(of ended: CommandResult) -> [String] {
    var problems: [String] = []
    if ended.status != 3 { problems.append("ended with \(ended.status), not 3") }
    let last = ended.errors.split(separator: "\n").last.map(String.init) ?? ""
    for word in remedy where !last.contains(word) { problems.append("the last line does not name \(word): \(last)") }
    return problems
  }

  private func endsAtOnce(_ lab: Lab) throws -> RowReport {
    let ended = try ending(lab, [])
    print("\(rawValue): status \(ended.status)\n\(ended.errors)")
    let problems = problems(of: ended)
    return report(attached: "-", problems.isEmpty ? "ok" : problems.joined(separator: "; "))
  }

  /// With the probe `auto` the agent works on whatever is missing; with `require` it ends where no rung runs.
  private func worksOn(_ lab: Lab) throws -> RowReport {
    var problems: [String] = []
    let agent = try AgentProcess(in: lab.node, options: ["--kernel-probe", "auto"], wrapper: wrapper)
    try agent.waitUntilSeeing()
    let page = try agent.metrics()
    let status = try agent.stop()
    if status != 0 { problems.append("the agent ended with \(status)") }
    for source in ["conntrack", "counters", "packets"] where page.sum("racetrack_source_up", ["source": source]) != 1 {
      problems.append("source \(source) is down")
    }
    print("\(rawValue), auto:\n\(agent.log)")
    let attached = RowReport.rung(agent.log) ?? "none"
    if let runsProbe, runsProbe != (attached != "none") { problems.append("the probe \(runsProbe ? "does not run" : "runs")") }
    if attached == "none" {
      let ended = try ending(lab, ["--kernel-probe", "require"])
      print("\(rawValue), require: status \(ended.status)\n\(ended.errors)")
      problems += self.problems(of: ended)
    }
    return report(attached: attached, problems.isEmpty ? "ok" : problems.joined(separator: "; ").replacingOccurrences(of: "\n", with: " "))
  }
}
