import TestSupport

/// The topologies and client mixes of the suites. Service addresses: .10 and .11 share a backend, .20 has two, .30 is mute, .12 is ordinary.
enum Scenario: String, Sendable, CaseIterable {
  case replyClashV4, replyClashV6, replyClashSameQuestion, sourceClash, lateReply
  /// Clashes of which many are resolved towards a backend that never answers: no late reply, however alike the entries look.
  case muteAfterClash

  var verdict: String {
    switch self {
    case .replyClashV4, .replyClashV6, .replyClashSameQuestion: "reply_clash_dropped"
    case .sourceClash: "snat_clash_dropped"
    case .lateReply: "clash_late_reply"
    case .muteAfterClash: "no_answer"
    }
  }

  /// True where the kernel counts every loss itself.
  var isDrop: Bool { self != .lateReply && self != .muteAfterClash }

  /// A quiet run: this race, 20 ordinary lookups before it, and nothing else.
  func perform(agent options: [String]?) throws -> Stage.Outcome {
    let stage = try Stage(clients: 2, backends: 2, rules) { lab in
      try lab.serve(lab.backends[0], delayMilliseconds: self == .lateReply ? 1500 : 0)
      try lab.serve(lab.backends[1], delayMilliseconds: self == .lateReply ? 1500 : 0, mute: self == .muteAfterClash)
    }
    if let options { try stage.startAgent(options) }
    let lab = stage.lab
    let pod = lab.clients[0]
    let ordinary =
      switch self {
      case .replyClashV6: (pod.v6, "fd96::10")
      case .sourceClash: (pod.v4, lab.backends[0].v4)
      default: (pod.v4, "10.96.0.10")
      }
    try stage.launch(in: pod, .ordinary, "ask --count 20 --rate 100 --label warm --from \(ordinary.0) --server \(ordinary.1)")
    try stage.join()
    // A busy machine lets fewer pairs overlap: race until there is enough to score.
    for batch in 0..<4 where stage.unanswered(treatment) < Self.enough {
      try launchRace(stage, batch: batch)
      try stage.join()
    }
    return try stage.finish(settling: 12)
  }

  static let enough = 210

  private var treatment: Treatment {
    switch self {
    case .sourceClash: .sourceRace
    case .lateReply: .lateRace
    case .muteAfterClash: .muteServer
    default: .replyRace
    }
  }

  private func rules(_ lab: Lab) -> Ruleset {
    var rules = Ruleset()
    let (one, two) = (lab.backends[0], lab.backends[1])
    for (v4, v6) in [("10.96.0.10", "fd96::10"), ("10.96.0.11", "fd96::11")] {
      rules.service(v4, to: [one.v4])
      rules.service(v6, to: [one.v6])
    }
    rules.service("10.96.0.20", to: [one.v4, two.v4])
    if self == .sourceClash { rules.masquerade("10.40.0.0/24") }
    return rules
  }

  private func launchRace(_ stage: Stage, batch: Int) throws {
    let lab = stage.lab
    let (pod, other) = (lab.clients[0], lab.clients[1])
    // Below the ephemeral ports: a race on a port of the lookups before it would be remapped, and its late answer would go to a port
    // where nobody listens.
    let common = "race --label batch\(batch) --port-base \(20000 + batch * 1000)"
    switch self {
    case .replyClashV4:
      try stage.launch(in: pod, treatment, common, "--pairs 400 --wait-ms 1500 --from \(pod.v4) --servers 10.96.0.10,10.96.0.11")
    case .replyClashV6:
      try stage.launch(in: pod, treatment, common, "--pairs 400 --wait-ms 1500 --from \(pod.v6) --servers fd96::10,fd96::11")
    case .replyClashSameQuestion:
      try stage.launch(in: pod, treatment, common, "--pairs 400 --wait-ms 1500 --same-question --from \(pod.v4) --servers 10.96.0.10,10.96.0.11")
    case .sourceClash:
      try stage.launch(
        in: nil, treatment, common, "--pairs 500 --wait-ms 1500 --from \(pod.v4),\(other.v4)",
        "--netns \(pod.namespace),\(other.namespace) --servers \(lab.backends[0].v4)")
    case .lateReply, .muteAfterClash:
      try stage.launch(in: pod, treatment, common, "--pairs 500 --wait-ms 2500 --from \(pod.v4) --servers 10.96.0.20")
    }
  }

  /// Why a run proves nothing: the kernel does not agree with the clients. Nil if it does.
  func void(_ outcome: Stage.Outcome) -> String? {
    let lost = outcome.truth.count(verdict)
    if let first = outcome.truth.unexplained.first { return "\(outcome.truth.unexplained.count) losses without a certain cause: \(first)" }
    if lost < 200 { return "only \(lost) lost" }
    let counters = outcome.counters
    let agrees = isDrop ? counters.insertFailed == lost && counters.drop == lost : counters.insertFailed == 0 && counters.clashResolve >= 200
    if !agrees {
      return "the kernel counted \(counters), the clients lost \(lost)"
    }
    return nil
  }
}

enum Runs {
  /// Repeats a run until the kernel agrees with its clients, three times at most.
  static func valid<Outcome>(_ name: String, _ perform: () throws -> Outcome, void: (Outcome) -> String?) throws -> Outcome {
    var reasons: [String] = []
    for _ in 0..<3 {
      let outcome = try perform()
      guard let reason = void(outcome) else { return outcome }
      print("\(name): void run, repeated: \(reason)")
      reasons.append(reason)
    }
    throw LabError("\(name): three void runs: \(reasons.joined(separator: "; "))")
  }
}
