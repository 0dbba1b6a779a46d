/// What identifies one transmission in every account of it: the client's, the server's and the agent's.
package struct QueryKey: Hashable, Sendable, CustomStringConvertible {
  package var client: String
  package var clientPort: Int
  package var id: Int
  package var name: String
  package var type: String
  package var server: String

  package init(client: String, clientPort: Int, id: Int, name: String, type: String, server: String) {
    self.client = client
    self.clientPort = clientPort
    self.id = id
    self.name = name.lowercased()
    self.type = type
    self.server = server
  }

  package var description: String { "\(client):\(clientPort) > \(server) \(id) \(name) \(type)" }
}

/// One query as its client saw it: a `query` line of racelab.
package struct AskedQuery: Sendable {
  package var key: QueryKey
  /// Nanoseconds of CLOCK_REALTIME.
  package var sent: Int64
  /// When an answer came from the address asked; nil if none did.
  package var answered: Int64?
  /// The other address from which an answer came.
  package var stray: String?
  package var serverPort: Int
  /// The kernel refused to send it: `send` failed with EPERM.
  package var isRefused: Bool

  package init(key: QueryKey, sent: Int64, answered: Int64?, stray: String? = nil, serverPort: Int = 53, isRefused: Bool = false) {
    self.key = key
    self.sent = sent
    self.answered = answered
    self.stray = stray
    self.serverPort = serverPort
    self.isRefused = isRefused
  }

  package static func parse(_ text: String) -> [AskedQuery] {
    text.split(separator: "\n").compactMap { line in
      let words = line.split(separator: " ").map(String.init)
      guard words.count == 12, words[0] == "query", let port = Int(words[2]), let id = Int(words[3]) else { return nil }
      func value(_ index: Int) -> String? {
        let text = words[index].drop { $0 != "=" }.dropFirst()
        return text == "-" ? nil : String(text)
      }
      guard let sent = value(7).flatMap(Int64.init), let serverPort = value(10).flatMap(Int.init) else { return nil }
      return AskedQuery(
        key: QueryKey(client: words[1], clientPort: port, id: id, name: words[4], type: words[5], server: words[6]), sent: sent,
        answered: value(8).flatMap(Int64.init), stray: value(11), serverPort: serverPort, isRefused: value(9) == "refused")
    }
  }
}

/// One query as a server received it: a `recv` line of racelab.
package struct ReceivedQuery: Sendable {
  package var time: Int64
  package var client: String
  package var clientPort: Int
  package var id: Int
  package var name: String
  package var type: String
  package var server: String

  package static func parse(_ text: String) -> [ReceivedQuery] {
    text.split(separator: "\n").compactMap { line in
      let words = line.split(separator: " ").map(String.init)
      guard words.count == 9, words[0] == "recv", let time = Int64(words[1]), let port = Int(words[3]), let id = Int(words[4]) else { return nil }
      return ReceivedQuery(time: time, client: words[2], clientPort: port, id: id, name: words[5], type: words[6], server: words[7])
    }
  }
}

/// What was done to a client's queries on purpose. With what client and servers saw it gives every loss its cause.
package enum Treatment: Sendable {
  case replyRace, sourceRace, lateRace
  /// A late race after which the answer may not get an entry of its own either (IPVS on Linux 6.12): it ends on the node, and no client sees it.
  case lateRaceInsertingNothing
  /// A and AAAA from one socket to one service, on a kernel that resolves no clash.
  case serviceRace
  /// The same, held back by a policy engine until both are under way, on a kernel that then translates the second once more.
  case heldRace
  /// No room in the conntrack table.
  case fullTable
  /// The chains of the conntrack table are longer than the kernel lets them grow.
  case longChains
  /// The table is full and unanswered entries are thrown out for new ones while their answers are on the way.
  case crowdedTable
  /// Dropped in the node's forward hook.
  case policy
  /// The answers are dropped in the node's forward hook.
  case answersDropped
  case muteServer
  /// Their entries are deleted while the answers are on their way.
  case entriesDeleted
  /// Each is sent a second time before the first is answered: the client takes what comes first, and the other answer is late.
  case retried
  case ordinary
}

/// Every transmission of a run with its cause of loss, or none.
package struct Truth: Sendable {
  package private(set) var lost: [QueryKey: String] = [:]
  package private(set) var answered: Set<QueryKey> = []
  /// Losses for which no cause is certain: with any, the run says nothing.
  package private(set) var unexplained: [String] = []
  /// Queries that the kernel refused to send.
  package private(set) var refused = 0
  package var sent: Int { lost.count + answered.count + unexplained.count }

  package init() {}

  /// Adds one client's queries. `arrivals` counts what the servers received of all clients.
  package mutating func add(_ queries: [AskedQuery], _ treatment: Treatment, arrivals: [Arrival: Int]) {
    // The same question may have gone to two servers: what arrived more often than it was answered arrived for the unanswered one.
    var unanswered = arrivals
    refused += queries.count { $0.isRefused }
    for query in queries where query.answered != nil {
      answered.insert(query.key)
      unanswered[Arrival(query.key), default: 0] -= 1
      guard treatment == .retried else { continue }
      // Two transmissions of one key: one was answered, the other's answer came when nobody waited.
      if unanswered[Arrival(query.key), default: 0] > 0 {
        lost[query.key] = "late_answer"
      } else {
        unexplained.append("\(query.key) \(treatment) arrived once")
      }
    }
    for query in queries where query.answered == nil {
      let arrived = unanswered[Arrival(query.key), default: 0] > 0
      switch treatment {
      case .replyRace where !arrived: lost[query.key] = "reply_clash_dropped"
      case .serviceRace where !arrived: lost[query.key] = "dnat_clash_dropped"
      case .heldRace where !arrived: lost[query.key] = "clash_misrouted"
      case .fullTable where !arrived: lost[query.key] = "table_full"
      case .longChains where !arrived: lost[query.key] = "dropped_on_node"
      case .crowdedTable where !arrived: lost[query.key] = "table_full"
      case .crowdedTable where query.stray != nil: lost[query.key] = "answer_untranslated"
      case .sourceRace where !arrived: lost[query.key] = "snat_clash_dropped"
      case .lateRaceInsertingNothing where arrived: lost[query.key] = "clash_late_reply"
      case .lateRace where arrived && query.stray != nil: lost[query.key] = "clash_late_reply"
      case .policy where !arrived: lost[query.key] = "dropped_on_node"
      case .answersDropped where arrived: lost[query.key] = "answer_dropped_on_node"
      case .muteServer where arrived: lost[query.key] = "no_answer"
      case .entriesDeleted where arrived && query.stray != nil: lost[query.key] = "answer_untranslated"
      default: unexplained.append("\(query.key) \(treatment) arrived=\(arrived) stray=\(query.stray ?? "-")")
      }
    }
  }

  package func count(_ verdict: String) -> Int { lost.values.count { $0 == verdict } }
}

/// A query at a server, without addresses: names are unique within a run, and addresses may have been translated.
package struct Arrival: Hashable, Sendable {
  private var id: Int
  private var name: String
  private var type: String

  package init(_ key: QueryKey) {
    id = key.id
    name = key.name
    type = key.type
  }

  private init(_ received: ReceivedQuery) {
    id = received.id
    name = received.name.lowercased()
    type = received.type
  }

  package static func count(_ received: [ReceivedQuery]) -> [Arrival: Int] {
    received.reduce(into: [:]) { $0[Arrival($1), default: 0] += 1 }
  }
}
