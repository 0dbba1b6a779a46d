import Glibc
import TestSupport

/// Every cause of loss that this kernel can show, in the same second, beside ordinary lookups: what `make score` scores.
struct ScoredRun {
  /// Losses of each cause that there must be at least.
  var losses: Int
  /// Ordinary lookups a second, of one query each.
  var ordinaryRate: Int
  /// Insertion failures that are not DNS, and queries that only the counters tell from a clash. Without them the counters are quiet.
  var isNoisy: Bool

  static let short = (losses: 120, ordinaryRate: 1000)
  static let full = (losses: 500, ordinaryRate: 5000)

  /// Pairs that must race for as many losses, by what quiet runs yield; all of them within about a second.
  private var clashPairs: Int { losses * 7 / 5 }
  private var latePairs: Int { losses * 3 }
  private func pace(_ pairs: Int) -> String { "--pairs \(pairs) --pace-us \(1_000_000 / pairs)" }

  func perform(agent options: [String]) throws -> Stage.Outcome {
    let stage = try Stage(clients: 13, backends: 4, rules) { lab in
      try lab.serve(lab.backends[0], ports: [53, 5300])
      try lab.serve(lab.backends[1], mute: true)
      try lab.serve(lab.backends[2], delayMilliseconds: 1500)
      try lab.serve(lab.backends[3], delayMilliseconds: 1500)
    }
    try stage.startAgent(options)
    let pods = stage.lab.clients
    // Every device shows its legs once before something is lost behind it, and every service teaches its backends.
    for pod in pods {
      try stage.launch(in: pod, .ordinary, "ask --count 10 --rate 100 --label warm\(pod.name) --from \(pod.v4) --server 10.96.0.12")
    }
    for address in ["10.96.0.10", "10.96.0.11", "10.96.0.20", "10.96.0.21"] {
      try stage.launch(
        in: pods[10], .ordinary,
        "ask --count 4 --rate 50 --timeout-ms 3000 --label warm\(address.suffix(2)) --from \(pods[10].v4) --server \(address)")
    }
    try stage.join()
    try stage.lab.load(drops(stage.lab))

    let pair = "--servers 10.96.0.10,10.96.0.11"
    // Pairs of A and AAAA: a few more than must be lost.
    let half = losses * 21 / 40
    try stage.launch(in: pods[0], .replyRace, "race --label clash --port-base 2000 \(pace(clashPairs)) --from \(pods[0].v4) \(pair)")
    try stage.launch(
      in: nil, .sourceRace, "race --label source --port-base 4000 \(pace(clashPairs)) --from \(pods[1].v4),\(pods[2].v4)",
      "--netns \(pods[1].namespace),\(pods[2].namespace) --servers 10.96.0.12")
    try stage.launch(
      in: pods[3], .lateRace, "race --label late --port-base 6000 \(pace(latePairs)) --wait-ms 3000 --from \(pods[3].v4) --servers 10.96.0.20")
    try stage.launch(in: pods[4], .policy, "ask --label policy --count \(half) --rate \(half) --together --from \(pods[4].v4) --server 10.96.0.12")
    try stage.launch(
      in: pods[5], .answersDropped, "ask --label back --count \(half) --rate \(half) --together --from \(pods[5].v4) --server 10.96.0.12")
    try stage.launch(in: pods[6], .muteServer, "ask --label mute --count \(half) --rate \(half) --together --from \(pods[6].v4) --server 10.96.0.30")
    try stage.launch(
      in: pods[7], .ordinary,
      "ask --label fine --types A --count \(ordinaryRate) --rate \(ordinaryRate) --from \(pods[7].v4) --server 10.96.0.12")
    try stage.launch(
      in: pods[11], .entriesDeleted,
      "ask --label deleted --count \(half) --rate \(half * 5 / 4) --together --timeout-ms 3000 --from \(pods[11].v4) --server 10.96.0.21")
    try stage.launch(
      in: pods[12], .retried,
      "ask --label retried --count \(half) --rate \(half) --together --retry-ms 1000 --timeout-ms 3000 --from \(pods[12].v4) --server 10.96.0.21")
    if isNoisy {
      try stage.launch(in: pods[8], .policy, "race --label alike --pairs 60 --pace-us 14000 --gap-us 400 --from \(pods[8].v4) \(pair)")
      try stage.launch(
        in: pods[9], nil, "race --quiet --label noise --port 5300 \(pace(clashPairs * 2)) --from \(pods[9].v4) \(pair)")
      try stage.launch(in: pods[9], nil, "race --quiet --tcp --port 8080 \(pace(clashPairs / 2)) --from \(pods[9].v4) \(pair)")
    }
    // All of those were asked in 0.8 s; their first answers come after 1.5 s.
    usleep(1_050_000)
    try stage.lab.deleteEntries(of: pods[11])
    return try stage.finish(settling: 15)
  }

  private func rules(_ lab: Lab) -> Ruleset {
    var rules = Ruleset()
    let backends = lab.backends.map(\.v4)
    for address in ["10.96.0.10", "10.96.0.11"] {
      rules.service(address, to: [backends[0]])
      rules.service(address, port: 5300, to: [backends[0]])
      rules.service(address, "tcp", port: 8080, to: [backends[0]])
    }
    rules.service("10.96.0.12", to: [backends[0]])
    rules.service("10.96.0.20", to: [backends[2], backends[3]])
    rules.service("10.96.0.21", to: [backends[2]])
    rules.service("10.96.0.30", to: [backends[1]])
    for client in lab.clients[1...2] { rules.masquerade(client.v4) }
    return rules
  }

  /// Loaded once every path has shown its legs.
  private func drops(_ lab: Lab) -> Ruleset {
    var rules = Ruleset()
    rules.table = "drops"
    rules.fillerRules = 0
    rules.forward("ip saddr \(lab.clients[4].v4) udp dport 53 drop")
    rules.forward("ip daddr \(lab.clients[5].v4) udp sport 53 drop")
    rules.forward("ip saddr \(lab.clients[8].v4) ct original ip daddr 10.96.0.11 udp dport 53 drop")
    return rules
  }

  /// Why a run proves nothing; nil if it does.
  func void(_ outcome: Stage.Outcome) -> String? {
    let truth = outcome.truth
    let counters = outcome.counters
    if let first = truth.unexplained.first { return "\(truth.unexplained.count) losses without a certain cause: \(first)" }
    let clashes = truth.count("reply_clash_dropped") + truth.count("snat_clash_dropped")
    let causes = [
      "reply_clash_dropped", "snat_clash_dropped", "clash_late_reply", "dropped_on_node", "answer_dropped_on_node", "no_answer",
      "answer_untranslated", "late_answer",
    ]
    for cause in causes where truth.count(cause) < losses { return "only \(truth.count(cause)) of \(cause)" }
    if counters.insertFailed != counters.drop || counters.drop != clashes + outcome.noiseLost {
      return "the kernel counted \(counters), the clients lost \(clashes) and \(outcome.noiseLost) of the noise"
    }
    if isNoisy && outcome.noiseLost < clashes { return "too little noise: \(outcome.noiseLost) beside \(clashes) clashes" }
    return nil
  }
}
