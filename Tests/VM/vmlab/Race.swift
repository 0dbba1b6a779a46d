import TestSupport

/// What is done to a node's queries, one thing at a time.
enum Race: String, CaseIterable {
  /// The textbook race: A and AAAA from one socket to one service with three backends.
  case service
  /// One socket asks two services that share a backend.
  case reply
  /// Two clients masqueraded to one address and port.
  case source
  /// One service, two backends that answer after 1.5 s: longer than a loser's entry lives.
  case late
  /// A cache on the node whose packets are not tracked, as NodeLocal DNSCache has it.
  case notrack
  /// `reply` from a pod on a bridge.
  case bridged
  /// The same with bridge-nf-call-iptables.
  case bridgedCalls = "bridged-nf"
  /// `service` with two backends, under a policy engine that holds every packet in an NFQUEUE.
  case nfqueue
  /// No room in the conntrack table.
  case full = "full-table"
  /// Chains of the table that are longer than the kernel lets them grow.
  case longChains = "long-chains"
  /// A full table, and answers that come after the kernel has thrown out unanswered entries for new ones.
  case earlyDrop = "early-drop"
  /// `reply` while the wall clock is set an hour on and back again.
  case clockSteps = "clock-steps"

  /// Why it cannot be done in this mode or on this kernel; nil if it can.
  func obstacle(_ mode: ServiceMode, _ family: Lab.Family, _ kernel: Kernel) -> String? {
    switch self {
    case _ where family == .v6 && ![.service, .reply, .source, .late].contains(self): ""
    case .notrack where mode != .iptables, .bridged where mode != .nftables, .bridgedCalls where mode != .nftables,
      .nfqueue where mode != .nftables, .full where mode != .nftables, .longChains where mode != .nftables, .earlyDrop where mode != .nftables,
      .clockSteps where mode != .nftables:
      ""
    case .late where kernel.dropsClashes: "this kernel resolves no clash: nothing can come late"
    case .reply where mode == .ipvs:
      "IPVS answers in the name of whichever service it finds first when two race: docs/limitations.md"
    case .source where mode == .ipvs: "masquerading of sources is not IPVS's: see the other modes"
    case .clockSteps where !WallClock.isOurs: "the clock is set in a virtual machine only"
    case .bridgedCalls where !kernel.hasBridgeNetfilter: "this kernel has no br_netfilter"
    default: nil
    }
  }

  /// What is lost in it; nil if nothing may be lost.
  func verdict(_ kernel: Kernel) -> String? {
    switch self {
    case .service: kernel.dropsClashes ? "dnat_clash_dropped" : nil
    case .reply, .bridged, .bridgedCalls, .clockSteps: "reply_clash_dropped"
    case .source: "snat_clash_dropped"
    case .late: "clash_late_reply"
    case .notrack: nil
    case .nfqueue: kernel.translatesHeldAgain ? "clash_misrouted" : kernel.dropsClashes ? "dnat_clash_dropped" : nil
    case .full: "table_full"
    case .longChains: "dropped_on_node"
    case .earlyDrop: "answer_untranslated"
    }
  }

  /// The reason that every record of its verdict must have; nil where none is asked for.
  var reason: String? {
    switch self {
    case .longChains: "chain_too_long"
    case .earlyDrop: "early_drop"
    default: nil
    }
  }

  private func treatment(_ mode: ServiceMode, _ kernel: Kernel) -> Treatment {
    switch verdict(kernel) {
    case "dnat_clash_dropped": .serviceRace
    case "reply_clash_dropped": .replyRace
    case "snat_clash_dropped": .sourceRace
    case "clash_late_reply": mode == .ipvs ? .lateRaceInsertingNothing : .lateRace
    case "clash_misrouted": .heldRace
    case "table_full": .fullTable
    case "dropped_on_node": .longChains
    case "answer_untranslated": .crowdedTable
    default: .ordinary
    }
  }

  static let enough = 100
  /// Seconds. Where the way through the node takes longer than the 100 ms within which the agent expects an insertion to be counted, what it says is not
  /// about the kernel (`CounterHistory.delay`).
  static let longestTrip = 0.1
  static let cache = "169.254.20.10"

  /// A service's address by its last number: 10 and 11 share a backend, 20 has several.
  private static func service(_ number: Int, _ family: Lab.Family) -> String { family == .v4 ? "10.96.0.\(number)" : "fd96::\(number)" }

  private func services(_ lab: Lab, _ family: Lab.Family) -> [ServiceMode.Service] {
    let all = lab.backends.map { $0.address(family) }
    return [
      .init(address: Self.service(10, family), backends: [all[0]]), .init(address: Self.service(11, family), backends: [all[0]]),
      .init(address: Self.service(20, family), backends: self == .service ? all : Array(all.prefix(2))),
    ]
  }

  /// Whose queries overlap.
  private func racing(_ lab: Lab, _ family: Lab.Family) -> String {
    let pods = lab.clients.map { $0.address(family) }
    return self == .source ? "\(pods[0]), \(pods[1]), \(family == .v4 ? Lab.nodeV4 : Lab.nodeV6)" : pods[0]
  }

  /// Milliseconds that a backend takes for its answer.
  private var delay: Int {
    switch self {
    case .late: 1500
    case .earlyDrop: 500
    default: 0
    }
  }

  private var link: Lab.Link {
    switch self {
    case .bridged: .bridged(callsIPTables: false)
    case .bridgedCalls: .bridged(callsIPTables: true)
    default: .routed
    }
  }

  /// Twenty ordinary lookups, the race until enough was lost, and meanwhile ordinary lookups of another pod.
  func perform(_ mode: ServiceMode, _ family: Lab.Family, _ kernel: Kernel, agent options: [String]) throws -> Stage.Outcome {
    let isSource = self == .source
    let stage = try Stage(
      clients: 2, backends: 3, link: link, { mode.ruleset(services($0, family), racing: racing($0, family), masquerading: isSource) }
    ) { lab in
      try mode.load(services(lab, family), masquerading: isSource, into: lab)
      for backend in lab.backends { try lab.serve(backend, delayMilliseconds: delay) }
      if self == .notrack { try leaveUntracked(lab) }
    }
    let lab = stage.lab
    var engine: Background?
    if self == .nfqueue { engine = try hold(lab) }
    try stage.startAgent(options)
    let other = lab.clients[1]
    let servers = targets(lab, family)
    let ordinary = "ask --count 20 --rate 50"
    var clock = WallClock()
    defer { clock.restore() }
    for (index, server) in servers.enumerated() {
      for client in lab.clients {
        try stage.launch(
          in: client, .ordinary, ordinary, "--label warm\(client.name)\(index) --from \(client.address(family)) --server \(server)")
      }
    }
    try stage.join()
    if isAboutTheTable {
      try askOfTheTable(stage, servers[0], treatment(mode, kernel))
    } else {
      for batch in 0..<12 {
        if batch > 0, try hasEnough(stage, mode, kernel) { break }
        if self != .source && self != .late {
          try stage.launch(in: other, .ordinary, ordinary, "--label beside\(batch) --from \(other.address(family)) --server \(servers[0])")
        }
        try launch(stage, batch, treatment(mode, kernel), servers, family)
        if self == .clockSteps { for hours in [1, -1] { try clock.step(hours * WallClock.hour, after: 1.2) } }
        try stage.join()
      }
    }
    defer { withExtendedLifetime(engine) {} }
    return try stage.finish(settling: 20)
  }

  /// True if enough was lost, or enough clashes were resolved where nothing may be lost.
  private func hasEnough(_ stage: Stage, _ mode: ServiceMode, _ kernel: Kernel) throws -> Bool {
    if verdict(kernel) != nil { return stage.unanswered(treatment(mode, kernel)) >= Self.enough }
    return try self != .service || KernelCounters.read(stage.lab).clashResolve >= Self.enough / 2
  }

  /// The addresses that are asked.
  private func targets(_ lab: Lab, _ family: Lab.Family) -> [String] {
    switch self {
    case .service, .late, .nfqueue, .longChains: [Self.service(20, family)]
    case .reply, .bridged, .bridgedCalls, .clockSteps: [Self.service(10, family), Self.service(11, family)]
    case .source: [lab.backends[0].address(family)]
    case .notrack: [Self.cache, Self.service(10, family)]
    case .full, .earlyDrop: [Self.service(10, family)]
    }
  }

  private func launch(_ stage: Stage, _ batch: Int, _ treatment: Treatment, _ servers: [String], _ family: Lab.Family) throws {
    let lab = stage.lab
    let (pod, other) = (lab.clients[0], lab.clients[1])
    let common = "race --label batch\(batch) --port-base \(20000 + batch * 1000) --pairs 130 --pace-us 30000 --wait-ms \(self == .late ? 2500 : 1500)"
    let addresses = [pod, other].map { $0.address(family) }
    let from =
      self == .source ? "--from \(addresses[0]),\(addresses[1]) --netns \(pod.namespace),\(other.namespace)" : "--from \(addresses[0])"
    try stage.launch(in: self == .source ? nil : pod, treatment, common, from, "--servers \(servers.joined(separator: ","))")
  }

  /// A server on the node, and the rules that NodeLocal DNSCache makes for its addresses.
  private func leaveUntracked(_ lab: Lab) throws {
    let addresses = [Self.cache, "10.96.0.10"]
    var lines = ["ip -n $NODE addr add fd20::10/128 dev lo nodad"]
    for address in addresses {
      lines.append("ip -n $NODE addr add \(address)/32 dev lo")
      for rule in ["PREROUTING -d \(address) -p udp --dport 53", "OUTPUT -d \(address) -p udp --dport 53", "OUTPUT -s \(address) -p udp --sport 53"] {
        lines.append("ip netns exec $NODE iptables-legacy -t raw -A \(rule) -j CT --notrack")
      }
    }
    try Command.run(["env", "NODE=\(lab.node)", "sh", "-eu"], input: lines.joined(separator: "\n") + "\n")
    for address in addresses {
      try lab.serve(Lab.Pod(name: "n", namespace: lab.node, v4: address, v6: address == Self.cache ? "fd20::10" : "::1", device: "lo"))
    }
  }

  /// The engine; and each backend behind a router of its own, as one on another node is: what is translated to the one backend after it was routed to
  /// the other does leave there.
  private func hold(_ lab: Lab) throws -> Background {
    for (index, backend) in lab.backends.enumerated() {
      let router = "169.254.2.\(index + 1)"
      let neighbour = try Command.run(["ip", "-n", lab.node, "neigh", "show", backend.v4, "dev", backend.device]).split(separator: " ").map(
        String.init)
      guard let address = neighbour.firstIndex(of: "lladdr").map({ neighbour[$0 + 1] }) else { throw LabError("no neighbour \(backend.v4)") }
      try Command.run(["ip", "-n", lab.node, "neigh", "replace", router, "lladdr", address, "dev", backend.device, "nud", "permanent"])
      try Command.run(["ip", "-n", lab.node, "route", "add", "\(router)/32", "dev", backend.device])
      try Command.run(["ip", "-n", lab.node, "route", "replace", "\(backend.v4)/32", "via", router, "dev", backend.device])
    }
    let engine = try Background(["ip", "netns", "exec", lab.node, Executables.racelab, "hold", "--ms", "30"])
    guard Clock.poll(seconds: 10, { engine.output.contains("ready") }) else { throw LabError("no policy engine: \(engine.errors)") }
    try Command.run([
      "ip", "netns", "exec", lab.node, "iptables-legacy", "-A", "FORWARD", "-p", "udp", "--dport", "53", "-j", "NFQUEUE", "--queue-num", "0",
    ])
    return engine
  }

  /// Why a run proves nothing: too little happened, or the kernel does not agree with the clients. Nil if it does prove something.
  func void(_ outcome: Stage.Outcome, _ kernel: Kernel) -> String? {
    if let first = outcome.truth.unexplained.first { return "\(outcome.truth.unexplained.count) losses without a certain cause: \(first)" }
    // The clients take the time by the wall clock.
    if delay == 0 && self != .nfqueue && self != .clockSteps && outcome.slowest > Self.longestTrip {
      return "a query and its answer took \(Int(outcome.slowest * 1000)) ms: this machine took the emulated processors away"
    }
    let counters = outcome.counters
    guard let verdict = verdict(kernel) else {
      if counters.insertFailed + counters.drop > 0 { return "the kernel counted \(counters), nothing was lost" }
      if self == .service && counters.clashResolve < Self.enough / 2 { return "only \(counters.clashResolve) clashes were resolved" }
      return nil
    }
    let lost = outcome.truth.count(verdict)
    let least = [.nfqueue, .late, .longChains, .earlyDrop].contains(self) ? Self.enough / 2 : Self.enough
    if lost < least { return "only \(lost) lost; the kernel counted \(counters)" }
    let agrees =
      switch verdict {
      // Under IPVS the late answer's own entry may fail to be inserted instead.
      case "clash_late_reply" where counters.insertFailed == lost: counters.drop == lost
      case "clash_late_reply", "clash_misrouted": counters.insertFailed == 0 && counters.drop == 0
      case "table_full": counters.insertFailed == 0 && counters.drop >= lost
      case "dropped_on_node": counters.chainTooLong == lost && counters.insertFailed == lost && counters.drop == 0
      case "answer_untranslated": counters.insertFailed == 0 && counters.earlyDrop >= lost && counters.drop == outcome.truth.count("table_full")
      default: counters.insertFailed == lost && counters.drop == lost
      }
    return agrees ? nil : "the kernel counted \(counters), the clients lost \(lost)"
  }
}
