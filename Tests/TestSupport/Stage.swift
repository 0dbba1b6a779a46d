import Glibc

/// One run: a lab, optionally the agent in its node, clients with what is done to them, and at the end the truth beside what was said.
package final class Stage {
  package struct Outcome {
    package var truth: Truth
    package var counters: KernelCounters
    package var records: [AgentRecord]
    /// The same as they were written.
    package var recordText = ""
    package var asked: [AskedQuery] = []
    /// What the schema says against them.
    package var recordProblem: String?
    package var metrics: MetricsPage?
    package var agentStatus: Int32?
    package var agentLog: String
    /// Seconds from the sending of a query to its answer, the longest.
    package var slowest: Double
    /// Lost packets of the clients that sent no DNS.
    package var noiseLost: Int
  }

  package let lab: Lab
  private var agent: AgentProcess?
  private var before = KernelCounters()
  private var running: [(process: Background, treatment: Treatment?)] = []
  private var asked: [(queries: [AskedQuery], treatment: Treatment)] = []
  private var noiseLost = 0

  package init(clients: Int, backends: Int, link: Lab.Link = .routed, _ rules: (Lab) -> Ruleset, servers: (Lab) throws -> Void) throws {
    lab = try Lab(clients: clients, backends: backends, link: link)
    try lab.load(rules(lab))
    try servers(lab)
    before = try KernelCounters.read(lab)
  }

  package func startAgent(_ options: [String]) throws {
    let started = try AgentProcess(lab, options: options)
    try started.waitUntilSeeing()
    agent = started
  }

  /// Forgets what the kernel counted so far.
  package func recount() throws { before = try KernelCounters.read(lab) }

  /// Starts a client. Without a treatment it is noise: not DNS, its packets are nobody's queries.
  package func launch(in pod: Lab.Pod?, _ treatment: Treatment?, _ arguments: String...) throws {
    let words = arguments.flatMap { $0.split(separator: " ").map(String.init) }
    running.append((try Background(lab.racelab(in: pod, words)), treatment))
  }

  /// Waits for all clients started so far.
  package func join() throws {
    for (process, treatment) in running {
      guard process.wait(seconds: 60) == 0 else { throw LabError("a client failed: \(process.errors)") }
      let output = process.output
      if let treatment {
        asked.append((AskedQuery.parse(output), treatment))
      } else if let summary = output.split(separator: "\n").last(where: { $0.hasPrefix("summary") }) {
        let numbers = summary.split(separator: " ").dropFirst().compactMap { Int($0.drop { $0 != "=" }.dropFirst()) }
        noiseLost += numbers[0] - numbers[1]
      }
    }
    running.removeAll()
  }

  /// Unanswered queries of the clients that were joined so far and carry this treatment.
  package func unanswered(_ treatment: Treatment) -> Int {
    asked.filter { $0.treatment == treatment }.reduce(0) { $0 + $1.queries.count { $0.answered == nil } }
  }

  /// Everything seen and said. Waits `settling` seconds at most for the agent to close what is open.
  package func finish(settling: Double) throws -> Outcome {
    try join()
    let counters = try KernelCounters.read(lab) - before
    let arrivals = Arrival.count(try lab.stopServers())
    var truth = Truth()
    for (queries, treatment) in asked { truth.add(queries, treatment, arrivals: arrivals) }
    let slowest = asked.flatMap(\.queries).compactMap { query in query.answered.map { $0 - query.sent } }.max() ?? 0
    var outcome = Outcome(truth: truth, counters: counters, records: [], agentLog: "", slowest: Double(slowest) / 1e9, noiseLost: noiseLost)
    outcome.asked = asked.flatMap(\.queries)
    if let agent {
      outcome.metrics = try agent.settle(transmissions: truth.sent, seconds: settling)
      outcome.agentStatus = try agent.stop()
      outcome.records = try agent.records()
      outcome.recordText = try agent.text()
      outcome.recordProblem = try agent.recordProblem()
      outcome.agentLog = agent.log
    }
    return outcome
  }
}
