package import LinuxIO

/// Which rungs of the kernel probe are tried.
package struct ProbeOptions: Sendable, Equatable {
  /// False: no rung is.
  package var isWanted = true
  /// This rung and no other; every rung in turn where it is nil.
  package var rung: KernelProbeRung?
  /// Also watches every packet that leaves for resolved clashes, on the one rung that does not see them anyway.
  package var watchesResolved = false

  package init() {}
}

/// Tries the rungs, the cheapest for bystanders first, and takes the first that works.
struct ProbeLadder: ~Copyable {
  private var probe: KernelProbe?
  /// Why the last rung that was tried does not work, where none does.
  private(set) var failure: KernelProbeFailure?

  /// - Parameter counters: each possible CPU's conntrack statistics as they are now.
  init(_ options: ProbeOptions, ports: [UInt16], counters: [ConntrackCPUReading], log: Log) {
    for rung in KernelProbeRung.allCases where options.rung == nil || options.rung == rung {
      do throws(KernelProbeFailure) {
        let opened = try KernelProbe(rung, watchesResolved: options.watchesResolved, ports: ports, counters: counters)
        log.info("kernel probe runs", ["rung": .text(rung.rawValue)])
        probe = consume opened
        failure = nil
        return
      } catch {
        log.info("kernel probe rung cannot run", ["rung": .text(rung.rawValue), "reason": .text(error.error.description)])
        // What rights are missing for is the same on every rung; the first says it best.
        if failure == nil || options.rung != nil { failure = error }
      }
    }
  }

  /// The probe that runs, which is the caller's then.
  mutating func takeProbe() -> KernelProbe? {
    var taken: KernelProbe?
    swap(&taken, &probe)
    return taken
  }
}
