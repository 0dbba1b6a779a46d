import Flows
import Foundation
import TestSupport
import Testing

extension KernelTests {
  /// One story of two nodes: `racetrack trace` over two agents with a lossy link between them.
  @Suite(.serialized) struct TraceTests {
    private struct Trace: Decodable {
      struct Step: Decodable {
        var step: String
        var node: String
        var sinceFirst: Double
        var error: Double?
        private enum CodingKeys: String, CodingKey {
          case step, node
          case sinceFirst = "since_first_seconds"
          case error = "clock_error_seconds"
        }
      }
      struct Transmission: Decodable {
        var ending: String
        var certain: Bool
        var sentence: String
        var verdict: String?
        var steps: [Step]
        var way: [String] { steps.map { "\($0.node) \($0.step)" } }
      }
      var transmissions: [Transmission]
    }

    private static let there = ["node-a asked", "node-a sent", "node-b arrived", "node-b handed_to_backend"]
    private static let whole = there + ["node-b answered", "node-b left", "node-a came", "node-a delivered"]

    @Test func twoNodesTellOneStory() throws {
      let nodes = try TwoNodes()
      // Shows both paths, and that the backends are node B's.
      for port in 21000..<21004 { #expect(try nodes.ask("warm", server: "10.96.0.10", port: port).answered != nil) }
      try healthy(nodes)

      let (query, reply) = ("ip saddr \(nodes.client.v4) udp dport 53", "ip daddr \(nodes.client.v4) udp sport 53")
      let there = try nodes.lose(query) { try lost(nodes, "there", port: 22001) }
      let back = try nodes.lose(reply) { try lost(nodes, "back", port: 22002) }
      let mute = try lost(nodes, "mute", server: "10.96.0.11", port: 22003)
      let dropped = try nodes.drop(query, in: nodes.b) { try lost(nodes, "dropped", port: 22004) }
      let answer = try nodes.drop(reply, in: nodes.b) { try lost(nodes, "answer", port: 22005) }
      let asked = try nodes.drop(query, in: nodes.a) { try lost(nodes, "here", port: 22006) }
      let came = try nodes.drop(reply, in: nodes.a) { try lost(nodes, "undelivered", port: 22007) }

      try expect(
        nodes, there, "no_answer", "lost_on_the_way_there", Array(Self.whole.prefix(2)),
        "Lost between the nodes, on the way there: it left node-a, and node-b, where the backend is, did not see it arrive.")
      try expect(
        nodes, back, "no_answer", "lost_on_the_way_back", Array(Self.whole.prefix(6)),
        "Lost between the nodes, on the way back: the answer left node-b, and node-a did not see it come.")
      try expect(nodes, mute, "no_answer", "not_answered", Self.there, "Not answered: node-b handed it to the backend, which did not answer.")
      try expect(
        nodes, dropped, "no_answer", "dropped_on_server_node", Array(Self.whole.prefix(3)),
        "Dropped on the server's node: it arrived at node-b and was not handed to the backend.")
      try expect(
        nodes, answer, "no_answer", "answer_dropped_on_server_node", Array(Self.whole.prefix(5)),
        "Answer dropped on the server's node: the backend answered, and the answer did not leave node-b.")
      try expect(
        nodes, asked, "dropped_on_node", "dropped_on_client_node", Array(Self.whole.prefix(1)),
        "Dropped on the client's node: it did not leave node-a.")
      try expect(
        nodes, came, "answer_dropped_on_node", "came_not_delivered", Array(Self.whole.prefix(7)),
        "Came and not delivered: the answer came to node-a and did not leave towards the client.")
      try failures(nodes, known: back)
      #expect(try nodes.agentA.stop() == 0 && nodes.agentB.stop() == 0)
      for problem in [try nodes.agentA.recordProblem(), try nodes.agentB.recordProblem()] { #expect(problem == nil) }
    }

    /// An answered query is known to the client's node for a moment: asked for all the while, it is told whole.
    private func healthy(_ nodes: TwoNodes) throws {
      let port = 22000
      let wire: [UInt8] = [2, 0x71, 0x30, 7] + Array("healthy".utf8) + [3] + Array("ask".utf8) + [4] + Array("test".utf8) + [0]
      let tuple = FiveTuple(udp: Endpoint(IPAddress(nodes.client.v4)!, UInt16(port)), Endpoint(IPAddress("10.60.0.13")!, 53))
      let number = String(FlowID.hash(tuple, id: UInt16(port), type: QueryType.a, name: wire.span.bytes), radix: 16)
      let id = String(repeating: "0", count: 16 - number.count) + number
      let asking = try Background(
        nodes.a.command(
          in: "client",
          "ask --from \(nodes.client.v4) --server 10.96.0.12 --count 1 --types A --timeout-ms 1500 --from-port \(port) --id \(port) --label healthy"))
      var told: Trace.Transmission?
      _ = try Clock.poll(seconds: 3, every: 0.08) {
        told = try JSONDecoder().decode(Trace.self, from: Data(nodes.trace(id, json: true).output.utf8)).transmissions.first
        return told?.ending == "delivered"
      }
      #expect(asking.wait(seconds: 5) == 0)
      #expect(told?.ending == "delivered" && told?.way == Self.whole, "\(String(describing: told))")
      for step in told?.steps ?? [] where step.node == "node-b" {
        #expect(step.error ?? 0 > 0 && step.error ?? 1 < 1)
        // One machine, one clock: within what is said of its error.
        #expect(step.sinceFirst > -(step.error ?? 0) && step.sinceFirst < 0.6)
      }
      // Later only the server's node remembers.
      let later = try nodes.trace(id, agents: [TwoNodes.urlB])
      #expect(later.status == 0 && later.output.contains("The answer left node-b."), "\(later)")
    }

    /// The flow.id of a query that must be lost.
    private func lost(_ nodes: TwoNodes, _ label: String, server: String = "10.96.0.10", port: Int) throws -> String {
      let query = try nodes.ask(label, server: server, port: port)
      #expect(query.answered == nil, "\(label) was answered")
      var flow: String?
      _ = try Clock.poll(seconds: 8, every: 0.1) {
        flow = try nodes.agentA.records().first { $0.event == "dns_query_lost" && $0.key == query.key }?.flow
        return flow != nil
      }
      guard let flow else { throw LabError("\(label): no record; \(nodes.agentA.log.suffix(500))") }
      return flow
    }

    private func expect(
      _ nodes: TwoNodes, _ id: String, _ verdict: String, _ ending: String, _ way: [String], _ sentence: String,
      location: SourceLocation = #_sourceLocation
    ) throws {
      let json = try nodes.trace(id, json: true)
      #expect(json.status == 0 && json.errors == "", "\(json)", sourceLocation: location)
      let all = try JSONDecoder().decode(Trace.self, from: Data(json.output.utf8)).transmissions
      #expect(all.count == 1, "\(json.output)", sourceLocation: location)
      guard let told = all.first else { return }
      let answer = try nodes.agentA.get("/api/v1/flows/\(id)?backend=10.60.0.11", from: "192.168.9.1:\(TwoNodes.agentPort)")
      let problem = try RecordSchema.problem(of: json.output + answer.output, schema: "docs/flows.schema.json")
      #expect(problem == nil && answer.status == 0, "\(problem ?? "") \(answer)", sourceLocation: location)
      #expect(
        told.ending == ending && told.certain && told.way == way && told.sentence == sentence && told.verdict == verdict, "\(json.output)",
        sourceLocation: location)
      let text = try nodes.trace(id)
      #expect(
        text.status == 0 && text.output.contains(sentence) && text.output.contains("node-a says: \(verdict)"), "\(text)", sourceLocation: location)
      print(text.output)
    }

    private func failures(_ nodes: TwoNodes, known id: String) throws {
      let nobody = try nodes.trace("0123456789abcdef")
      #expect(nobody.status == 1 && nobody.errors.contains("no flow of this number is known to node-a, node-b"), "\(nobody)")
      let unreachable = try nodes.trace(id, agents: ["http://192.168.9.1:1"])
      #expect(unreachable.status == 3 && unreachable.errors.contains("cannot connect"), "\(unreachable)")
      let half = try nodes.trace(id, agents: [TwoNodes.urlA, "http://192.168.9.1:1"])
      #expect(half.status == 0 && half.output.contains("Name the agent of the backend's node"), "\(half)")
      for wrong in [["trace"], ["trace", "12"], ["trace", id, "--agent", "https://x"], ["trace", id, "--agents", "x"]] {
        let result = try Command.result([Executables.racetrack] + wrong)
        #expect(result.status == 2 && result.errors.split(separator: "\n").count == 1, "\(wrong): \(result)")
      }
    }
  }
}
