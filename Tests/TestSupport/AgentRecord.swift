import Foundation

/// One line of `--incidents.output`, as far as scoring needs it.
package struct AgentRecord: Decodable, Sendable {
  package var event: String
  package var verdict: String?
  package var grade: String?
  package var reason: String?
  package var vantage: String?
  package var evidence: [String]?
  package var dnsID: Int?
  package var name: String?
  package var type: String?
  package var client: String?
  package var clientPort: Int?
  package var server: String?
  package var winnerServer: String?
  package var impact: String?
  package var impactGrade: String?
  package var delaySeconds: Double?
  package var attempt: Int?
  package var attempts: Int?
  package var siblingID: Int?
  package var siblingType: String?
  package var flow: String?
  package var incident: String?
  package var role: String?
  package var backend: String?
  package var libc: String?
  package var cpu: Int?
  package var isHost: Bool?

  private enum CodingKeys: String, CodingKey {
    case event, verdict, grade, reason, vantage, evidence, cpu
    case dnsID = "dns.id"
    case name = "dns.question.name"
    case type = "dns.question.type"
    case client = "client.address"
    case clientPort = "client.port"
    case server = "server.address"
    case winnerServer = "winner.server.address"
    case impact, attempt, attempts, libc
    case impactGrade = "impact.grade"
    case delaySeconds = "delay_seconds"
    case siblingID = "sibling.dns.id"
    case siblingType = "sibling.dns.question.type"
    case flow = "flow.id"
    case incident = "incident.id"
    case role = "client.role"
    case backend = "backend.address"
    case isHost = "client.host"
  }

  package static func parse(_ text: String) throws -> [AgentRecord] {
    let decoder = JSONDecoder()
    return try text.split(separator: "\n").map { line in
      do { return try decoder.decode(AgentRecord.self, from: Data(line.utf8)) } catch { throw LabError("not a record: \(line): \(error)") }
    }
  }

  /// Nil where the record names no query.
  package var key: QueryKey? {
    guard let client, let clientPort, let dnsID, let name, let type, let server else { return nil }
    return QueryKey(client: client, clientPort: clientPort, id: dnsID, name: name, type: type, server: server)
  }
}

/// What a judge says of one lost query: the agent's record, or another judge's under the same rules.
package struct Judgement: Sendable {
  package var key: QueryKey
  package var verdict: String
  package var grade: String

  package init(key: QueryKey, verdict: String, grade: String) {
    self.key = key
    self.verdict = verdict
    self.grade = grade
  }

  /// The agent's losses. A loss record that names no query is an error of its own.
  package static func all(_ records: [AgentRecord]) throws -> [Judgement] {
    try records.filter { $0.event == "dns_query_lost" }.map { record in
      guard let key = record.key, let verdict = record.verdict, let grade = record.grade else {
        throw LabError("an incomplete loss record: \(record)")
      }
      return Judgement(key: key, verdict: verdict, grade: grade)
    }
  }
}
