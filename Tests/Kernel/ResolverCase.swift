import TestSupport

/// One real resolver with one configuration, what is lost to it on the node, and what it then does. All as seen: docs/resolvers.md.
enum ResolverCase: String, CaseIterable, Sendable {
  case glibc, glibcLostA, glibcLostBoth, glibcSingleRequest, glibcSingleRequestReopen, glibcUseVC, glibcTimeout1, glibcTwoServers
  case musl, muslLostA, muslTimeout1, muslTwoServers
  case cares, caresTwoServers
  case go, goSingleRequest, goTimeout1
  case dig
  case searchGlibc, searchMusl, searchGo
  /// Against unbound; all others ask dnsmasq.
  case unboundGlibc, unboundMusl, unboundGo, unboundSearch
  /// More addresses than a datagram without EDNS holds: the answer is cut off, and the program asks again over TCP.
  case unboundTruncated
  /// Asked over IPv6.
  case glibcSix, muslSix, goSix, searchSix, unboundGlibcSix, unboundTruncatedSix

  static let searching: [ResolverCase] = [.searchGlibc, .searchMusl, .searchGo, .searchSix, .unboundSearch]
  static let losing = allCases.filter { !$0.lost.isEmpty }
  static let silent = allCases.filter { $0.lost.isEmpty }

  var number: Int { ResolverCase.allCases.firstIndex(of: self) ?? 0 }
  /// One character and a zone: every name is as long as every other, so that the type of the question is at a fixed place.
  var name: String { String(UnicodeScalar(UInt8(number < 26 ? 97 + number : 22 + number))) + (isTruncated ? ".big.test" : ".lab.test") }
  var isTruncated: Bool { self == .unboundTruncated || self == .unboundTruncatedSix }
  var asksUnbound: Bool { isTruncated || [.unboundGlibc, .unboundMusl, .unboundGo, .unboundSearch, .unboundGlibcSix].contains(self) }
  var family: Family { [.glibcSix, .muslSix, .goSix, .searchSix, .unboundGlibcSix, .unboundTruncatedSix].contains(self) ? .six : .four }

  var resolver: Resolver {
    switch self {
    case .musl, .muslLostA, .muslTimeout1, .muslTwoServers, .searchMusl, .unboundMusl, .muslSix: .musl
    case .cares, .caresTwoServers: .cares
    case .go, .goSingleRequest, .goTimeout1, .searchGo, .unboundGo, .goSix: .go
    case .dig: .dig
    default: .glibc
    }
  }

  /// The text of resolv.conf.
  var configuration: String {
    let hasTwo = [.glibcTwoServers, .muslTwoServers, .caresTwoServers].contains(self)
    let options: String? =
      switch self {
      case .glibcSingleRequest, .goSingleRequest: "options single-request"
      case .glibcSingleRequestReopen: "options single-request-reopen"
      case .glibcUseVC: "options use-vc"
      case .glibcTimeout1, .muslTimeout1, .goTimeout1: "options timeout:1 attempts:3"
      case .searchGlibc, .searchMusl, .searchGo, .searchSix, .unboundSearch:
        "search shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5"
      default: nil
      }
    return (["nameserver \(family.service(asksUnbound ? 12 : 10))"] + (hasTwo ? ["nameserver 10.96.0.11"] : []) + [options].compactMap { $0 })
      .joined(separator: "\n") + "\n"
  }

  /// Types of which the first transmission is dropped.
  var lost: [String] {
    switch self {
    case .glibcLostA, .muslLostA: ["A"]
    case .glibcLostBoth, .glibcTwoServers: ["A", "AAAA"]
    case .glibcUseVC, .searchGlibc, .searchMusl, .searchGo, .searchSix, .unboundSearch, .unboundTruncated, .unboundTruncatedSix: []
    default: ["AAAA"]
    }
  }

  /// The service address on the way to which it is dropped.
  var lostAt: String { family.service(asksUnbound ? 12 : self == .muslTwoServers ? 11 : 10) }

  /// What is sent when the time-out is over, in this order.
  var resent: [String] {
    switch self {
    case .glibc, .glibcLostA, .glibcLostBoth, .glibcSingleRequest, .glibcTimeout1, .glibcTwoServers, .unboundGlibc, .glibcSix, .unboundGlibcSix:
      ["A", "AAAA"]
    case .muslLostA: ["A"]
    case .glibcSingleRequestReopen, .muslTwoServers: []
    case _ where lost.isEmpty: []
    default: ["AAAA"]
    }
  }

  /// From the first transmission to the retry, and what the program waits for it.
  var seconds: Double {
    switch self {
    case .muslTwoServers: 0
    case _ where lost.isEmpty: 0
    case .glibcTimeout1, .goTimeout1: 1
    case .muslTimeout1: 1.0 / 3
    case .musl, .muslLostA, .unboundMusl, .muslSix: 2.5
    default: 5
    }
  }

  /// The retry comes from another port.
  var changesPort: Bool {
    switch self {
    case .glibcSingleRequest, .glibcTwoServers, .caresTwoServers, .go, .goSingleRequest, .goTimeout1, .unboundGo, .goSix, .dig: true
    default: false
    }
  }
  /// ... and with another ID.
  var changesID: Bool { resolver == .go }

  /// A and AAAA leave from one socket within 100 ms.
  var asksFromOneSocket: Bool { resolver != .go && self != .glibcSingleRequestReopen && self != .dig }

  /// Queries that a program sends over UDP where nothing is lost.
  var asked: Int {
    switch self {
    case .glibcUseVC: 0
    case .unboundTruncated, .unboundTruncatedSix: 2
    default: 8
    }
  }

  /// What the behaviour tells of the resolver; nil where others do the same.
  var library: String? {
    switch self {
    case .glibc, .glibcLostA, .glibcTimeout1, .unboundGlibc, .glibcSix, .unboundGlibcSix: "glibc"
    case .musl, .muslLostA, .muslTwoServers, .unboundMusl, .muslSix: "musl"
    case .go, .goSingleRequest, .goTimeout1, .unboundGo, .goSix: "go"
    default: nil
    }
  }

  var impact: String {
    switch self {
    case .muslTwoServers: "none"
    // It takes the A for the whole answer when the time-out is over, and never repeats the AAAA.
    case .glibcSingleRequestReopen: "failed"
    default: "delayed"
    }
  }

  /// The rules, in the forward hook, that lose the first transmissions.
  func rules(_ pod: Lab.Pod) -> [String] {
    lost.map { type in
      // The type: after the UDP and DNS headers and a name of 12 bytes on the wire.
      let number = type == "A" ? 1 : 28
      let way = "\(family.nft) saddr \(family.pick(pod.v4, pod.v6)) udp dport 53 ct original \(family.nft) daddr \(lostAt)"
      return way + " @th,256,16 \(number) limit rate 1/day burst 1 packets counter drop"
    }
  }
}

/// Everything seen of all cases at once, each in a pod of its own.
struct ResolverOutcome: Sendable {
  var clients: [ResolverCase: String] = [:]
  var lookups: [ResolverCase: ResolverRun.Lookup] = [:]
  var captured: [CapturedQuery] = []
  var warmUps = 0
  var records: [AgentRecord] = []
  var metrics: MetricsPage
  var agentStatus: Int32 = -1
  var agentLog = ""

  func queries(_ which: ResolverCase) -> [CapturedQuery] { captured.filter { $0.client == clients[which] && !$0.name.hasSuffix(".ask.test") } }
  func records(_ which: ResolverCase, _ event: String) -> [AgentRecord] { records.filter { $0.client == clients[which] && $0.event == event } }

  static func perform() throws -> ResolverOutcome {
    try Resolver.build()
    let cases = ResolverCase.allCases
    let lab = try Lab(clients: cases.count, backends: 2)
    var rules = Ruleset()
    rules.fillerRules = 0
    let services = [10, 11, 12]
    for family in Family.allCases {
      for (server, backend) in zip(services, [0, 0, 1]) {
        let pod = lab.backends[backend]
        for transport in ["udp", "tcp"] { rules.service(family.service(server), transport, to: [family.pick(pod.v4, pod.v6)]) }
      }
    }
    try lab.load(rules)
    let servers = (try Dnsmasq(in: lab.backends[0]), try Unbound(in: lab.backends[1]))
    let capture = try QueryCapture(lab)
    let agent = try AgentProcess(lab)
    try agent.waitUntilSeeing()
    var outcome = ResolverOutcome(metrics: MetricsPage(""))
    // The agent judges absence only where it has seen presence: every pod first asks all addresses in peace.
    let warming = try zip(cases, lab.clients).flatMap { which, pod in
      try services.map { service in
        let (own, server) = (which.family.pick(pod.v4, pod.v6), which.family.service(service))
        let words = "ask --count 2 --rate 50 --label w\(pod.name) --from \(own) --server \(server)"
        return try Background(lab.racelab(in: pod, words.split(separator: " ").map(String.init)))
      }
    }
    for warm in warming {
      guard warm.wait(seconds: 20) == 0 else { throw LabError("a warm-up failed: \(warm.errors)") }
      outcome.warmUps += AskedQuery.parse(warm.output).count { $0.answered != nil }
    }
    var drops = Ruleset()
    drops.fillerRules = 0
    for (which, pod) in zip(cases, lab.clients) { for rule in which.rules(pod) { drops.forward(rule, v6: which.family == .six) } }
    try lab.load(drops)
    let runs = try zip(cases, lab.clients).map { which, pod in
      outcome.clients[which] = which.family.pick(pod.v4, pod.v6)
      return (which, try ResolverRun(which.resolver, in: pod, names: [which.name], configuration: which.configuration))
    }
    for (which, run) in runs { outcome.lookups[which] = try run.lookups(seconds: 20).first }
    let losses = cases.reduce(0) { $0 + $1.lost.count }
    _ = try Clock.poll(seconds: 16, every: 0.2) { try agent.records().count { $0.event == "dns_query_closed" } >= losses }
    outcome.captured = try capture.stop()
    outcome.metrics = try agent.settle(transmissions: outcome.captured.count, seconds: 3)
    // The page is a second old at most.
    _ = try Clock.poll(seconds: 3, every: 0.2) {
      outcome.metrics = try agent.metrics()
      return outcome.metrics.sum("racetrack_records_total", ["event": "dns_query_closed"]) >= Double(losses)
    }
    outcome.agentStatus = try agent.stop()
    outcome.records = try agent.records()
    outcome.agentLog = agent.log
    withExtendedLifetime(servers) {}
    return outcome
  }
}
