import Flows
import Glibc
import LinuxIO
import Reporting

/// What `racetrack trace` asks the agents.
struct TraceQuestions {
  let id: UInt64
  let options: TraceOptions
  let authorization: String?

  /// The agent is busy, or was asked too often: a question is repeated so many times, a second later each.
  private static let repetitions = 3

  /// - Returns: what the agents said, and how each of them took it.
  func ask() -> (answers: [TraceAnswer], agents: [TraceAgent]) {
    var agents: [TraceAgent] = []
    var answers: [TraceAnswer] = []
    var urls: [HTTPBaseURL] = []
    for text in options.agents {
      var agent = TraceAgent(url: text)
      do {
        let url = try HTTPBaseURL(text, defaultPort: TraceOptions.defaultPort)
        let answer = try flow(url, backend: nil)
        agent.node = answer.node
        agent.knows = !answer.flows.isEmpty
        agent.clockOffset = answer.clockOffset
        agent.clockError = answer.clockError
        answers.append(answer)
        urls.append(url)
      } catch let error as HTTPClient.Failure {
        agent.problem = error.problem
      } catch {
        agent.problem = "\(error)"
      }
      agents.append(agent)
    }
    askAboutBackend(urls, &answers)
    addIncidents(urls, &answers)
    return (answers, agents)
  }

  /// Whoever does not know the flow may say whether the backend is his.
  private func askAboutBackend(_ urls: [HTTPBaseURL], _ answers: inout [TraceAnswer]) {
    let flows = answers.flatMap(\.flows)
    guard let destination = flows.first(where: { $0.vantage == "client" && $0.destination != nil })?.destination else { return }
    let colon = destination.lastIndex(of: ":") ?? destination.endIndex
    let address = destination[..<colon].filter { $0 != "[" && $0 != "]" }
    for index in answers.indices where answers[index].flows.isEmpty {
      guard let again = try? flow(urls[index], backend: address) else { continue }
      answers[index].isBackendHere = again.isBackendHere
      // It may have come to know it meanwhile.
      answers[index].flows = again.flows
    }
  }

  /// What the client waited for and what to do, from the records of the incident.
  private func addIncidents(_ urls: [HTTPBaseURL], _ answers: inout [TraceAnswer]) {
    for index in answers.indices where answers[index].flows.contains(where: { $0.incident != nil }) {
      guard let page = try? get(urls[index], "/api/v1/incidents"), page.status == 200, let records = JSONValue(page.body) else { continue }
      // An agent keeps the last thousand.
      for record in records.elements.prefix(1000) {
        guard let incident = record["incident.id"]?.shown else { continue }
        for flow in answers[index].flows.indices where answers[index].flows[flow].incident == incident {
          if let impact = record["impact"]?.shown { answers[index].flows[flow].impact = impact }
          if let delay = record["delay_seconds"]?.number, (0...1e9).contains(delay) { answers[index].flows[flow].delaySeconds = delay }
          if let advice = record["advice"]?.shown { answers[index].flows[flow].advice = advice }
        }
      }
    }
  }

  private func flow(_ url: HTTPBaseURL, backend: String?) throws -> TraceAnswer {
    var digits = String(id, radix: 16)
    digits = String(repeating: "0", count: 16 - digits.utf8.count) + digits
    let answer = try get(url, "/api/v1/flows/\(digits)" + (backend.map { "?backend=\($0)" } ?? ""))
    switch answer.status {
    case 200, 404:
      guard let json = JSONValue(answer.body), let read = TraceAnswer(json, url: url.text, asked: answer.asked, answered: answer.answered) else {
        throw HTTPClient.Failure(
          problem: answer.status == 404 ? "answers, and has no /api/v1/flows: not an agent's --web.api-address" : "not an agent's answer")
      }
      return read
    case 401: throw HTTPClient.Failure(problem: "wants a user and a password: --web.user-file")
    default:
      let said = JSONValue(answer.body)?["error"]?.shown
      throw HTTPClient.Failure(problem: "status \(answer.status)" + (said.map { ": \($0)" } ?? ""))
    }
  }

  private func get(_ url: HTTPBaseURL, _ target: String) throws(HTTPClient.Failure) -> HTTPClient.Answer {
    var left = Self.repetitions
    while true {
      let answer = try HTTPClient.get(
        url, target, authorization: authorization, milliseconds: Int(options.timeout / Nanoseconds.perMillisecond))
      guard left > 0, answer.status == 429 || answer.status == 503 else { return answer }
      left -= 1
      sleep(1)
    }
  }
}

extension TraceAnswer {
  /// - Parameters:
  ///   - asked: when the question was sent, and when its answer began to come, by the clock of this machine. The node's stamp lies between.
  init?(_ json: JSONValue, url: String, asked: WallTime, answered: WallTime) {
    guard let time = json.time("time"), let server = json.time("server_flows_since"), let lost = json.time("lost_flows_since") else { return nil }
    self.init(
      node: json["k8s.node.name"]?.shown ?? url, clockOffset: time &- (asked.nanoseconds / 2 &+ answered.nanoseconds / 2),
      clockError: max(0, answered.nanoseconds &- asked.nanoseconds) / 2, serverFlowsSince: server, lostFlowsSince: lost)
    isBackendHere = json["backend.here"].map { $0.isTrue }
    for window in (json["blind"]?.elements ?? []).prefix(64) {
      guard let start = window.time("start"), let end = window.time("end") else { continue }
      blind.append(Blind(source: window["blind.source"]?.shown ?? "", start: start, end: end))
    }
    // An agent tells of sixteen at most.
    flows = (json["flows"]?.elements ?? []).prefix(16).compactMap(TraceFlow.init)
  }
}

extension TraceFlow {
  init?(_ json: JSONValue) {
    var legs: [String: Leg] = [:]
    for leg in json["legs"]?.elements ?? [] {
      guard let name = leg["leg"]?.shown, let time = leg.time("time") else { continue }
      legs[name] = Leg(time: time, device: leg["device"]?.shown ?? "")
    }
    guard let vantage = json["vantage"]?.shown, let state = json["state"]?.shown, let asked = legs["asked"] else { return nil }
    self.init(vantage: vantage, state: state, asked: asked)
    sent = legs["sent"]
    came = legs["came"]
    delivered = legs["delivered"]
    untranslated = legs["untranslated"]
    verdict = json["verdict"]?.shown
    reason = json["reason"]?.shown
    grade = json["grade"]?.shown
    incident = json["incident.id"]?.shown
    let name = json["dns.question.name"]?.shown ?? json["dns.question.name_hash"]?.shown.map { "name \($0)" }
    question = [name, json["dns.question.type"]?.shown, json["dns.id"]?.integer.map { "ID \($0)" }].compactMap { $0 }.joined(separator: " ")
    client = json.endpoint("client") ?? ""
    server = json.endpoint("server") ?? ""
    destination = json.endpoint("sent.destination")
    attempt = Int(clamping: json["attempt"]?.integer ?? 1)
    isLocalServer = json["server.local"]?.isTrue ?? false
    isHandedOver = json["sent.to_workload"]?.isTrue ?? false
  }
}

extension JSONValue {
  /// For a terminal: one line, no control characters, no longer than any text of an agent's.
  fileprivate var shown: String? {
    text.map { text in
      String(String.UnicodeScalarView(text.unicodeScalars.prefix(1024).map { $0.properties.generalCategory == .control ? "\u{FFFD}" : $0 }))
    }
  }

  fileprivate func time(_ key: String) -> Int64? { self[key]?.text.flatMap { CivilTime.parseRFC3339($0)?.nanoseconds } }

  fileprivate func endpoint(_ key: String) -> String? {
    guard let address = self[key + ".address"]?.shown else { return nil }
    guard let port = self[key + ".port"]?.integer else { return address }
    return address.contains(":") ? "[\(address)]:\(port)" : "\(address):\(port)"
  }
}
