import Correlation
import Flows
import Glibc
import LinuxIO
import Reporting

/// `racetrack selftest`.
package enum SelfTestCommand {
  /// - Returns: 0 if every loss was named and nothing else was, 1 if not, 2 for a wrong option, 3 where it cannot tell.
  package static func run(_ arguments: [String]) -> Int32 {
    let options: SelfTestOptions
    do throws(SelfTestObstacle) {
      options = try SelfTestOptions(arguments: arguments)
    } catch {
      return Subcommand.usageError("racetrack selftest", error.message)
    }
    if options.wantsHelp { return Subcommand.printed(SelfTestOptions.help) }
    let writer = RecordWriter(options: RecordOptions())
    let test = SelfTest(options: options) { _ = writeText($0, to: STDOUT_FILENO) }
    do {
      return try test.run(makePipeline: { SelfTestRun(options) }) { record in
        var line: [UInt8] = []
        writer.append(record, to: &line)
        return String(decoding: line.last == UInt8(ascii: "\n") ? line.dropLast() : line[...], as: UTF8.self)
      }
    } catch let obstacle as SelfTestObstacle {
      return Subcommand.cannotRun("racetrack selftest", obstacle.message)
    } catch {
      return Subcommand.cannotRun("racetrack selftest", "\(error)")
    }
  }
}

/// The agent's own pipeline, turned for as long as the self-test says.
private final class SelfTestRun: SelfTestPipeline {
  private var pipeline: Pipeline?
  private(set) var records: [Record] = []
  private let selfTest: SelfTestOptions

  init(_ options: SelfTestOptions) { selfTest = options }

  func start() throws {
    let seed = SystemFacts.randomSeed()
    var options = PipelineOptions()
    options.engine.seed = seed
    options.probe.isWanted = selfTest.kernelProbe != .off
    options.probe.rung = selfTest.kernelProbeRung
    let pipeline = try Pipeline(options, seed: seed, log: Log(level: .warn, format: .logfmt))
    pipeline.open()
    for failure in pipeline.failures { if let failure { throw failure } }
    if let failure = pipeline.probeFailure, selfTest.kernelProbe == .require { throw failure }
    probe = pipeline.probeRung.map { "kernel probe: \($0.rawValue)" } ?? "no kernel probe"
    self.pipeline = pipeline
  }
  private(set) var probe = ""

  func run(milliseconds: Int) {
    guard let pipeline else { return }
    let end = Clocks.monotonic() + Int64(milliseconds) * Nanoseconds.perMillisecond
    while Clocks.monotonic() < end {
      _ = pipeline.turn(until: end)
      collect(pipeline)
    }
  }

  private func collect(_ pipeline: Pipeline) {
    records += pipeline.engine.records
    pipeline.engine.records.removeAll(keepingCapacity: true)
  }

  var totals: EngineTotals { pipeline?.engine.totals ?? EngineTotals() }

  func finish() {
    guard let pipeline else { return }
    pipeline.close()
    collect(pipeline)
  }
}
