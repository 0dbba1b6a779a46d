import Foundation
import Glibc

/// An agent in a topology's node and clients around it. Each client's queries carry a label in their names, by which what was said is found again.
package final class TopologyRun {
  /// What the node did to a client's queries.
  package enum Fate: Sendable, Equatable {
    case answered
    case lost
    /// Some of them; those that were not answered are lost.
    case mixed
    /// Not a query of a client of this node: must be left alone.
    case ignored
    /// The agent may know better than the client when it gave up: only conservation is asked.
    case untold
  }

  /// What may be said of a lost query.
  package struct Saying: Sendable, CustomStringConvertible {
    package var verdict: String
    package var reasons: Set<String>
    package var grades: Set<String>
    package init(_ verdict: String, _ reasons: String..., graded grades: Set<String> = ["observed"]) {
      self.verdict = verdict
      self.reasons = Set(reasons)
      self.grades = grades
    }
    package func fits(_ record: AgentRecord) -> Bool {
      record.verdict == verdict && (reasons.isEmpty || reasons.contains(record.reason ?? "")) && grades.contains(record.grade ?? "")
    }
    package var description: String { "\(verdict)/\(reasons.sorted().joined(separator: "|"))/\(grades.sorted().joined(separator: "|"))" }
  }

  package struct Group {
    package var label: String
    package var fate: Fate
    package var sayings: [Saying]
    package var vantage: String
    package var knownIssue: String?
    package var queries: [AskedQuery] = []
    package var said: [AgentRecord] = []

    /// What is wrong with what was said, apart from the laboratory's own failures.
    package var problems: [String] {
      let lost = queries.filter { $0.answered == nil }
      var problems: [String] = []
      func complain(_ text: String) { problems.append("\(label): \(text); said: \(table)") }
      switch fate {
      case .ignored:
        if !said.isEmpty { complain("\(said.count) records of queries that are nobody's") }
      case .untold: break
      case .answered, .lost, .mixed:
        let answered = Set(queries.filter { $0.answered != nil }.map(\.key))
        let alarms = said.count { $0.key.map(answered.contains) ?? true }
        if alarms > 0 { complain("\(alarms) answered queries called lost") }
        let told = Dictionary(grouping: said.compactMap(\.key), by: { $0 }).mapValues(\.count)
        let missed = lost.count { told[$0.key] == nil }
        if missed > 0 { complain("\(missed) of \(lost.count) losses missed") }
        if told.contains(where: { $0.value > 1 }) { complain("a loss told more than once") }
        let wrong = said.count { record in
          !(sayings.contains { $0.fits(record) } && record.vantage == vantage) && !(record.key.map(answered.contains) ?? true)
        }
        if wrong > 0 { complain("\(wrong) not as it must be: \(vantage) \(sayings)") }
      }
      return problems
    }

    /// Why the group proves nothing; nil if the laboratory did what was asked of it.
    package var void: String? {
      let answered = queries.count { $0.answered != nil }
      switch fate {
      case .answered where answered != queries.count || queries.isEmpty: return "\(label): only \(answered) of \(queries.count) answered"
      case .lost where answered != 0 || queries.isEmpty: return "\(label): \(answered) of \(queries.count) answered, none should be"
      default: return nil
      }
    }

    package var table: String {
      let kinds = Dictionary(grouping: said) {
        "\($0.verdict ?? "-")/\($0.reason ?? "")/\($0.grade ?? "-") \($0.vantage ?? "-") \(($0.evidence ?? []).joined(separator: ","))"
      }
      return kinds.map { "\($0.value.count) x \($0.key)" }.sorted().joined(separator: "; ")
    }
  }

  package let topology: Topology
  package let agent: AgentProcess
  private var running: [(process: Background, group: Int)] = []
  package private(set) var groups: [Group] = []
  /// Client transmissions that no group accounts for (retries).
  package var furtherTransmissions = 0

  /// Without the kernel probe unless the options ask for it: what is held here is what copies, events and counters tell.
  package convenience init(_ topology: Topology, _ options: [String] = []) throws {
    var options = options
    if !options.contains("--dns.timeout") { options += ["--dns.timeout", "2s"] }
    if !options.contains("--kernel-probe") { options += ["--kernel-probe", "off"] }
    let agent = try AgentProcess(in: topology.node, options: options)
    try agent.waitUntilSeeing()
    self.init(topology, agent)
  }

  /// With an agent that runs already.
  package init(_ topology: Topology, _ agent: AgentProcess) {
    self.topology = topology
    self.agent = agent
  }

  /// Starts a racelab client in a namespace, or in the initial one where it enters others itself.
  package func launch(
    _ label: String, in short: String?, _ fate: Fate, _ sayings: [Saying] = [], vantage: String = "client", known: String? = nil,
    with arguments: String
  ) throws {
    let words = arguments + " --label \(label)"
    let command = short.map { topology.command(in: $0, words) } ?? [Executables.racelab] + words.split(separator: " ").map(String.init)
    running.append((try Background(command), groups.count))
    groups.append(Group(label: label, fate: fate, sayings: sayings, vantage: vantage, knownIssue: known))
  }

  /// Twenty ordinary lookups of one question each, from a pod to a server.
  package func ask(
    _ label: String, _ pod: Topology.Pod, _ server: String, _ fate: Fate, _ sayings: Saying..., vantage: String = "client", known: String? = nil,
    from: String? = nil, with options: String = ""
  ) throws {
    try ask(label, pod, server, fate, sayings, vantage: vantage, known: known, from: from, with: options)
  }

  package func ask(
    _ label: String, _ pod: Topology.Pod, _ server: String, _ fate: Fate, _ sayings: [Saying], vantage: String = "client", known: String? = nil,
    from: String? = nil, with options: String = ""
  ) throws {
    let own = from ?? (server.contains(":") ? pod.v6 : pod.v4)
    try launch(
      label, in: pod.name, fate, sayings, vantage: vantage, known: known,
      with: "ask --from \(own) --server \(server) --count 20 --rate 50 --types A --timeout-ms 1500 \(options)")
  }

  /// Adds what another program stated of its queries.
  package func add(_ label: String, _ queries: [AskedQuery], _ fate: Fate, _ sayings: Saying..., known: String? = nil) {
    groups.append(Group(label: label, fate: fate, sayings: sayings, vantage: "client", knownIssue: known, queries: queries))
  }

  /// Waits for the clients started so far.
  package func join() throws {
    for (process, group) in running {
      guard process.wait(seconds: 60) == 0 else { throw LabError("\(groups[group].label): a client failed: \(process.errors)") }
      // What the kernel refused to send was never sent, and nobody but the kernel probe can tell of it.
      groups[group].queries = AskedQuery.parse(process.output).filter { !$0.isRefused }
    }
    running.removeAll()
  }

  package var expectedTransmissions: Int {
    groups.filter { $0.vantage == "client" && $0.fate != .ignored }.reduce(furtherTransmissions) { $0 + $1.queries.count }
  }

  /// Waits for the fates, stops the agent and hands every group what was said of it. Returns the last page.
  package func finish(settling: Double = 8) throws -> MetricsPage {
    try join()
    let page = try agent.settle(transmissions: expectedTransmissions, seconds: settling)
    guard try agent.stop() == 0 else { throw LabError("the agent failed: \(agent.log.suffix(1000))") }
    records = try agent.records()
    for record in records where record.event == "dns_query_lost" {
      let words = (record.name ?? "").split(separator: ".").map(String.init)
      guard words.count > 1, let group = groups.firstIndex(where: { $0.label == words[1].lowercased() && $0.owns(record) }) else {
        strays.append("\(record)")
        continue
      }
      groups[group].said.append(record)
    }
    return page
  }
  /// Everything that the agent wrote.
  package private(set) var records: [AgentRecord] = []
  /// Losses of queries that nobody sent.
  package private(set) var strays: [String] = []
}

extension TopologyRun.Group {
  /// Two groups may carry the same names: a forwarder's own queries are told from its clients' by their keys.
  fileprivate func owns(_ record: AgentRecord) -> Bool {
    guard fate != .ignored, let key = record.key else { return true }
    return queries.contains { $0.key == key }
  }
}
