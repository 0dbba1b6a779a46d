internal import CRaceGenerator
internal import Flows
internal import Glibc

/// Why a self-test cannot run here: one line with the remedy.
package struct SelfTestObstacle: Error, Sendable {
  package var message: String
  package init(_ message: String) { self.message = message }
}

/// Owns the children and their shared memory. The calling thread becomes the node: it stays in a network namespace of its own.
/// The children, and with them every namespace, link and rule, are gone when this is, or when the process ends in any way.
@safe struct SelfTestGenerator: ~Copyable {
  private let handle: OpaquePointer

  /// Takes the shared memory; nothing else happens yet.
  init(options: SelfTestOptions) throws(SelfTestObstacle) {
    var cpus: (CInt, CInt) = (0, 0)
    let count = unsafe withUnsafeMutablePointer(to: &cpus) { pointer in
      unsafe pointer.withMemoryRebound(to: CInt.self, capacity: 2) { unsafe racegen_cpus($0, 2) }
    }
    guard count >= 2 else { throw SelfTestObstacle("selftest needs two CPUs to race on, and may use \(count): allow it a second one") }
    let topology = SelfTestTopology()
    var config = racegen_config()
    config.max_pairs = UInt32(options.pairs)
    config.ordinary_pairs = UInt32(options.ordinaryLookups)
    config.losses_wanted = UInt32(options.losses)
    config.seconds = UInt32(options.seconds)
    config.pair_interval_microseconds = 2000
    config.late_milliseconds = 1500
    config.cpu = cpus
    config.client_address = (topology.podAddress(0), topology.podAddress(1), topology.podAddress(2))
    config.service_address = (
      topology.services(.ordinary), topology.services(.lateReply), topology.services(.replyClash), topology.services(.snatClash)
    )
    guard let opened = unsafe racegen_open(&config) else { throw SelfTestObstacle("cannot map memory for the self-test") }
    unsafe handle = opened
  }

  /// Enters the node's namespace and builds the topology. The process must have one thread: this forks.
  /// - Returns: which program made the rules.
  func build(_ programs: SelfTestPrograms) throws(SelfTestObstacle) -> String {
    let topology = SelfTestTopology()
    let entered = racegen_enter_namespace()
    guard entered == 0 else {
      throw SelfTestObstacle(
        entered == -EPERM
          ? "selftest makes network namespaces and needs CAP_SYS_ADMIN and CAP_NET_ADMIN: run it as root, in a container with --privileged"
          : "cannot make a network namespace: \(SelfTestPrograms.errorText(-entered))")
    }
    try forwardPackets()
    try fork(topology, ip: programs.ip)
    let pods = (0..<SelfTestTopology.podCount).map { unsafe racegen_pid(handle, racegen_role(rawValue: UInt32($0))) }
    try programs.require(programs.ip, ["-batch", "-"], input: topology.nodeLinks(pods: pods), doing: "cannot make the links")
    let used = try programs.addRules(topology)
    try check(unsafe racegen_configure(handle), "cannot configure the pods")
    return used
  }

  deinit { unsafe racegen_close(handle) }

  private func fork(_ topology: SelfTestTopology, ip: String) throws(SelfTestObstacle) {
    let scripts = (0..<SelfTestTopology.podCount).map { topology.podLinks($0) }
    let result = unsafe SelfTestPrograms.withCStrings(scripts) { pointers in
      unsafe ip.withCString { unsafe racegen_fork(handle, $0, pointers) }
    }
    try check(result, "cannot start the pods")
  }

  /// A negative errno of the generator as an obstacle, with the pod that failed.
  private func check(_ result: CInt, _ what: String) throws(SelfTestObstacle) {
    guard result != 0 else { return }
    throw SelfTestObstacle("\(what): \(SelfTestPrograms.errorText(-result))")
  }

  /// Turns on routing in this namespace: /proc/sys/net shows the namespace of who opens it.
  private func forwardPackets() throws(SelfTestObstacle) {
    let path = "/proc/sys/net/ipv4/ip_forward"
    let result = unsafe racegen_write(path, "1\n")
    guard result == 0 else {
      throw SelfTestObstacle("cannot write \(path) in the private namespace: \(SelfTestPrograms.errorText(-result)); run it with --privileged")
    }
  }

  func start(_ scenario: SelfTestScenario) { unsafe racegen_start(handle, Self.imported(scenario)) }
  func isSent(_ scenario: SelfTestScenario) -> Bool { unsafe racegen_sent(handle, Self.imported(scenario)) != 0 }
  func isFinished(_ scenario: SelfTestScenario) -> Bool { unsafe racegen_finished(handle, Self.imported(scenario)) != 0 }

  /// Throws if a child ended.
  func checkChildren() throws(SelfTestObstacle) {
    var role = RACEGEN_CLIENT_1
    let error = unsafe racegen_failure(handle, &role)
    if error != 0 { throw SelfTestObstacle("pod \(role.rawValue + 1) failed: \(SelfTestPrograms.errorText(-error))") }
  }

  /// Everything known about a finished scenario.
  func truth(of scenario: SelfTestScenario, counters: SelfTestCounters) -> SelfTestTruth {
    let which = Self.imported(scenario)
    let pairs = Int(unsafe racegen_pairs(handle, which))
    var queries: [SelfTestQuery] = []
    queries.reserveCapacity(pairs * 2)
    for index in 0..<pairs * 2 {
      let query = unsafe racegen_query_at(handle, which, UInt32(index))
      queries.append(
        SelfTestQuery(
          client: Endpoint(IPAddress(v4: query.client_address), query.client_port),
          server: Endpoint(IPAddress(v4: query.server_address), SelfTestTopology.dnsPort), dnsID: query.dns_id, type: query.type, pair: index / 2,
          wasSent: query.sent_at != 0 && query.send_error == 0, receivedBy: Int(query.received_by), wasAnswered: query.answered_at != 0,
          cameUntranslated: query.untranslated != 0))
    }
    let nanoseconds = unsafe racegen_duration(handle, which)
    return SelfTestTruth(scenario: scenario, pairs: pairs, seconds: Double(nanoseconds) / 1e9, counters: counters, queries: queries)
  }

  private static func imported(_ scenario: SelfTestScenario) -> racegen_scenario {
    switch scenario {
    case .lateReply: RACEGEN_LATE_REPLY
    case .replyClash: RACEGEN_REPLY_CLASH
    case .snatClash: RACEGEN_SNAT_CLASH
    case .ordinary: RACEGEN_ORDINARY
    }
  }
}
