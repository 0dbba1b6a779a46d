package import Flows
package import LinuxIO

/// `auto`: use the kernel probe where it loads. `require`: do not start without it. `off`: do not try.
package enum KernelProbeMode: String, CaseIterable, Sendable { case auto, require, off }

/// Whether conntrack events may come by an event ring.
package enum ConntrackRingMode: String, CaseIterable, Sendable { case auto, off }

/// How question names appear in what the agent writes.
package enum DNSNamesMode: String, CaseIterable, Sendable { case full, hash, off }

package enum LogLevel: String, CaseIterable, Sendable { case debug, info, warn, error }

package enum LogFormat: String, CaseIterable, Sendable { case json, logfmt }

package enum IncidentsOutput: Equatable, Sendable {
  case standardOutput
  case file(String)
}

/// Everything that `racetrack agent` can be told, checked. The initial values here are the defaults, and the only place that has them.
package struct Configuration: Equatable, Sendable {
  package var webListenAddresses = [Endpoint(.unspecified, 10553)]
  package var webAPIAddress = Endpoint(IPAddress(v4: 0x7F00_0001), 10554)
  package var webConfigFile: String?
  package var incidentsOutput = IncidentsOutput.standardOutput
  /// Records a second.
  package var incidentsRate = 1000
  package var incidentsAll = false
  package var kernelProbe = KernelProbeMode.auto
  /// Nil: every rung is tried.
  package var kernelProbeRung: KernelProbeRung?
  package var kernelProbeResolved = false
  package var conntrackRing = ConntrackRingMode.auto
  package var dnsPorts: [UInt16] = [53]
  /// Nanoseconds after which a forwarded, unanswered query is judged.
  package var dnsTimeout = 10 * Nanoseconds.perSecond
  package var dnsNames = DNSNamesMode.full
  package var dnsNamesKeyFile: String?
  package var captureOutgoing = true
  package var captureInterfaces: String?
  package var captureExclude: String?
  package var procfsPath = "/proc"
  package var rootfsPath = "/"
  package var configFile: String?
  package var metricsPerCPU = false
  package var logLevel = LogLevel.info
  package var logFormat = LogFormat.logfmt
  /// Nil: the host's name.
  package var nodeName: String?
  /// What it was read from, so that it can be read again.
  package var sources = ConfigurationSources()

  package init() {}

  /// Query names are shown to nobody who was not named: `/` and `/api` on an address that others reach need users.
  ///
  /// - Parameter identifiesClients: whether the web configuration has users or verifies certificates.
  package func checkAPIAccess(identifiesClients: Bool) throws(ConfigurationError) {
    guard !identifiesClients && !webAPIAddress.address.isLoopback else { return }
    throw ConfigurationError(
      place: "--web.api-address",
      problem: "\(webAPIAddress.address) is no loopback address, and / and /api show query names to whoever reaches it: name basic_auth_users in "
        + "--web.config.file, or take 127.0.0.1")
  }
}
