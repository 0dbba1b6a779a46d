/// One transmission from the client's pod to the backend and back, as the nodes on its way saw it.
package struct TraceStory: Sendable, Equatable {
  /// Where it ended, by the furthest point at which it was seen.
  package enum Ending: String, Sendable, CaseIterable {
    case delivered
    /// Delivered, but the client had stopped to wait.
    case deliveredLate = "delivered_late"
    case droppedOnClientNode = "dropped_on_client_node"
    case lostOnTheWayThere = "lost_on_the_way_there"
    case droppedOnServerNode = "dropped_on_server_node"
    case notAnswered = "not_answered"
    case answerDroppedOnServerNode = "answer_dropped_on_server_node"
    case lostOnTheWayBack = "lost_on_the_way_back"
    case cameNotDelivered = "came_not_delivered"
    /// The answer left the server's node; the client's end is not known.
    case leftServerNode = "left_server_node"
    case waiting
    case unknown
  }

  package struct Step: Sendable, Equatable {
    package var node: String
    /// `asked`, `sent`, `arrived`, `handed_to_backend`, `answered`, `left`, `came`, `delivered` or `untranslated`.
    package var name: String
    /// By the node's own clock.
    package var time: Int64
    package var device: String
    /// Nanoseconds after the story's first step, by one clock, and by how much that may be wrong: 0 between steps of one node.
    package var sinceFirst: Int64
    package var error: Int64
  }

  package var attempt = 1
  package var ending = Ending.unknown
  /// False where the ending follows only if the nodes that were asked are all there are.
  package var isCertain = true
  /// The ending in words.
  package var sentence = ""
  package var clientNode: String?
  package var serverNode: String?
  package var steps: [Step] = []
  /// What the client's node saw, else the server's.
  package var flow: TraceFlow
  /// What the server's node saw.
  package var serverFlow: TraceFlow?

  /// What to do, where it can be told: of the node on which it ended.
  package var advice: String? {
    switch ending {
    case .lostOnTheWayThere, .lostOnTheWayBack:
      "Look at what lies between the nodes: the overlay's MTU, firewalls and security groups, rate limits of a cloud network, a lossy link."
    case .droppedOnServerNode: "Look at network policies, firewall rules and routes towards the backend on \(serverNode ?? "the server's node")."
    case .answerDroppedOnServerNode: serverFlow?.advice
    default: flow.advice
    }
  }
}

/// Puts the answers of several nodes together. Pure.
package enum TraceMerge {
  /// How far apart, beside what the clocks may be wrong, sending and arriving may be for one transmission. Resolvers wait longer before they repeat.
  static let longestWay: Int64 = 1_000_000_000

  private struct Seen {
    var answer: TraceAnswer
    var flow: TraceFlow
    /// By the clock of whoever asked.
    func time(_ leg: TraceFlow.Leg) -> Int64 { leg.time &- answer.clockOffset }
  }

  /// One story for each transmission, the oldest first.
  package static func stories(_ answers: [TraceAnswer]) -> [TraceStory] {
    let seen = answers.flatMap { answer in answer.flows.map { Seen(answer: answer, flow: $0) } }.sorted {
      $0.time($0.flow.asked) < $1.time($1.flow.asked)
    }
    var servers = seen.filter { $0.flow.vantage != "client" }
    var stories: [(time: Int64, story: TraceStory)] = []
    for client in seen where client.flow.vantage == "client" {
      let server = partner(of: client, among: servers).map { servers.remove(at: $0) }
      stories.append((client.time(client.flow.asked), story(client, server, answers)))
    }
    for server in servers { stories.append((server.time(server.flow.asked), story(nil, server, answers))) }
    return stories.sorted { $0.time < $1.time }.map(\.story)
  }

  /// The transmission of another node that arrived nearest to when this one was sent.
  private static func partner(of client: Seen, among servers: [Seen]) -> Int? {
    guard !client.flow.isHandedOver else { return nil }
    let sent = client.time(client.flow.sent ?? client.flow.asked)
    var best: (index: Int, distance: Int64)?
    for (index, server) in servers.enumerated() where server.answer.node != client.answer.node {
      let distance = Int64(clamping: (server.time(server.flow.asked) &- sent).magnitude)
      guard distance <= longestWay &+ client.answer.clockError &+ server.answer.clockError, distance < best?.distance ?? .max else { continue }
      best = (index, distance)
    }
    return best?.index
  }

  private static func story(_ client: Seen?, _ server: Seen?, _ answers: [TraceAnswer]) -> TraceStory {
    guard let flow = client?.flow ?? server?.flow else {
      return TraceStory(flow: TraceFlow(vantage: "", state: "", asked: .init(time: 0, device: "")))
    }
    var story = TraceStory(flow: flow)
    story.attempt = flow.attempt
    story.clientNode = client?.answer.node
    story.serverNode = server?.answer.node
    story.serverFlow = server?.flow
    story.steps = steps(client, server)
    (story.ending, story.isCertain, story.sentence) = ending(client, server, answers)
    return story
  }

  private static func steps(_ client: Seen?, _ server: Seen?) -> [TraceStory.Step] {
    var steps: [TraceStory.Step] = []
    guard let first = (client ?? server).map({ $0.time($0.flow.asked) }) else { return [] }
    let error = (client?.answer.clockError ?? 0) &+ (server?.answer.clockError ?? 0)
    func add(_ name: String, _ leg: TraceFlow.Leg?, _ seen: Seen, isFar: Bool) {
      guard let leg else { return }
      steps.append(
        TraceStory.Step(
          node: seen.answer.node, name: name, time: leg.time, device: leg.device, sinceFirst: seen.time(leg) &- first, error: isFar ? error : 0))
    }
    if let client {
      add("asked", client.flow.asked, client, isFar: false)
      add(client.flow.isHandedOver ? "handed_to_backend" : "sent", client.flow.sent, client, isFar: false)
    }
    if let server {
      let isFar = client != nil
      add("arrived", server.flow.asked, server, isFar: isFar)
      add("handed_to_backend", server.flow.sent, server, isFar: isFar)
      add("answered", server.flow.came, server, isFar: isFar)
      add("left", server.flow.delivered ?? server.flow.untranslated, server, isFar: isFar)
    }
    if let client {
      add(client.flow.isHandedOver ? "answered" : "came", client.flow.came, client, isFar: false)
      add("delivered", client.flow.delivered, client, isFar: false)
      if client.flow.delivered == nil { add("untranslated", client.flow.untranslated, client, isFar: false) }
    }
    return steps
  }

  private typealias Conclusion = (TraceStory.Ending, Bool, String)

  private static func ending(_ client: Seen?, _ server: Seen?, _ answers: [TraceAnswer]) -> Conclusion {
    if let client, client.flow.delivered != nil || client.flow.came != nil || client.flow.untranslated != nil { return arrivedBack(client) }
    if let server { return byServer(client, server) }
    guard let client else { return (.unknown, true, "Nothing is known.") }
    return byClient(client, answers)
  }

  /// The answer came back to the client's node.
  private static func arrivedBack(_ client: Seen) -> Conclusion {
    let node = client.answer.node
    if client.flow.delivered != nil {
      if client.flow.state == "lost" {
        return (.deliveredLate, true, "Delivered too late: \(node) handed the answer to the client when that had stopped to wait.")
      }
      return (.delivered, true, "Delivered: \(node) handed the answer to the client.")
    }
    if client.flow.isOpen { return (.waiting, true, "Not decided yet: the answer came to \(node) and was not seen to be delivered.") }
    if client.flow.isUnknown { return (.unknown, true, "Not known: the answer came to \(node), which did not see everything then.") }
    if client.flow.untranslated != nil {
      return (.cameNotDelivered, true, "Came and not delivered: \(node) sent the answer on from another address than the one asked.")
    }
    return (.cameNotDelivered, true, "Came and not delivered: the answer came to \(node) and did not leave towards the client.")
  }

  /// Seen by the server's node, and not seen to come back.
  private static func byServer(_ client: Seen?, _ server: Seen) -> Conclusion {
    let (node, flow) = (server.answer.node, server.flow)
    if flow.delivered != nil || flow.untranslated != nil {
      guard let client else {
        return (
          .leftServerNode, true,
          "The answer left \(node). The client's node is not among the agents that know this flow: a query that was answered it forgets at once."
        )
      }
      if client.flow.isOpen { return (.waiting, true, "Not decided yet: the answer left \(node), and \(client.answer.node) has not seen it come.") }
      if client.flow.isUnknown { return (.unknown, true, "Not known: the answer left \(node); \(client.answer.node) did not see everything then.") }
      return (
        .lostOnTheWayBack, true, "Lost between the nodes, on the way back: the answer left \(node), and \(client.answer.node) did not see it come."
      )
    }
    if flow.isOpen {
      return (.waiting, true, "Not decided yet: \(flow.sent == nil ? "it arrived at" : "the backend has it from") \(node).")
    }
    if flow.isUnknown { return (.unknown, true, "Not known: it arrived at \(node), which did not see everything then.") }
    if flow.came != nil {
      return (.answerDroppedOnServerNode, true, "Answer dropped on the server's node: the backend answered, and the answer did not leave \(node).")
    }
    if flow.sent != nil || flow.isLocalServer {
      return (.notAnswered, true, "Not answered: \(node) handed it to the backend, which did not answer.")
    }
    return (.droppedOnServerNode, true, "Dropped on the server's node: it arrived at \(node) and was not handed to the backend.")
  }

  /// Seen by the client's node alone.
  private static func byClient(_ client: Seen, _ answers: [TraceAnswer]) -> Conclusion {
    let (node, flow) = (client.answer.node, client.flow)
    if flow.isOpen { return (.waiting, true, "Not decided yet: \(flow.sent == nil ? "\(node) was asked" : "it left \(node)").") }
    if flow.isUnknown { return (.unknown, true, "Not known: \(node) did not see everything then.") }
    if flow.isLocalServer { return (.notAnswered, true, "Not answered: the server is \(node) itself.") }
    if flow.isHandedOver { return (.notAnswered, true, "Not answered: \(node) handed it to the backend, which did not answer.") }
    if flow.sent == nil && flow.verdict != "no_answer" {
      return (.droppedOnClientNode, true, "Dropped on the client's node: it did not leave \(node).")
    }
    let others = answers.filter { $0.node != node }
    if let there = others.first(where: { $0.isBackendHere == true }) {
      if let gap = gap(there, client) { return (.unknown, true, "Not known: it left \(node); \(there.node), where the backend is, \(gap).") }
      return (
        .lostOnTheWayThere, true,
        "Lost between the nodes, on the way there: it left \(node), and \(there.node), where the backend is, did not see it arrive."
      )
    }
    let names = others.map(\.node).joined(separator: ", ")
    for other in others { if let gap = gap(other, client) { return (.unknown, true, "Not known: it left \(node); \(other.node) \(gap).") } }
    guard !others.isEmpty else {
      return (.unknown, true, "It left \(node). Name the agent of the backend's node as well (--agent) to learn what became of it.")
    }
    return (
      .lostOnTheWayThere, false,
      "Lost between the nodes, on the way there, if the backend is on \(names): it left \(node) and arrived nowhere else that was asked."
    )
  }

  /// Why this node's silence proves nothing; nil if it does.
  private static func gap(_ other: TraceAnswer, _ client: Seen) -> String? {
    let error = client.answer.clockError &+ other.clockError
    let sent = client.time(client.flow.sent ?? client.flow.asked) &+ other.clockOffset
    if sent &- error < other.serverFlowsSince { return "does not remember that long" }
    for window in other.blind where window.start <= sent &+ longestWay &+ error && window.end >= sent &- error {
      return "did not see everything then (\(window.source))"
    }
    return nil
  }
}
