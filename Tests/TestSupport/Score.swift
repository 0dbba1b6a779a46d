/// A judge's words against the truth.
package struct Score: Sendable {
  /// Truth ("answered" for queries that were not lost) against what was said, with its grade ("missed" where nothing was).
  package struct Cell: Hashable, Sendable {
    package var truth: String
    package var said: String
    package var grade: String
  }

  package struct Requirement: Sendable {
    /// Wrong verdicts of grade `inferred` are borne: they say of themselves that they may be wrong.
    package var bearsWrongInferred: Bool
    /// Of the losses of these verdicts, the share that must be `observed` or `proven`.
    package var confidentShare: Double
    package var confidentVerdicts: Set<String>
    package var provenShare = 0.0

    package static let clashDrops: Set<String> = ["reply_clash_dropped", "snat_clash_dropped"]
    /// One cause at a time, nothing else on the node: all named, all right, nearly all observed.
    package static let quiet = Requirement(bearsWrongInferred: false, confidentShare: 0.95, confidentVerdicts: clashDrops)
    /// The same with the kernel probe.
    package static let probed = Requirement(bearsWrongInferred: false, confidentShare: 0.999, confidentVerdicts: clashDrops, provenShare: 0.999)
    /// Look-alikes at once: whatever is said surely must be right.
    package static let mixed = Requirement(bearsWrongInferred: true, confidentShare: 0, confidentVerdicts: [])
  }

  package private(set) var matrix: [Cell: Int] = [:]
  package private(set) var right = 0
  package private(set) var wrong: [String] = []
  package private(set) var wrongButInferred = 0
  package private(set) var missed: [String] = []
  /// Said to be lost, yet answered or never sent.
  package private(set) var falseAlarms: [String] = []
  /// Said more than once.
  package private(set) var repeated: [String] = []
  private let lost: Int
  private let sent: Int

  package init(_ truth: Truth, _ judgements: [Judgement]) {
    lost = truth.lost.count
    var said: Set<QueryKey> = []
    for judgement in judgements {
      let line = "\(judgement.key)"
      guard said.insert(judgement.key).inserted else {
        repeated.append("\(line): \(judgement.verdict)")
        continue
      }
      let actual = truth.lost[judgement.key]
      let place = actual ?? (truth.answered.contains(judgement.key) ? "answered" : "never sent")
      matrix[Cell(truth: place, said: judgement.verdict, grade: judgement.grade), default: 0] += 1
      if actual == judgement.verdict {
        right += 1
      } else if actual == nil {
        falseAlarms.append("\(line): \(judgement.verdict) (\(judgement.grade)), in truth \(place)")
      } else {
        wrong.append("\(line): \(judgement.verdict) (\(judgement.grade)), in truth \(place)")
        if judgement.grade == "inferred" { wrongButInferred += 1 }
      }
    }
    for (key, verdict) in truth.lost where !said.contains(key) {
      matrix[Cell(truth: verdict, said: "missed", grade: "-"), default: 0] += 1
      missed.append("\(key): \(verdict)")
    }
    let spared = truth.answered.count - (matrix.filter { $0.key.truth == "answered" }.values.reduce(0, +))
    if spared > 0 { matrix[Cell(truth: "answered", said: "nothing", grade: "-")] = spared }
    sent = truth.sent
  }

  /// What the rows about transmissions that were sent add up to: each has its place once.
  package var judged: Int { matrix.filter { $0.key.truth != "never sent" }.values.reduce(0, +) }

  /// Where the judge fails the requirement; empty if it passes.
  package func problems(_ requirement: Requirement) -> [String] {
    var problems: [String] = []
    func complain(_ what: String, _ list: [String]) {
      if !list.isEmpty { problems.append("\(list.count) \(what), first: \(list.sorted().prefix(3).joined(separator: "; "))") }
    }
    complain("missed", missed)
    complain("false alarms", falseAlarms)
    complain("recorded more than once", repeated)
    if judged != sent { problems.append("the matrix holds \(judged) of \(sent) transmissions") }
    if wrong.count > (requirement.bearsWrongInferred ? wrongButInferred : 0) {
      complain("wrong verdicts", requirement.bearsWrongInferred ? wrong.filter { !$0.contains("(inferred)") } : wrong)
    }
    let judged = matrix.filter { requirement.confidentVerdicts.contains($0.key.truth) }
    let all = judged.values.reduce(0, +)
    if all > 0 {
      func share(_ grades: Set<String>) -> Double {
        Double(judged.filter { $0.key.said == $0.key.truth && grades.contains($0.key.grade) }.values.reduce(0, +)) / Double(all)
      }
      if share(["observed", "proven"]) < requirement.confidentShare {
        problems.append("only \(share(["observed", "proven"])) of clash losses observed or proven, needs \(requirement.confidentShare)")
      }
      if share(["proven"]) < requirement.provenShare {
        problems.append("only \(share(["proven"])) of clash losses proven, needs \(requirement.provenShare)")
      }
    }
    return problems
  }

  package var table: String {
    var lines = [
      "  lost \(lost)  right \(right)  wrong \(wrong.count) (inferred \(wrongButInferred))  missed \(missed.count)  "
        + "false alarms \(falseAlarms.count)  repeated \(repeated.count)"
    ]
    func pad(_ text: String, _ width: Int) -> String { text + String(repeating: " ", count: max(1, width - text.count)) }
    lines.append("  " + pad("truth", 26) + pad("said", 26) + pad("grade", 10) + "count")
    for (cell, count) in matrix.sorted(by: { ($0.key.truth, $0.key.said, $0.key.grade) < ($1.key.truth, $1.key.said, $1.key.grade) }) {
      lines.append("  " + pad(cell.truth, 26) + pad(cell.said, 26) + pad(cell.grade, 10) + "\(count)")
    }
    lines.append("  " + pad("sum", 62) + "\(judged) of \(sent)")
    return lines.joined(separator: "\n")
  }
}

/// The judge that everyone writes first: a counter moved somewhere on the node, so it was the race. It must not pass.
package enum NaiveJudge {
  package static func judge(unanswered: [QueryKey], moved: KernelCounters) -> [Judgement] {
    unanswered.map { Judgement(key: $0, verdict: moved.insertFailed > 0 ? "reply_clash_dropped" : "no_answer", grade: "observed") }
  }
}
