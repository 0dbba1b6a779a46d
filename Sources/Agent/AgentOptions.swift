import Flows

/// The options of `racetrack agent`.
package enum AgentOptions {
  package static let table = OptionTable<Configuration>(command: "racetrack agent", options: web + incidents + dns + capture + node + log)

  private static let web: [Option<Configuration>] = [
    .list(
      "web.listen-address", \.webListenAddresses, .endpoint, atMost: 16, group: "Web",
      help: "Where /metrics and /-/ are served."),
    .value(
      "web.api-address", \.webAPIAddress, .endpoint, group: "Web",
      help:
        "Where / and /api are served as well: they show query names and pods, so another address than a loopback one needs users in web.config.file."),
    .value(
      "web.config.file", \.webConfigFile, .optional(.path()), group: "Web",
      help: "TLS and basic authentication, in Prometheus exporter-toolkit's format. With users set, / and /api are served on every address.",
      changesAtRunTime: true),
  ]

  private static let incidents: [Option<Configuration>] = [
    .value(
      "incidents.output", \.incidentsOutput, .incidentsOutput, group: "Incidents",
      help: "Where incident records go, one JSON object a line; - is standard output."),
    .value(
      "incidents.rate", \.incidentsRate, .whole(1...1_000_000), group: "Incidents",
      help: "Clash records written a second. What is above is counted and summed up in one record a minute.", changesAtRunTime: true),
    .value(
      "incidents.all", \.incidentsAll, .boolean, group: "Incidents",
      help: "Write every record, whatever its rate. For tests: what is written grows with what is lost.", changesAtRunTime: true),
  ]

  private static let dns: [Option<Configuration>] = [
    .list(
      "dns.port", \.dnsPorts, .whole(1...65535, placeholder: "PORT"), atMost: 16, group: "DNS",
      help: "Ports that clients send queries to. Ports that services translate to are learned."),
    .value(
      "dns.timeout", \.dnsTimeout, .duration(Nanoseconds.perSecond...300 * Nanoseconds.perSecond), group: "DNS",
      help: "How long a forwarded query may stay unanswered before it is judged."),
    .value(
      "dns.names", \.dnsNames, .choice, group: "DNS",
      help: "How query names are written: in full, as a keyed hash (HMAC), or not at all.", changesAtRunTime: true),
    .value(
      "dns.names-key-file", \.dnsNamesKeyFile, .optional(.path()), group: "DNS",
      help: "Key of the hash, so that one name has one hash on every node and after a restart.", defaultNote: "a random key per start",
      changesAtRunTime: true),
  ]

  private static let capture: [Option<Configuration>] = [
    .value(
      "kernel-probe", \.kernelProbe, .choice, group: "Capture",
      help: "The eBPF probe that proves a drop. auto uses it where it loads, require refuses to start without it."),
    .value(
      "kernel-probe.rung", \.kernelProbeRung, .optional(.choice), group: "Capture",
      help: "Try this rung of the probe and no other.",
      defaultNote: "each in turn"),
    .value(
      "kernel-probe.resolved", \.kernelProbeResolved, .boolean, group: "Capture",
      help: "On the rung kfree-skb also look at every packet that leaves, for clashes that were resolved. The other rungs see them anyway."),
    .value(
      "conntrack.ring", \.conntrackRing, .choice, group: "Capture",
      help: "An eBPF program that hands over conntrack events in shared memory. auto uses it where it loads; off leaves them to the socket."),
    .value(
      "capture.outgoing", \.captureOutgoing, .boolean, group: "Capture",
      help: "Also see packets that leave. Without them a query dropped here and one without an answer look the same."),
    .value(
      "capture.interfaces", \.captureInterfaces, .optional(.pattern), group: "Capture",
      help: "Only interfaces whose name matches. A POSIX extended regular expression; ^ and $ anchor it.", defaultNote: "every interface"),
    .value(
      "capture.exclude", \.captureExclude, .optional(.pattern), group: "Capture",
      help: "Not interfaces whose name matches, even if capture.interfaces does.", defaultNote: "no interface"),
  ]

  private static let node: [Option<Configuration>] = [
    .value(
      "path.procfs", \.procfsPath, .directory, group: "Node",
      help: "The host's /proc, as seen from here."),
    .value(
      "path.rootfs", \.rootfsPath, .directory, group: "Node",
      help: "The host's root directory, as seen from here."),
    .value(
      "node.name", \.nodeName, .optional(.nodeName), group: "Node",
      help: "The node's name in records.", defaultNote: "the host's name"),
    .value(
      "metrics.per-cpu", \.metricsPerCPU, .boolean, group: "Node",
      help: "Kernel counters with a series per CPU instead of their sum.", changesAtRunTime: true),
    .value(
      "config.file", \.configFile, .optional(.path()), group: "Node",
      help: "Read options from this YAML file, at the start and on SIGHUP. Command line and environment take precedence.", inFile: false),
  ]

  private static let log: [Option<Configuration>] = [
    .value(
      "log.level", \.logLevel, .choice, group: "Log",
      help: "Least severity that the agent's own log, on standard error, shows.", changesAtRunTime: true),
    .value(
      "log.format", \.logFormat, .choice, group: "Log",
      help: "Form of the agent's own log.", changesAtRunTime: true),
  ]
}

extension OptionValue where Value == IncidentsOutput {
  fileprivate static var incidentsOutput: Self {
    let path = OptionValue<String>.path()
    return OptionValue(
      placeholder: "FILE|-",
      parse: { text throws(BadValue) in text == "-" ? .standardOutput : .file(try path.parse(text)) },
      show: {
        switch $0 {
        case .standardOutput: "-"
        case .file(let path): path
        }
      })
  }
}
