import TestSupport

/// Everything that looks alike from afar, in one second on one node: clashes, policy drops, answers lost on the way back, a mute server,
/// ordinary lookups, and insertion failures that have nothing to do with DNS.
enum MixedRun {
  static func perform(agent options: [String]?) throws -> Stage.Outcome {
    let stage = try Stage(clients: 7, backends: 2, rules) { lab in
      try lab.serve(lab.backends[0], ports: [53, 5300])
      try lab.serve(lab.backends[1], mute: true)
    }
    if let options { try stage.startAgent(options) }
    let pods = stage.lab.clients
    try stage.launch(in: pods[4], .ordinary, "ask --count 20 --rate 100 --label warm --from \(pods[4].v4) --server 10.96.0.12")
    try stage.join()

    let pair = "--servers 10.96.0.10,10.96.0.11"
    try stage.launch(in: pods[0], .replyRace, "race --label clash --pairs 350 --pace-us 2500 --from \(pods[0].v4) \(pair)")
    try stage.launch(in: pods[1], .policy, "ask --label policy --count 100 --rate 110 --together --from \(pods[1].v4) --server 10.96.0.12")
    try stage.launch(in: pods[1], .policy, "race --label policyrace --pairs 40 --pace-us 20000 --from \(pods[1].v4) \(pair)")
    try stage.launch(in: pods[2], .answersDropped, "ask --label back --count 60 --rate 65 --together --from \(pods[2].v4) --server 10.96.0.12")
    try stage.launch(in: pods[3], .muteServer, "ask --label mute --count 60 --rate 65 --together --from \(pods[3].v4) --server 10.96.0.30")
    try stage.launch(in: pods[4], .ordinary, "ask --label fine --count 200 --rate 220 --from \(pods[4].v4) --server 10.96.0.12")
    // Its second query is dropped by a rule while its first holds the reply tuple that the second would have got: a clash to the last detail
    // but the counters, and those move for others.
    try stage.launch(in: pods[6], .policy, "race --label alike --pairs 60 --pace-us 14000 --gap-us 400 --from \(pods[6].v4) \(pair)")
    try stage.launch(in: pods[5], nil, "race --quiet --label noise --port 5300 --pairs 800 --pace-us 1100 --from \(pods[5].v4) \(pair)")
    try stage.launch(in: pods[5], nil, "race --quiet --tcp --port 8080 --pairs 300 --pace-us 3000 --from \(pods[5].v4) \(pair)")
    return try stage.finish(settling: 12)
  }

  private static func rules(_ lab: Lab) -> Ruleset {
    var rules = Ruleset()
    let (one, mute) = (lab.backends[0].v4, lab.backends[1].v4)
    for address in ["10.96.0.10", "10.96.0.11"] {
      rules.service(address, to: [one])
      rules.service(address, port: 5300, to: [one])
      rules.service(address, "tcp", port: 8080, to: [one])
    }
    rules.service("10.96.0.12", to: [one])
    rules.service("10.96.0.30", to: [mute])
    rules.forward("ip saddr \(lab.clients[1].v4) udp dport 53 drop")
    rules.forward("ip daddr \(lab.clients[2].v4) udp sport 53 drop")
    rules.forward("ip saddr \(lab.clients[6].v4) ct original ip daddr 10.96.0.11 udp dport 53 drop")
    return rules
  }

  static func void(_ outcome: Stage.Outcome) -> String? {
    let truth = outcome.truth
    let counters = outcome.counters
    if let first = truth.unexplained.first { return "\(truth.unexplained.count) losses without a certain cause: \(first)" }
    let clashes = truth.count("reply_clash_dropped")
    if clashes < 100 { return "only \(clashes) clashes" }
    if counters.insertFailed != counters.drop || counters.drop != clashes + outcome.noiseLost {
      return "the kernel counted \(counters), the clients lost \(clashes) and \(outcome.noiseLost) of the noise"
    }
    if counters.insertFailed < 2 * clashes { return "too little noise: \(clashes) of \(counters.insertFailed) failed insertions were DNS" }
    return nil
  }
}
