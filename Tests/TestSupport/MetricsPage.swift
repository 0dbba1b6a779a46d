/// A page in Prometheus' text format.
package struct MetricsPage: Sendable {
  package struct Sample: Sendable {
    package var name: String
    package var labels: [String: String]
    package var value: Double
  }

  package let all: [Sample]

  package init(_ text: String) {
    all = text.split(separator: "\n").compactMap { $0.hasPrefix("#") ? nil : MetricsPage.sample($0) }
  }

  private static func sample(_ line: Substring) -> Sample? {
    let nameEnd = line.firstIndex { $0 == "{" || $0 == " " } ?? line.endIndex
    var rest = line[nameEnd...]
    var labels: [String: String] = [:]
    if rest.first == "{" {
      rest.removeFirst()
      while let first = rest.first, first != "}" {
        let label = rest.prefix { $0 != "=" }
        rest = rest[label.endIndex...].dropFirst(2)
        var value = ""
        while let character = rest.popFirst(), character != "\"" {
          guard character == "\\" else {
            value.append(character)
            continue
          }
          let escaped = rest.popFirst()
          value.append(escaped == "n" ? "\n" : escaped ?? "\\")
        }
        labels[String(label)] = value
        if rest.first == "," { rest.removeFirst() }
      }
      rest = rest.dropFirst()
    }
    guard let word = rest.split(separator: " ").first else { return nil }
    guard let value = word == "+Inf" ? Double.infinity : Double(String(word)) else { return nil }
    return Sample(name: String(line[..<nameEnd]), labels: labels, value: value)
  }

  package func samples(_ name: String) -> [Sample] { all.filter { $0.name == name } }

  /// The sum of a family's series that carry the given labels.
  package func sum(_ name: String, _ labels: [String: String] = [:]) -> Double {
    samples(name).filter { sample in labels.allSatisfy { sample.labels[$0.key] == $0.value } }.reduce(0) { $0 + $1.value }
  }

  /// Series that stand on the page more than once.
  package var duplicates: [String] {
    var seen: Set<String> = []
    return all.compactMap { sample in
      let series = sample.name + sample.labels.sorted { $0.key < $1.key }.map { " \($0.key)=\($0.value)" }.joined()
      return seen.insert(series).inserted ? nil : series
    }
  }

  package var clientTransmissions: Double { sum("racetrack_dns_transmissions_total", ["vantage": "client"]) }

  /// Where the sums that must hold at every scrape do not.
  package func conservationProblems() -> [String] {
    var problems: [String] = []
    for name in ["racetrack_dns_transmissions_total", "racetrack_dns_fates_total", "racetrack_dns_open"] where samples(name).isEmpty {
      problems.append("/metrics lacks \(name)")
    }
    let fates = sum("racetrack_dns_fates_total")
    let open = sum("racetrack_dns_open")
    if clientTransmissions != fates + open { problems.append("client transmissions \(clientTransmissions) != fates \(fates) + open \(open)") }
    let lost = sum("racetrack_dns_fates_total", ["fate": "lost"])
    if lost != sum("racetrack_lost_queries_total") - sum("racetrack_lost_queries_total", ["verdict": "unknown"]) {
      problems.append("fate lost \(lost) != racetrack_lost_queries_total \(sum("racetrack_lost_queries_total")) without unknown")
    }
    let unknown = sum("racetrack_lost_queries_total", ["verdict": "unknown"])
    if sum("racetrack_dns_fates_total", ["fate": "unknown"]) != unknown {
      problems.append("fate unknown != lost queries of that verdict, \(unknown)")
    }
    if sum("racetrack_client_queries_total") != clientTransmissions { problems.append("client queries != client transmissions") }
    for verdict in Set(samples("racetrack_lost_queries_total").compactMap { $0.labels["verdict"] }) {
      let all = sum("racetrack_lost_queries_total", ["verdict": verdict])
      let client = sum("racetrack_client_lost_queries_total", ["verdict": verdict])
      let stalled = sum("racetrack_client_stalled_lookups_total", ["verdict": verdict])
      if all != client { problems.append("\(verdict): \(all) lost, \(client) by client") }
      if stalled > all { problems.append("\(verdict): \(stalled) stalled lookups of \(all) lost queries") }
    }
    let told = sum("racetrack_records_total", ["event": "dns_query_lost"]) + sum("racetrack_records_suppressed_total", ["event": "dns_query_lost"])
    if told != sum("racetrack_lost_queries_total") + sum("racetrack_server_lost_queries_total") { problems.append("\(told) loss records") }
    problems += duplicates.map { "twice on the page: \($0)" }
    return problems
  }
}
