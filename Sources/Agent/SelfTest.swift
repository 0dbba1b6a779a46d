package import Flows

/// What the self-test needs of the agent's pipeline.
package protocol SelfTestPipeline: AnyObject {
  /// Opens its sources in the network namespace of the calling thread.
  func start() throws
  /// Runs the event loop for so long.
  func run(milliseconds: Int)
  /// Which kernel probe runs, in a few words.
  var probe: String { get }
  /// What the engine has recorded so far.
  var records: [Record] { get }
  var totals: EngineTotals { get }
  /// Closes what is open.
  func finish()
}

/// `racetrack selftest`: real races in private namespaces, the agent's own pipeline inside, and the comparison of both.
package struct SelfTest {
  private let options: SelfTestOptions
  private let write: (String) -> Void

  /// - Parameter write: gets what goes to standard output, lines with their newline.
  package init(options: SelfTestOptions, write: @escaping (String) -> Void) {
    self.options = options
    self.write = write
  }

  /// Runs everything on the calling thread, which must be the process's only one and stays in a namespace of its own after.
  /// - Parameters:
  ///   - makePipeline: called when the topology stands.
  ///   - renderRecord: one record as a line of JSON, without newline.
  /// - Returns: the exit status: 0 proved, 1 failed, 3 cannot tell.
  /// - Throws: `SelfTestObstacle` with one line, exit status 3; or what the pipeline threw.
  package func run(makePipeline: () throws -> any SelfTestPipeline, renderRecord: (Record) -> String) throws -> Int32 {
    let programs = try SelfTestPrograms()
    let generator = try SelfTestGenerator(options: options)
    let rules = try generator.build(programs)
    let pipeline = try makePipeline()
    try pipeline.start()
    defer { pipeline.finish() }
    write(
      "\(options.ordinaryLookups) ordinary lookups, then races until \(options.losses) queries of each cause are lost, all in private namespaces;"
        + " verdicts take 10 s more (\(rules); \(pipeline.probe))\n")
    let truths = try race(generator, programs, pipeline)
    pipeline.run(milliseconds: Self.judgement)
    // Also keeps the pods until here: a link that vanishes earlier would be seen.
    try generator.checkChildren()
    let score = SelfTestScore(truths: truths, records: pipeline.records, totals: pipeline.totals)
    if let example = Self.example(pipeline.records) { write("\nfor example:\n\(renderRecord(example))\n") }
    let outcome = score.outcome(lossesWanted: options.losses)
    write("\n\(SelfTestTable.render(score))\(SelfTestTable.conclusion(score, outcome))\n")
    // Who has to find out why needs the evidence that was written with them.
    if outcome == .failed {
      for record in score.wrong { write("\nwrong:\n\(renderRecord(.lost(record)))\n") }
    }
    return switch outcome {
    case .proved: 0
    case .failed: 1
    case .void: 3
    }
  }

  /// A forwarded query without an answer is judged 10 s after it was sent; the rest is for closing the query.
  private static let judgement = 11_500

  /// One scenario after the other, so that the counters of each can be told apart; answers of one may still be on their way in the next.
  private func race(
    _ generator: borrowing SelfTestGenerator, _ programs: SelfTestPrograms, _ pipeline: any SelfTestPipeline
  ) throws(SelfTestObstacle) -> [SelfTestTruth] {
    // What the sources were already holding when they were opened is read before the first query.
    pipeline.run(milliseconds: 300)
    var moved: [SelfTestCounters] = []
    for scenario in SelfTestScenario.allCases {
      let before = try programs.readCounters()
      generator.start(scenario)
      while !generator.isSent(scenario) {
        pipeline.run(milliseconds: 50)
        try generator.checkChildren()
      }
      moved.append(try programs.readCounters().since(before))
    }
    while !SelfTestScenario.allCases.allSatisfy({ generator.isFinished($0) }) {
      pipeline.run(milliseconds: 50)
      try generator.checkChildren()
    }
    return SelfTestScenario.allCases.map { generator.truth(of: $0, counters: moved[$0.rawValue]) }
  }

  /// The record that shows most: a late reply, which no counter shows.
  private static func example(_ records: [Record]) -> Record? {
    var first: Record?
    for record in records {
      guard case .lost(let lost) = record else { continue }
      if lost.verdict == .clashLateReply { return record }
      if first == nil { first = record }
    }
    return first
  }
}
