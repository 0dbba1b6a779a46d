import TestSupport
import Testing

/// The scorer against judges whose faults are known. Needs no kernel.
@Suite struct ScoreTests {
  private static func query(_ id: Int, answered: Bool) -> AskedQuery {
    AskedQuery(
      key: QueryKey(client: "10.40.0.11", clientPort: 40000 + id, id: id, name: "p\(id).test", type: "A", server: "10.96.0.10"), sent: 1,
      answered: answered ? 2 : nil)
  }

  /// Ten clash losses and ten answered queries.
  private static let truth: Truth = {
    var truth = Truth()
    truth.add((0..<20).map { query($0, answered: $0 >= 10) }, .replyRace, arrivals: [:])
    return truth
  }()

  private static func judgements(_ verdict: String = "reply_clash_dropped", grade: String = "observed") -> [Judgement] {
    truth.lost.keys.sorted { $0.id < $1.id }.map { Judgement(key: $0, verdict: verdict, grade: grade) }
  }

  private static func passes(_ judgements: [Judgement], _ requirement: Score.Requirement, _ truth: Truth = truth) -> Bool {
    Score(truth, judgements).problems(requirement).isEmpty
  }

  @Test func truthPasses() {
    #expect(Self.passes(Self.judgements(), .quiet))
    #expect(Self.passes(Self.judgements(), .mixed))
  }

  @Test func missedLossFails() { #expect(!Self.passes(Self.judgements().dropLast(), .mixed)) }

  @Test func repeatedLossFails() { #expect(!Self.passes(Self.judgements() + Self.judgements().prefix(1), .mixed)) }

  @Test func answeredQueryCalledLostFails() {
    let alarm = Judgement(key: Self.query(15, answered: true).key, verdict: "no_answer", grade: "inferred")
    #expect(!Self.passes(Self.judgements() + [alarm], .mixed))
  }

  @Test func inventedQueryFails() {
    let alarm = Judgement(key: Self.query(99, answered: false).key, verdict: "no_answer", grade: "inferred")
    #expect(!Self.passes(Self.judgements() + [alarm], .mixed))
  }

  @Test(arguments: ["observed", "proven"]) func sureAndWrongFails(grade: String) {
    var said = Self.judgements()
    said[0] = Judgement(key: said[0].key, verdict: "dropped_on_node", grade: grade)
    #expect(!Self.passes(said, .mixed))
  }

  @Test func wrongButInferredIsBorneInMixedRunsOnly() {
    var said = Self.judgements()
    said[0] = Judgement(key: said[0].key, verdict: "dropped_on_node", grade: "inferred")
    #expect(Self.passes(said, .mixed))
    #expect(!Self.passes(said, .quiet))
  }

  @Test func hesitationFailsQuietRuns() {
    #expect(!Self.passes(Self.judgements(grade: "inferred"), .quiet))
    #expect(!Self.passes(Self.judgements(grade: "observed"), .probed))
    #expect(Self.passes(Self.judgements(grade: "proven"), .probed))
  }

  @Test func rowsSumUpToWhatWasSent() {
    #expect(Score(Self.truth, Self.judgements()).judged == 20)
    #expect(Score(Self.truth, []).judged == 20)
    #expect(Score(Self.truth, Self.judgements()).matrix.filter { $0.key.truth == "answered" && $0.key.said == "nothing" }.map(\.value) == [10])
  }

  /// Sent twice, answered twice: the first answer is taken, the second is late.
  @Test func aRetriedQueryIsTwoTransmissions() {
    let query = Self.query(1, answered: true)
    var truth = Truth()
    truth.add([query], .retried, arrivals: [Arrival(query.key): 2])
    #expect(truth.sent == 2 && truth.lost == [query.key: "late_answer"] && truth.answered == [query.key])
    #expect(Self.passes([Judgement(key: query.key, verdict: "late_answer", grade: "observed")], .quiet, truth))
    #expect(!Self.passes([], .mixed, truth))
    truth = Truth()
    truth.add([query], .retried, arrivals: [Arrival(query.key): 1])
    #expect(truth.unexplained.count == 1)
  }

  @Test func sameQuestionToTwoServersIsToldApart() {
    var lost = Self.query(1, answered: false)
    var other = Self.query(1, answered: true)
    lost.key.server = "10.96.0.11"
    var truth = Truth()
    truth.add([lost, other], .replyRace, arrivals: [Arrival(other.key): 1])
    #expect(truth.lost == [lost.key: "reply_clash_dropped"])
    other.answered = nil
    truth = Truth()
    truth.add([other], .replyRace, arrivals: [Arrival(other.key): 1])
    #expect(truth.unexplained.count == 1)
  }
}
