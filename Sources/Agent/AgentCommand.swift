import Correlation
import Flows
import Glibc
import LinuxIO
import Reporting

/// `racetrack agent`.
package enum AgentCommand {
  /// Runs until SIGTERM or SIGINT.
  ///
  /// - Returns: the exit status: 0 after a signal, 3 where the agent cannot run.
  package static func run(_ configuration: Configuration) -> Int32 {
    let log = Log(level: configuration.logLevel, format: configuration.logFormat)
    do {
      let agent = try RunningAgent(configuration, log)
      return agent.run()
    } catch let error as SetupError {
      return refuse(error.description)
    } catch let error as ConfigurationError {
      return Subcommand.usageError("racetrack agent", error.description)
    } catch let error as OutputError {
      return refuse(error.problem)
    } catch {
      return refuse("\(error)")
    }
  }

  private static func refuse(_ line: String) -> Int32 {
    Subcommand.cannotRun("racetrack agent", line)
  }
}

/// The agent's parts and its loop.
private final class RunningAgent {
  private var configuration: Configuration
  private let log: Log
  private let seed: UInt64
  private let signals: Signals
  private let server: HTTPServer
  private let pipeline: Pipeline
  private let incidents: Incidents
  private let start: Instant
  private let startWall: WallTime
  private var page: [UInt8] = []
  private var recentGeneration: UInt64?
  /// Nanoseconds from a wake-up to the next sleep, the longest so far.
  private var longestTurn: Int64 = 0
  private var nextTick: Instant
  /// What the log said last about the output of the records.
  private var toldProblem: String?

  init(_ configuration: Configuration, _ log: Log) throws {
    self.configuration = configuration
    self.log = log
    seed = SystemFacts.randomSeed()
    start = Clocks.monotonic()
    startWall = Clocks.wall()
    nextTick = start
    let held = Capabilities.effective()
    if !held.contains(.netAdmin) && !held.contains(.netRaw) {
      throw SetupError(
        "cannot see anything", cause: "neither CAP_NET_ADMIN (conntrack) nor CAP_NET_RAW (packets)", remedy: "run as root, or grant both")
    }
    try Self.requireConntrack()
    // Signals are blocked before the server's thread starts, so that it blocks them too.
    signals = try Signals()
    incidents = try Incidents(configuration, seed: seed, now: start, wall: startWall)
    let security = try HTTPSecurity(reading: configuration.webConfigFile)
    try configuration.checkAPIAccess(identifiesClients: security.identifiesClients)
    let addresses =
      configuration.webListenAddresses.map { HTTPListener(HTTPListenAddress(address: $0.address, port: $0.port), scope: .metrics) }
      + [HTTPListener(HTTPListenAddress(address: configuration.webAPIAddress.address, port: configuration.webAPIAddress.port), scope: .all)]
    var limits = HTTPLimits()
    limits.pageMilliseconds = 1000
    server = try HTTPServer(configuration: HTTPServerConfiguration(listeners: addresses, security: security, limits: limits))
    for note in server.notes { log.warn("web server", ["note": .text(note)]) }
    var options = PipelineOptions()
    options.engine.seed = seed
    options.engine.ports = configuration.dnsPorts
    options.engine.timeout = configuration.dnsTimeout
    options.engine.capturesOutgoing = configuration.captureOutgoing
    if let seconds = SystemFacts.number(in: configuration.procfsPath + "/sys/net/netfilter/nf_conntrack_udp_timeout"), seconds < 86_400 {
      options.engine.unrepliedTimeout = Int64(seconds) * Nanoseconds.perSecond
    }
    if SystemFacts.number(in: configuration.procfsPath + "/sys/net/netfilter/nf_conntrack_checksum") == 0 { options.engine.verifiesChecksums = false }
    if configuration.captureInterfaces != nil || configuration.captureExclude != nil {
      options.interfaces = try InterfaceSelection(configuration)
    }
    options.probe.isWanted = configuration.kernelProbe != .off
    options.probe.rung = configuration.kernelProbeRung
    options.probe.watchesResolved = configuration.kernelProbeResolved
    options.wantsEventRing = configuration.conntrackRing != .off
    pipeline = try Pipeline(options, seed: seed, log: log)
    try pipeline.watch(signals.descriptor, as: Pipeline.signalsToken)
    try pipeline.watch(server.askDescriptor, as: Pipeline.pagesToken)
    pipeline.open()
    if let conntrack = pipeline.failures[Pipeline.Source.conntrack.rawValue], pipeline.failures[Pipeline.Source.packets.rawValue] != nil {
      // Neither what the kernel tracked nor what was asked can be seen: there is nothing to watch.
      throw conntrack
    }
    try pipeline.watch(server.flowDescriptor, as: Pipeline.flowsToken)
    if let failure = pipeline.probeFailure {
      if configuration.kernelProbe == .require { throw failure }
      log.info("the kernel probe does not run: clash verdicts are at most observed")
    }
    dropCapabilities()
  }

  /// Where nothing is tracked nothing can race. Missing rights are another matter: then packets alone are watched.
  private static func requireConntrack() throws(SetupError) {
    do throws(SetupError) {
      _ = try ConntrackRequests()
    } catch {
      if error.saysNoConntrack { throw error }
    }
  }

  /// Keeps what requests and reopening need; everything else goes.
  private func dropCapabilities() {
    do throws(SetupError) {
      try Capabilities.keepOnly([.netAdmin, .netRaw])
    } catch {
      log.warn("cannot drop capabilities", ["reason": .text(error.description)])
    }
  }

  func run() -> Int32 {
    incidents.started(
      AgentStarted(time: Clocks.wall(), version: Version.text, kernelRelease: SystemFacts.kernelRelease(), sources: sourceStates()))
    log.info(
      "started",
      [
        "version": .text(Version.text), "kernel": .text(SystemFacts.kernelRelease()),
        "listening": .text(server.addresses.map(\.description).joined(separator: " ")),
      ])
    var isStopping = false
    publish()
    tick()
    while !isStopping {
      let ready = pipeline.turn(until: nextTick)
      takeRecords()
      if ready.contains(Pipeline.flowsToken) { FlowLookups.answer(server, pipeline, incidents.options) }
      if ready.contains(Pipeline.signalsToken) {
        while let request = signals.next() {
          switch request {
          case .stop: isStopping = true
          case .reload: reload()
          }
        }
      }
      if ready.contains(Pipeline.pagesToken) && server.wasAsked() { publish() }
      if pipeline.now >= nextTick { tick() }
      longestTurn = max(longestTurn, Clocks.monotonic() - pipeline.now)
    }
    pipeline.close()
    takeRecords()
    let wall = Clocks.wall()
    incidents.writeDue(pipeline.now, wall, isLast: true)
    incidents.stopped(AgentStopped(time: wall, version: Version.text, cause: "signal", uptime: Clocks.monotonic() - start))
    incidents.finish()
    tellOutput()
    log.info("stopped")
    log.flushSuppressed()
    return ExitCode.ok.rawValue
  }

  private func takeRecords() {
    guard !pipeline.engine.records.isEmpty else { return }
    incidents.take(pipeline.engine.records, now: pipeline.now, wall: pipeline.wallNow)
    pipeline.engine.records.removeAll(keepingCapacity: true)
  }

  /// Once a second: the list of incidents, heartbeat, summaries.
  private func tick() {
    nextTick = pipeline.now + Nanoseconds.perSecond
    incidents.writeDue(pipeline.now, Clocks.wall())
    tellOutput()
    publishIncidents()
    server.heartbeat()
    // Every source that can run here is open, and the first dump is done, once the loop turns.
    server.setReady(true)
    log.flushSuppressed()
  }

  /// Once when records begin to wait or be lost, and once when they are written again.
  private func tellOutput() {
    let problem = incidents.outputProblem
    guard problem != toldProblem else { return }
    toldProblem = problem
    if let problem {
      log.error("records cannot be written", ["reason": .text(problem)])
    } else {
      log.info("records are written again", ["lost": .unsigned(incidents.undelivered)])
    }
  }

  /// `/metrics` and `/`: at the start, and when a request finds them older than a second. Rendered every second, whether somebody reads them or
  /// not, they would be a tenth of what 10,000 queries/s cost.
  private func publish() {
    publishStatus()
    var snapshot = MetricsSnapshot(pipeline, incidents, start: startWall, perCPU: configuration.metricsPerCPU)
    snapshot.log = LogUse(log.counters)
    snapshot.http = HTTPUse(server.counters)
    snapshot.longestTurn = longestTurn
    publish(snapshot, .text, .standard, HTTPServer.textFormat)
    publish(snapshot, .openMetrics, .openMetrics, HTTPServer.openMetricsFormat)
  }

  private func publish(
    _ snapshot: MetricsSnapshot, _ format: ExpositionFormat, _ variant: HTTPServer.Variant, _ contentType: StaticString
  ) {
    lendPage { page in
      MetricsPage.render(snapshot, as: format, into: &page)
      server.publish(path: "/metrics", variant: variant, contentType: contentType, body: page.span)
    }
  }

  /// The buffer that all pages are rendered into, as a variable of its own: a span must not depend on a property.
  private func lendPage(_ body: (inout [UInt8]) -> Void) {
    var page: [UInt8] = []
    swap(&page, &self.page)
    body(&page)
    swap(&page, &self.page)
  }

  /// The page that shows names: on the API address alone unless users are configured.
  private func publishStatus() {
    let status = StatusSnapshot(pipeline, incidents, sources: sourceStates(), start: startWall, now: pipeline.wallNow)
    lendPage { page in
      StatusPage.render(status, into: &page)
      server.publish(path: "/", contentType: "text/html; charset=utf-8", body: page.span)
    }
  }

  /// Made again only when something changed.
  private func publishIncidents() {
    guard incidents.recent.generation != recentGeneration else { return }
    recentGeneration = incidents.recent.generation
    // Not into the kept buffer: this page may be a hundred times as long as the others.
    var records: [UInt8] = []
    incidents.recent.render(into: &records)
    server.publish(path: "/api/v1/incidents", contentType: "application/json", body: records.span)
  }

  private func sourceStates() -> [SourceState] {
    Pipeline.Source.allCases.map { source in
      if let failure = pipeline.failures[source.rawValue] {
        return SourceState(source: "\(source.name)", state: .down, reason: failure.description)
      }
      return SourceState(source: "\(source.name)", state: .up)
    } + [probeState()]
  }

  private func probeState() -> SourceState {
    if pipeline.probeRung != nil { return SourceState(source: "kernel_probe", state: .up) }
    // Impossible on this kernel, or not allowed: nothing that is wanted is missing.
    return SourceState(source: "kernel_probe", state: .off, reason: pipeline.probeFailure?.description ?? "")
  }

  /// SIGHUP. A file of records is opened again whatever the configuration says: its name may have been rotated away.
  private func reload() {
    do throws(OutputError) {
      try incidents.reopenOutput()
    } catch {
      log.error("records go on to the file that was open", ["reason": .text(error.problem)])
    }
    switch Configuration.reload(configuration) {
    case .failure(let error):
      log.error("configuration not changed", ["reason": .text(error.description)])
    case .success(let reload):
      apply(reload)
    }
  }

  private func apply(_ reload: ConfigurationReload) {
    do {
      // All of it or nothing: what can fail comes first. Certificates and users are read again whether or not the file's name changed.
      let security = try HTTPSecurity(reading: reload.configuration.webConfigFile)
      try reload.configuration.checkAPIAccess(identifiesClients: security.identifiesClients)
      let options = try incidents.recordOptions(reload.configuration)
      try server.reload(security)
      incidents.reconfigure(reload.configuration, options, now: pipeline.now, wall: Clocks.wall())
    } catch {
      log.error("configuration not changed", ["reason": .text("\(error)")])
      return
    }
    configuration = reload.configuration
    log.level = configuration.logLevel
    log.format = configuration.logFormat
    if !reload.needRestart.isEmpty {
      log.warn("options wait for a restart", ["options": .text(reload.needRestart.joined(separator: " "))])
    }
    log.info("configuration read again", ["changed": .text(reload.changed.joined(separator: " "))])
  }
}

extension HTTPSecurity {
  /// The web configuration file's certificates and users; open where there is no file.
  fileprivate init(reading path: String?) throws {
    guard let path else {
      self = .open
      return
    }
    let web = try WebConfiguration.read(path: path)
    let users = web.users.map { User(name: $0.name, hash: $0.passwordHash) }
    guard let tls = web.tls else {
      self.init(users: users)
      return
    }
    guard let authentication = TLS.ClientAuthentication(rawValue: tls.clientAuthType), let minimum = TLS.Version(rawValue: tls.minimumVersion) else {
      throw SetupError(
        "web.config.file", cause: "client_auth_type \(tls.clientAuthType) is not supported",
        remedy: "use NoClientCert or RequireAndVerifyClientCert")
    }
    self.init(
      tls: TLS(
        certificate: try Self.pem(tls.certificateFile), key: try Self.pem(tls.keyFile), clientCA: try tls.clientCAFile.map(Self.pem),
        clientAuthentication: authentication, minimum: minimum),
      users: users)
  }

  private static func pem(_ path: String) throws -> String {
    do throws(FileError) {
      return String(decoding: try BoundedFile.read(path, limit: 1 << 20), as: UTF8.self)
    } catch {
      throw SetupError("web.config.file", cause: error.problem, remedy: "")
    }
  }
}
