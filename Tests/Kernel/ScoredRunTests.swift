import Foundation
import TestSupport
import Testing

extension KernelTests {
  /// All causes in the same second. `make score` runs the full form, everything else a shorter one.
  @Suite(.serialized) struct ScoredRunTests {
    private static let isFull = ProcessInfo.processInfo.environment["RACETRACK_SCORE"] == "full"

    private func run(noisy: Bool) -> ScoredRun {
      let size = Self.isFull ? ScoredRun.full : ScoredRun.short
      return ScoredRun(losses: size.losses, ordinaryRate: size.ordinaryRate, isNoisy: noisy)
    }

    /// Beside insertion failures of others, at no less than the clashes' rate: whatever is said surely is right.
    @Test func besideOthers() throws {
      let run = run(noisy: true)
      let outcome = try Runs.valid("scored run, noisy", { try run.perform(agent: ["--kernel-probe", "off"]) }, void: run.void)
      try Reported.check("scored run, noisy", outcome, .mixed)
    }

    /// With the probe the others' failures do not matter: nothing is wrong, and what is dropped is proven.
    @Test(arguments: [true, false]) func withTheProbe(isNoisy: Bool) throws {
      let run = run(noisy: isNoisy)
      let outcome = try Runs.valid("scored run, probe", { try run.perform(agent: ["--kernel-probe", "require"]) }, void: run.void)
      try Reported.check("scored run, probe\(isNoisy ? ", noisy" : "")", outcome, .probed)
    }

    /// The counters move for clashes only: all named, and nearly all of the clashes observed.
    @Test func alone() throws {
      let run = run(noisy: false)
      let outcome = try Runs.valid("scored run", { try run.perform(agent: ["--kernel-probe", "off"]) }, void: run.void)
      try Reported.check("scored run", outcome, .quiet)
    }
  }
}
