package import LinuxIO

/// The command line of `racetrack selftest`.
package struct SelfTestOptions: Equatable, Sendable {
  /// Pairs raced for each cause at most.
  package var pairs = 4000
  /// Seconds raced for each cause at most.
  package var seconds = 20
  /// Lost queries wanted of each cause.
  package var losses = 200
  package var ordinaryLookups = 1000
  package var kernelProbe = KernelProbeMode.auto
  /// Nil: every rung is tried.
  package var kernelProbeRung: KernelProbeRung?
  package var wantsHelp = false

  package init() {}

  /// - Throws: one line that names the wrong argument.
  package init(arguments: [String]) throws(SelfTestObstacle) {
    var index = 0
    while index < arguments.count {
      var name = arguments[index]
      var value: String?
      if let equals = name.firstIndex(of: "="), name.hasPrefix("--") {
        value = String(name[name.index(after: equals)...])
        name = String(name[..<equals])
      }
      index += 1
      switch name {
      case "--help", "-h", "--quick":
        if value != nil { throw SelfTestObstacle("\(name) takes no value") }
        if name == "--quick" { (losses, ordinaryLookups) = (50, 250) } else { wantsHelp = true }
      case "--kernel-probe", "--kernel-probe.rung":
        if value == nil, index < arguments.count {
          value = arguments[index]
          index += 1
        }
        try take(value ?? "", of: name)
      case "--pairs", "--seconds":
        if value == nil, index < arguments.count {
          value = arguments[index]
          index += 1
        }
        let range = name == "--pairs" ? 1...15_000 : 1...600
        guard let value, let number = Int(value), range.contains(number) else {
          throw SelfTestObstacle("\(name) wants a number from \(range.lowerBound) to \(range.upperBound)")
        }
        if name == "--pairs" { pairs = number } else { seconds = number }
      default: throw SelfTestObstacle("unknown option \(name); see racetrack selftest --help")
      }
    }
  }

  private mutating func take(_ value: String, of name: String) throws(SelfTestObstacle) {
    func words<Value: CaseIterable & RawRepresentable>(_: Value.Type) -> String where Value.RawValue == String {
      Value.allCases.map(\.rawValue).joined(separator: ", ")
    }
    if name == "--kernel-probe" {
      guard let mode = KernelProbeMode(rawValue: value) else { throw SelfTestObstacle("\(name) wants one of \(words(KernelProbeMode.self))") }
      kernelProbe = mode
    } else {
      guard let rung = KernelProbeRung(rawValue: value) else { throw SelfTestObstacle("\(name) wants one of \(words(KernelProbeRung.self))") }
      kernelProbeRung = rung
    }
  }

  package static let help = """
    Usage: racetrack selftest [--quick] [--pairs N] [--seconds N] [--kernel-probe auto|require|off] [--kernel-probe.rung RUNG]

    Makes DNS queries race through connection tracking in private network namespaces on this node, watches them with the agent's own pipeline,
    and compares what it named with what the clients really lost. Changes nothing outside its namespaces. Needs root, two CPUs, `ip`, and `nft` or
    `iptables`.

      --quick      50 lost queries of each cause and 250 ordinary lookups, instead of 200 and 1000
      --pairs N    race at most so many pairs for each cause (4000)
      --seconds N  race at most so long for each cause (20)
      --kernel-probe auto|require|off
                   as for the agent: with the probe, dropped queries are proven (auto)
      --kernel-probe.rung fexit-resolve|kprobe-resolve|fexit-confirm|kprobe-confirm|kfree-skb
                   try this rung of the probe and no other

    Exit status: 0 every loss was named and nothing else was; 1 not so; 2 wrong usage; 3 cannot tell, or something needed is missing.

    """
}
