import Flows
import Testing

@testable import Reporting

/// Two nodes, one story: every ending, and what must not be said.
@Suite struct TraceStoryTests {
  private static let ms: Int64 = 1_000_000
  private static let start: Int64 = 1_795_000_000_000_000_000

  /// Node B's clock is 5 s ahead; the one who asks has node A's.
  private static let ahead: Int64 = 5_000 * ms

  private func leg(_ milliseconds: Int64, _ node: String) -> TraceFlow.Leg {
    TraceFlow.Leg(time: Self.start + milliseconds * Self.ms + (node == "b" ? Self.ahead : 0), device: "up0")
  }

  /// - Parameter legs: asked, sent, came, delivered.
  private func flow(_ vantage: String, _ state: String, _ verdict: String?, legs: Int, at: Int64 = 0, attempt: Int = 1) -> TraceFlow {
    let node = vantage == "client" ? "a" : "b"
    var flow = TraceFlow(vantage: vantage, state: state, asked: leg(at, node))
    if legs > 1 { flow.sent = leg(at + 1, node) }
    if legs > 2 { flow.came = leg(at + 3, node) }
    if legs > 3 { flow.delivered = leg(at + 4, node) }
    flow.verdict = verdict
    flow.attempt = attempt
    flow.question = "api.example AAAA ID 7"
    flow.client = "10.40.0.17:36882"
    flow.server = "10.96.0.10:53"
    flow.destination = "10.60.0.11:53"
    return flow
  }

  private func answer(_ node: String, _ flows: [TraceFlow], here: Bool? = nil, since: Int64 = -60_000) -> TraceAnswer {
    var answer = TraceAnswer(
      node: "node-\(node)", clockOffset: node == "a" ? 0 : Self.ahead, clockError: 2 * Self.ms,
      serverFlowsSince: Self.start + since * Self.ms + (node == "b" ? Self.ahead : 0), lostFlowsSince: Self.start - 60_000 * Self.ms)
    answer.flows = flows
    answer.isBackendHere = here
    return answer
  }

  private func only(_ answers: TraceAnswer...) throws -> TraceStory {
    let stories = TraceMerge.stories(answers)
    #expect(stories.count == 1)
    return try #require(stories.first)
  }

  private func lostFlow(_ legs: Int = 2) -> TraceFlow { flow("client", "lost", "no_answer", legs: legs) }

  @Test func everyEnding() throws {
    typealias Row = (TraceStory.Ending, TraceFlow?, TraceFlow?)
    let served = flow("server", "answered", nil, legs: 4, at: 2)
    let rows: [Row] = [
      (.delivered, flow("client", "answered", nil, legs: 4), served),
      (.deliveredLate, flow("client", "lost", "late_answer", legs: 4), served),
      (.droppedOnClientNode, flow("client", "lost", "reply_clash_dropped", legs: 1), nil),
      (.droppedOnServerNode, lostFlow(), flow("transit", "not_forwarded", nil, legs: 1, at: 2)),
      (.notAnswered, lostFlow(), flow("server", "lost", "no_answer", legs: 2, at: 2)),
      (.answerDroppedOnServerNode, lostFlow(), flow("server", "lost", "answer_dropped_on_node", legs: 3, at: 2)),
      (.lostOnTheWayBack, lostFlow(), served),
      (.cameNotDelivered, flow("client", "lost", "answer_dropped_on_node", legs: 3), served),
      (.cameNotDelivered, flow("client", "lost", "clash_late_reply", legs: 3), nil),
      (.leftServerNode, nil, served),
      (.waiting, flow("client", "open", nil, legs: 2), nil),
      (.waiting, flow("client", "open", nil, legs: 2), flow("server", "open", nil, legs: 2, at: 2)),
      (.waiting, lostFlow(), flow("server", "open", nil, legs: 2, at: 2)),
      (.waiting, flow("client", "open", nil, legs: 2), served),
      (.unknown, flow("client", "lost", "unknown", legs: 1), nil),
      (.unknown, flow("client", "lost", "unknown", legs: 2), served),
      (.unknown, lostFlow(), flow("server", "lost", "unknown", legs: 2, at: 2)),
    ]
    for (index, row) in rows.enumerated() {
      let answers = [row.1.map { answer("a", [$0]) } ?? answer("a", []), row.2.map { answer("b", [$0]) } ?? answer("b", [], here: true)]
      let stories = TraceMerge.stories(answers)
      #expect(stories.count == 1 && stories.first?.ending == row.0 && stories.first?.isCertain == true, "row \(index): \(stories)")
      #expect(stories.first.map { TraceText.render(1, [$0]).contains($0.sentence) } == true)
    }
  }

  @Test func silenceOfTheBackendsNodeMeansLostOnTheWayThere() throws {
    let story = try only(answer("a", [lostFlow()]), answer("b", [], here: true))
    #expect(story.ending == .lostOnTheWayThere && story.isCertain && story.sentence.contains("node-b, where the backend is"))
    // Not known to be its node: only if.
    let guess = try only(answer("a", [lostFlow()]), answer("b", [], here: false))
    #expect(guess.ending == .lostOnTheWayThere && !guess.isCertain && guess.sentence.contains("if the backend is on node-b"))
  }

  @Test func silenceProvesNothingWhereMemoryOrSightIsShort() throws {
    #expect(try only(answer("a", [lostFlow()])).ending == .unknown)
    // It remembers from 10 ms after the query was sent.
    let forgot = try only(answer("a", [lostFlow()]), answer("b", [], here: true, since: 11))
    #expect(forgot.ending == .unknown && forgot.sentence.contains("does not remember that long"))
    // By the clocks as they are wrong, it might not have remembered.
    #expect(try only(answer("a", [lostFlow()]), answer("b", [], here: true, since: -1)).ending == .unknown)
    var blind = answer("b", [], here: true)
    blind.blind = [TraceAnswer.Blind(source: "packets", start: leg(-500, "b").time, end: leg(0, "b").time)]
    let unseen = try only(answer("a", [lostFlow()]), blind)
    #expect(unseen.ending == .unknown && unseen.sentence.contains("(packets)"))
    blind.blind = [TraceAnswer.Blind(source: "packets", start: leg(-9000, "b").time, end: leg(-8000, "b").time)]
    #expect(try only(answer("a", [lostFlow()]), blind).ending == .lostOnTheWayThere)
  }

  @Test func aBackendOfTheClientsNodeIsNoOtherNodesMatter() throws {
    var flow = lostFlow()
    flow.isHandedOver = true
    #expect(try only(answer("a", [flow]), answer("b", [], here: false)).ending == .notAnswered)
    flow = lostFlow(1)
    flow.isLocalServer = true
    #expect(try only(answer("a", [flow])).ending == .notAnswered)
    // Outgoing copies are not captured: nobody knows whether it left.
    #expect(try only(answer("a", [lostFlow(1)])).ending == .unknown)
  }

  /// Attempts share the number: each is put to what arrived when it was sent, by clocks that differ.
  @Test func attemptsArePairedByTime() {
    let stories = TraceMerge.stories([
      answer("a", [lostFlow(), flow("client", "lost", "no_answer", legs: 2, at: 5000, attempt: 2)]),
      answer("b", [flow("server", "answered", nil, legs: 4, at: 5002), flow("server", "answered", nil, legs: 4, at: 10_002)], here: true),
    ])
    #expect(stories.map(\.ending) == [.lostOnTheWayThere, .lostOnTheWayBack, .leftServerNode])
    #expect(stories.map(\.attempt) == [1, 2, 1])
  }

  @Test func theWayIsToldInOrderByOneClock() throws {
    let story = try only(answer("a", [flow("client", "answered", nil, legs: 4)]), answer("b", [flow("server", "answered", nil, legs: 4, at: 2)]))
    #expect(
      story.steps.map(\.name) == ["asked", "sent", "arrived", "handed_to_backend", "answered", "left", "came", "delivered"])
    #expect(story.steps.map { $0.sinceFirst / Self.ms } == [0, 1, 2, 3, 5, 6, 3, 4])
    #expect(story.steps.map(\.error) == [0, 0, 4, 4, 4, 4, 0, 0].map { $0 * Self.ms })
    let text = TraceText.render(0xAB, [story])
    #expect(
      text.hasPrefix("flow 00000000000000ab: api.example AAAA ID 7, 10.40.0.17:36882 asked 10.96.0.10:53, sent to 10.60.0.11:53\n\n")
        && text.contains("node-b  arrived            up0  +1.000 ms ± 4.000 ms\n") && text.contains("up0  -3.000 ms ± 4.000 ms\n"), "\(text)")
    #expect(!text.contains(" \n"))
  }

  @Test func advice() throws {
    var flow = lostFlow()
    flow.reason = "silent"
    flow.grade = "observed"
    flow.incident = "0000000000000009"
    flow.impact = "delayed"
    flow.delaySeconds = 5.0005
    flow.advice = "Look at the server."
    let silent = TraceText.render(1, [try only(answer("a", [flow]), answer("b", [self.flow("server", "lost", "no_answer", legs: 2, at: 2)]))])
    #expect(
      silent.hasSuffix(
        "  node-a says: no_answer, silent, observed; incident 0000000000000009; delayed 5000.500 ms\n  node-b says: no_answer\n  Look at the server.\n"
      ))
    // Lost between the nodes: the server is not to blame.
    let between = TraceText.render(1, [try only(answer("a", [flow]), answer("b", [], here: true))])
    #expect(!between.contains("Look at the server") && between.contains("Look at what lies between the nodes"))
    // Dropped on the server's node: its own advice.
    var dropped = self.flow("server", "lost", "answer_dropped_on_node", legs: 3, at: 2)
    dropped.advice = "Look at the answer."
    #expect(TraceText.render(1, [try only(answer("a", [flow]), answer("b", [dropped]))]).hasSuffix("  Look at the answer.\n"))
  }

  @Test func milliseconds() {
    #expect(
      [0, 41_499, 41_500, 1_234_567_890, -1_500_000, -400].map(TraceText.milliseconds) == [
        "0.000 ms", "0.041 ms", "0.042 ms", "1234.568 ms", "-1.500 ms", "0.000 ms",
      ])
  }

  @Test func timesAreReadAsTheyAreWritten() {
    for nanoseconds: Int64 in [0, 1, 951_782_400_000_000_000, 1_795_000_000_123_456_789, 4_102_444_799_999_999_999] {
      var text: [UInt8] = []
      CivilTime(WallTime(nanoseconds: nanoseconds)).appendRFC3339(to: &text)
      #expect(CivilTime.parseRFC3339(String(decoding: text, as: UTF8.self))?.nanoseconds == nanoseconds)
    }
    for text in ["", "2026-11-21T06:00:00Z", "2026-13-21T06:00:00.123456789Z", "2026-11-21 06:00:00.123456789Z", "2026-11-21T06:00:00.12345678xZ"] {
      #expect(CivilTime.parseRFC3339(text) == nil)
    }
  }
}
