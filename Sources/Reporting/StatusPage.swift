package import Flows

/// Everything that the page for people shows, as values of one moment.
package struct StatusSnapshot: Sendable {
  package var version: String
  package var kernelRelease = ""
  package var nodeName = ""
  package var names = NamePrivacy.full
  package var now: WallTime
  package var started: WallTime
  package var sources: [SourceState] = []
  /// Sources that do not see everything now.
  package var blind: [BlindSource] = []
  package var blindNanoseconds: Int64 = 0
  package var isSentObservable = true
  package var isDeliveredObservable = true
  package var engine = EngineTotals()
  package var counters: ConntrackCounters?
  package var workloads: [WorkloadTotals] = []
  /// The latest stall first.
  package var alerts: [Alert] = []
  /// The newest last.
  package var losses: [LostQuery] = []

  package init(version: String, now: WallTime, started: WallTime) {
    self.version = version
    self.now = now
    self.started = started
  }
}

/// Renders `/`: what is lost, to whom, since when, why, what to do. One page without scripts, links to other hosts or anything else to load.
package enum StatusPage {
  /// Rows of any table at most.
  static let rowLimit = 100

  /// Replaces the contents of `page`, whose storage is used again.
  package static func render(_ status: StatusSnapshot, into page: inout [UInt8]) {
    var storage: [UInt8] = []
    swap(&storage, &page)
    var html = HTMLText(reusing: storage)
    storage = []
    writeHead(status, to: &html)
    writeAlerts(status, to: &html)
    writeCauses(status, to: &html)
    writeLosses(status, to: &html)
    writeSight(status, to: &html)
    html.markup(
      """
      <h2>More</h2>
      <p><a href="/api/v1/incidents">the last records</a> (JSON) · <a href="/metrics">metrics</a> (Prometheus)</p>
      </body></html>

      """)
    page = html.bytes
  }

  private static func writeHead(_ status: StatusSnapshot, to html: inout HTMLText) {
    html.markup(
      """
      <!DOCTYPE html>
      <html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>racetrack
      """)
    if !status.nodeName.isEmpty {
      html.markup(" · ")
      html.text(status.nodeName)
    }
    html.markup(
      """
      </title>
      <style>
      body{font:15px/1.45 system-ui,sans-serif;max-width:75em;margin:2em auto;padding:0 1em;color:#222;background:#fff}
      table{border-collapse:collapse;margin:.5em 0}th,td{text-align:left;vertical-align:top;padding:.25em .8em .25em 0;border-bottom:1px solid #ddd}
      td.n{overflow-wrap:anywhere}.bad{color:#a00;font-weight:600}.good{color:#060;font-weight:600}.dim{color:#666}
      </style></head><body>
      <h1>racetrack</h1>

      """)
    let totals = StalledTotals(status.workloads)
    if !status.blind.isEmpty {
      html.markup("<p class=\"bad\">Blind now: ")
      for (index, source) in status.blind.enumerated() {
        if index > 0 { html.markup(", ") }
        html.text(source.name)
      }
      html.markup(". What is lost meanwhile may not be named.</p>\n")
    }
    if status.engine.lost > 0 || status.engine.unknown > 0 {
      html.markup("<p class=\"bad\">")
      html.number(status.engine.lost &+ status.engine.unknown)
      html.markup(" of ")
      html.number(status.engine.transmissions[Int(Vantage.client.rawValue)])
      html.markup(" DNS queries of this node&#39;s clients were lost; ")
      html.number(totals.lookups)
      html.markup(" lookups waited ")
      html.seconds(totals.nanoseconds)
      html.markup(" for it.</p>\n")
    } else if status.engine.transmissions[Int(Vantage.client.rawValue)] == 0 {
      html.markup("<p>No DNS query of this node&#39;s clients was seen yet.</p>\n")
    } else {
      html.markup("<p class=\"good\">None of ")
      html.number(status.engine.transmissions[Int(Vantage.client.rawValue)])
      html.markup(" DNS queries of this node&#39;s clients was lost.</p>\n")
    }
    html.markup("<p class=\"dim\">")
    if !status.nodeName.isEmpty {
      html.text(status.nodeName)
      html.markup(" · ")
    }
    html.markup("since ")
    html.time(status.started)
    html.markup(" · as of ")
    html.time(status.now)
    html.markup(" · version ")
    html.text(status.version)
    if !status.kernelRelease.isEmpty {
      html.markup(" · Linux ")
      html.text(status.kernelRelease)
    }
    html.markup("</p>\n")
  }

  private static func writeAlerts(_ status: StatusSnapshot, to html: inout HTMLText) {
    html.markup("<h2>Who waits, why, what to do</h2>\n")
    if status.alerts.isEmpty {
      html.markup("<p>No client waited for a lost query in the last ten minutes.</p>\n")
      return
    }
    html.markup("<table><tr><th>client<th>cause<th>lookups<th>waited<th>since<th>last<th>for example<th>what to do</tr>\n")
    for alert in status.alerts.prefix(rowLimit) {
      html.markup("<tr>")
      html.cell { $0.address(alert.client) }
      html.cell { writeCause(alert.verdict, alert.reason, alert.grade, to: &$0) }
      html.cell { html in
        html.number(alert.delayed)
        html.markup(" delayed, ")
        html.number(alert.failed)
        html.markup(" failed")
      }
      html.cell { $0.seconds(alert.lostNanoseconds) }
      html.cell { $0.time(alert.first) }
      html.cell { $0.time(alert.last) }
      html.markup("<td class=\"n\">")
      if let example = alert.examples.last { writeQuestion(example.name, example.queryType, status.names, to: &html) }
      html.markup("</td>")
      html.cell { $0.text(Advice.sentence(alert.verdict, alert.reason, alert.grade, libc: alert.libc)) }
      html.markup("</tr>\n")
    }
    html.markup("</table>\n")
    writeRest(status.alerts.count, to: &html)
  }

  private static func writeCauses(_ status: StatusSnapshot, to html: inout HTMLText) {
    let causes = Verdict.allCases.filter { verdict in Grade.allCases.contains { status.engine.lost(verdict, $0) > 0 } }
    guard !causes.isEmpty else { return }
    html.markup("<h2>Causes since the start</h2>\n<table><tr><th>cause<th>lost queries<th>how sure<th>stalled lookups<th>waited</tr>\n")
    let totals = StalledTotals(status.workloads)
    for verdict in causes {
      html.markup("<tr>")
      html.cell { $0.text(verdict.name) }
      html.cell { $0.number(Grade.allCases.reduce(0) { $0 &+ status.engine.lost(verdict, $1) }) }
      html.cell { html in
        var isFirst = true
        for grade in Grade.allCases.reversed() where status.engine.lost(verdict, grade) > 0 {
          if !isFirst { html.markup(", ") }
          isFirst = false
          html.number(status.engine.lost(verdict, grade))
          html.markup(" ")
          html.text(grade.name)
        }
      }
      html.cell { $0.number(totals.lookupsByVerdict[Int(verdict.rawValue)]) }
      html.cell { $0.seconds(totals.nanosecondsByVerdict[Int(verdict.rawValue)]) }
      html.markup("</tr>\n")
    }
    html.markup("</table>\n")
  }

  private static func writeLosses(_ status: StatusSnapshot, to html: inout HTMLText) {
    guard !status.losses.isEmpty else { return }
    html.markup("<h2>Latest losses</h2>\n<table><tr><th>sent<th>client<th>asked<th>server<th>cause<th>incident</tr>\n")
    for lost in status.losses.reversed().prefix(rowLimit) {
      html.markup("<tr>")
      html.cell { $0.time(lost.time) }
      html.cell { html in
        html.address(lost.client.address)
        if lost.clientIsServer { html.markup(" (DNS server)") } else if lost.clientIsHost { html.markup(" (host)") }
      }
      html.markup("<td class=\"n\">")
      writeQuestion(lost.name, lost.queryType, status.names, to: &html)
      html.markup("</td>")
      html.cell { $0.address(lost.server.address) }
      html.cell { writeCause(lost.verdict, lost.reason, lost.grade, to: &$0) }
      html.cell { html in
        var identifier: [UInt8] = []
        appendIdentifier(lost.incidentID, to: &identifier)
        html.text(identifier)
      }
      html.markup("</tr>\n")
    }
    html.markup("</table>\n")
  }

  private static func writeSight(_ status: StatusSnapshot, to html: inout HTMLText) {
    html.markup("<h2>How well this node is seen</h2>\n<table>\n")
    for source in status.sources {
      html.markup("<tr>")
      html.cell { $0.text(source.source) }
      html.cell { html in
        html.text(source.state.name)
        if !source.reason.isEmpty {
          html.markup(": ")
          html.text(source.reason)
        }
      }
      html.markup("</tr>\n")
    }
    html.markup("<tr><td>blind since the start</td>")
    html.cell { $0.seconds(status.blindNanoseconds) }
    html.markup("</tr>\n<tr><td>absence is evidence</td>")
    html.cell { html in
      if status.isSentObservable && status.isDeliveredObservable {
        html.markup("yes, on every path in use")
      } else {
        html.markup("not on every path: some verdicts are only inferred, and those never alert")
      }
    }
    if let counters = status.counters {
      html.markup("</tr>\n<tr><td>kernel, every protocol</td>")
      html.cell { html in
        html.markup("insert_failed ")
        html.number(counters.insertFailed)
        html.markup(", drop ")
        html.number(counters.drop)
        html.markup(", clash_resolve ")
        html.number(counters.clashResolve)
      }
    }
    html.markup("</tr>\n</table>\n")
  }

  private static func writeCause(_ verdict: Verdict, _ reason: Reason, _ grade: Grade, to html: inout HTMLText) {
    html.text(verdict.name)
    if reason != .none {
      html.markup(" (")
      html.text(reason.name)
      html.markup(")")
    }
    html.markup(" <span class=\"dim\">")
    html.text(grade.name)
    html.markup("</span>")
  }

  private static func writeQuestion(_ name: [UInt8], _ type: UInt16, _ names: NamePrivacy, to html: inout HTMLText) {
    var text: [UInt8] = []
    switch names {
    case .full: if !name.isEmpty { DNSName.appendPresentation(name, to: &text) }
    case .hash(let key): appendIdentifier(NamePrivacy.hash(wire: name, key: key), to: &text)
    case .off: break
    }
    html.text(text)
    if type != 0 {
      html.markup(" ")
      html.text(QueryType.name(type))
    }
  }

  private static func writeRest(_ count: Int, to html: inout HTMLText) {
    guard count > rowLimit else { return }
    html.markup("<p>and ")
    html.number(UInt64(count - rowLimit))
    html.markup(" more.</p>\n")
  }
}

/// Stalled lookups and their seconds over all workloads.
private struct StalledTotals {
  var lookupsByVerdict: [UInt64] = Array(repeating: 0, count: Verdict.allCases.count)
  var nanosecondsByVerdict: [Int64] = Array(repeating: 0, count: Verdict.allCases.count)
  var lookups: UInt64 { lookupsByVerdict.reduce(0, &+) }
  var nanoseconds: Int64 { nanosecondsByVerdict.reduce(0, &+) }

  init(_ workloads: [WorkloadTotals]) {
    for workload in workloads {
      for index in lookupsByVerdict.indices {
        lookupsByVerdict[index] &+= workload.stalled[2 * index] &+ workload.stalled[2 * index + 1]
        nanosecondsByVerdict[index] &+= workload.lostNanoseconds[index]
      }
    }
  }
}
