/// What identifies one transmission in every account of it: the client's, the server's and the agent's.
public struct QueryKey: Hashable, Sendable {
  public var client: String
  public var clientPort: Int
  public var id: Int
  public var name: String
  public var type: String
  public var server: String

  public init(client: String, clientPort: Int, id: Int, name: String, type: String, server: String) {
    self.client = client
    self.clientPort = clientPort
    self.id = id
    self.name = name.lowercased()
    self.type = type
    self.server = server
  }
}

/// One query as its client saw it: a `query` line of racelab.
public struct AskedQuery: Sendable {
  public var key: QueryKey
  /// Nanoseconds of CLOCK_REALTIME.
  public var sent: Int64
  /// When an answer came from the address asked; nil if none did.
  public var answered: Int64?
  /// The other address from which an answer came.
  public var stray: String?
  public var serverPort: Int

  public static func parse(_ text: String) -> [AskedQuery] {
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
        answered: value(8).flatMap(Int64.init), stray: value(11), serverPort: serverPort)
    }
  }
}

/// One query as a server received it: a `recv` line of racelab.
public struct ReceivedQuery: Sendable {
  public var time: Int64
  public var client: String
  public var clientPort: Int
  public var id: Int
  public var name: String
  public var type: String
  public var server: String

  public static func parse(_ text: String) -> [ReceivedQuery] {
    text.split(separator: "\n").compactMap { line in
      let words = line.split(separator: " ").map(String.init)
      guard words.count == 9, words[0] == "recv", let time = Int64(words[1]), let port = Int(words[3]), let id = Int(words[4]) else { return nil }
      return ReceivedQuery(time: time, client: words[2], clientPort: port, id: id, name: words[5], type: words[6], server: words[7])
    }
  }
}

/// What was done to a client's queries on purpose. With what client and servers saw it gives every loss its cause.
public enum Treatment: Sendable {
  case replyRace, sourceRace, lateRace
  /// Dropped in the node's forward hook.
  case policy
  /// The answers are dropped in the node's forward hook.
  case answersDropped
  case muteServer
  case ordinary
}

/// Every query of a run with its cause of loss, or none.
public struct Truth: Sendable {
  public private(set) var lost: [QueryKey: String] = [:]
  public private(set) var answered: Set<QueryKey> = []
  /// Losses for which no cause is certain: with any, the run says nothing.
  public private(set) var unexplained: [String] = []
  public var sent: Int { lost.count + answered.count + unexplained.count }

  public init() {}

  /// Adds one client's queries. `arrivals` counts what the servers received of all clients.
  public mutating func add(_ queries: [AskedQuery], _ treatment: Treatment, arrivals: [Arrival: Int]) {
    // The same question may have gone to two servers: what arrived more often than it was answered arrived for the unanswered one.
    var unanswered = arrivals
    for query in queries where query.answered != nil {
      answered.insert(query.key)
      unanswered[Arrival(query.key), default: 0] -= 1
    }
    for query in queries where query.answered == nil {
      let arrived = unanswered[Arrival(query.key), default: 0] > 0
      switch treatment {
      case .replyRace where !arrived: lost[query.key] = "reply_clash_dropped"
      case .sourceRace where !arrived: lost[query.key] = "snat_clash_dropped"
      case .lateRace where arrived && query.stray != nil: lost[query.key] = "clash_late_reply"
      case .policy where !arrived: lost[query.key] = "dropped_on_node"
      case .answersDropped where arrived: lost[query.key] = "answer_dropped_on_node"
      case .muteServer where arrived: lost[query.key] = "no_answer"
      default: unexplained.append("\(query.key) \(treatment) arrived=\(arrived) stray=\(query.stray ?? "-")")
      }
    }
  }

  public func count(_ verdict: String) -> Int { lost.values.count { $0 == verdict } }
}

/// A query at a server, without addresses: names are unique within a run, and addresses may have been translated.
public struct Arrival: Hashable, Sendable {
  private var id: Int
  private var name: String
  private var type: String

  public init(_ key: QueryKey) {
    id = key.id
    name = key.name
    type = key.type
  }

  private init(_ received: ReceivedQuery) {
    id = received.id
    name = received.name.lowercased()
    type = received.type
  }

  public static func count(_ received: [ReceivedQuery]) -> [Arrival: Int] {
    received.reduce(into: [:]) { $0[Arrival($1), default: 0] += 1 }
  }
}
