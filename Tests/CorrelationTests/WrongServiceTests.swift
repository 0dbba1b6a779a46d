import Flows
import Testing

@testable import Correlation

/// IPVS finds the connection of an answer by backend and client alone: what one socket asked of two services that share a backend leaves in the name
/// of the one that was asked last. Legs, entries and their order are those of Linux 6.1 with net.ipv4.vs.conntrack=1.
@Suite struct WrongServiceTests {
  private func warm() -> Scenario {
    let scenario = Scenario()
    scenario.warmUp()
    return scenario
  }

  /// The second entry's port is another: the reply tuple is taken (`get_unique_tuple` in net/netfilter/nf_nat_core.c).
  private func pair(_ scenario: Scenario, id: UInt16 = 7, name: String = "m.example", type: UInt16 = QueryType.a) -> (Ask, Ask) {
    let first = Ask(scenario, port: 30040, id: id, name: name, type: type)
    var second = Ask(scenario, port: 30040, to: scenario.secondVIP, id: id, name: name, type: type)
    second.natted = Endpoint(scenario.pod, 3106)
    return (first, second)
  }

  private func forward(_ ask: Ask, isNew: Bool = true) {
    if isNew { ask.entry() }
    ask.asked()
    ask.scenario.pass(500 * microsecond)
    ask.sent()
    ask.scenario.pass(800 * microsecond)
  }

  /// An answer that comes for `ask` and leaves in the name of `other`.
  private func answer(_ ask: Ask, inTheNameOf other: Ask) {
    ask.came()
    ask.scenario.pass(100 * microsecond)
    ask.scenario.copy(other.server, ask.client, on: ask.device, out: true, ask.answerMessage(), name: ask.name)
    ask.scenario.pass(500 * microsecond)
  }

  private func check(_ scenario: Scenario, _ grade: Grade = .observed, impact: Impact, impactObserved: Bool) throws {
    #expect(scenario.losses.count == 1)
    let lost = try #require(scenario.losses.first)
    #expect(lost.verdict == .answerUntranslated && lost.reason == .wrongService && lost.grade == grade && lost.server == scenario.vip)
    #expect(lost.evidence == [.asked, .sent, .came, .noDelivered, .untranslatedCopy])
    #expect(scenario.closings.map(\.impact) == [impact] && scenario.closings.map(\.impactObserved) == [impactObserved])
    #expect(scenario.engine.totals.duplicateAnswers == 0 && scenario.engine.totals.unmatchedAnswers == 0)
    #expect(scenario.isConserved)
  }

  /// musl asks both the same: the answers come in either order.
  @Test(arguments: [false, true]) func theSameQuestionOfBoth(lastComesFirst: Bool) throws {
    let scenario = warm()
    let (first, last) = pair(scenario)
    forward(first)
    forward(last)
    answer(lastComesFirst ? last : first, inTheNameOf: last)
    answer(lastComesFirst ? first : last, inTheNameOf: last)
    scenario.wait(30 * second)
    try check(scenario, impact: .none, impactObserved: true)
  }

  /// The first answer was delivered in its own name before the second service was asked; the AAAA that follows over the same entry is not.
  @Test func aLaterQuestionOverTheSameEntry() throws {
    let scenario = warm()
    let (first, last) = pair(scenario)
    forward(first)
    answer(first, inTheNameOf: first)
    forward(last)
    answer(last, inTheNameOf: last)
    let (third, fourth) = pair(scenario, id: 9, type: QueryType.aaaa)
    forward(third, isNew: false)
    answer(third, inTheNameOf: fourth)
    forward(fourth, isNew: false)
    answer(fourth, inTheNameOf: fourth)
    scenario.wait(30 * second)
    try check(scenario, impact: .none, impactObserved: true)
  }

  /// The answers come long after each other, each after both were asked.
  @Test func slowAnswersOfBoth() throws {
    let scenario = warm()
    let (first, last) = pair(scenario)
    forward(first)
    scenario.wait(300 * millisecond)
    forward(last)
    scenario.wait(300 * millisecond)
    answer(first, inTheNameOf: last)
    scenario.wait(300 * millisecond)
    answer(last, inTheNameOf: last)
    scenario.wait(30 * second)
    try check(scenario, impact: .failed, impactObserved: false)
  }

  /// The other query failed to insert, and the one answer left in its name: it was not answered.
  @Test func theOtherWasLostToTheRace() throws {
    let scenario = warm()
    let (first, last) = pair(scenario)
    first.entry()
    first.asked()
    last.asked()
    scenario.pass(500 * microsecond)
    first.sent()
    scenario.counters.insertFailed += 1
    scenario.counters.drop += 1
    scenario.pass(500 * microsecond)
    answer(first, inTheNameOf: last)
    scenario.wait(30 * second)
    let verdicts = Dictionary(uniqueKeysWithValues: scenario.losses.map { ($0.server, $0) })
    #expect(verdicts[scenario.vip]?.reason == .wrongService && verdicts[scenario.vip]?.grade == .observed)
    #expect(verdicts[scenario.secondVIP]?.verdict == .replyClashDropped && verdicts[scenario.secondVIP]?.grade == .observed)
    #expect(scenario.losses.count == 2 && scenario.isConserved)
  }

  /// Nobody asked the other service that: whether the client takes it is not known.
  @Test func aQuestionOfOneOnly() throws {
    let scenario = warm()
    let (first, last) = pair(scenario)
    forward(first)
    answer(first, inTheNameOf: first)
    forward(last)
    answer(last, inTheNameOf: last)
    scenario.wait(300 * millisecond)
    let (later, _) = pair(scenario, id: 11, name: "w.example")
    forward(later, isNew: false)
    answer(later, inTheNameOf: last)
    scenario.wait(30 * second)
    try check(scenario, impact: .failed, impactObserved: false)
  }

  @Test func aVLANsCopiesAreOne() throws {
    let scenario = warm()
    let (first, last) = pair(scenario)
    forward(last)
    answer(last, inTheNameOf: last)
    let (later, _) = pair(scenario, id: 11, name: "w.example")
    forward(later)
    answer(later, inTheNameOf: last)
    scenario.copy(last.server, first.client, on: 12, out: true, later.answerMessage(), name: later.name)
    scenario.wait(30 * second)
    try check(scenario, impact: .failed, impactObserved: false)
  }

  /// The other's own answer never came: the one copy may have been its answer, whose coming was not seen.
  @Test func oneCopyForTwoIsNotSure() throws {
    let scenario = warm()
    let (first, last) = pair(scenario)
    forward(first)
    forward(last)
    answer(first, inTheNameOf: last)
    scenario.wait(30 * second)
    try check(scenario, .inferred, impact: .none, impactObserved: true)
  }

  /// The other one's answer came twice and left twice: that says nothing of the first one's, which a rule dropped.
  @Test func duplicatesOfTheOtherAreItsOwn() throws {
    let scenario = warm()
    let (first, last) = pair(scenario)
    forward(first)
    forward(last)
    answer(last, inTheNameOf: last)
    first.came()
    answer(last, inTheNameOf: last)
    answer(last, inTheNameOf: last)
    scenario.wait(30 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.verdict == .answerDroppedOnNode && lost.grade == .observed && lost.server == scenario.vip)
    #expect(scenario.engine.totals.duplicateAnswers == 2)
  }

  /// From an address that is no service known here: why is not known.
  @Test func aThirdAddress() throws {
    let scenario = warm()
    let (first, _) = pair(scenario)
    forward(first)
    first.came()
    scenario.copy(endpoint("10.9.9.9"), first.client, on: 11, out: true, first.answerMessage(), name: first.name)
    scenario.wait(30 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.verdict == .answerUntranslated && lost.reason == .none && lost.grade == .inferred)
  }

  /// Without a question section the socket and the ID name it.
  @Test func anAnswerWithoutAQuestion() throws {
    let scenario = warm()
    let (first, last) = pair(scenario)
    forward(first)
    var answer = DNSMessage()
    answer.id = 7
    answer.isResponse = true
    answer.responseCode = 1
    scenario.copy(first.backend, first.client, on: 21, out: false, answer, name: "")
    scenario.copy(last.server, first.client, on: 11, out: true, answer, name: "")
    scenario.wait(30 * second)
    try check(scenario, impact: .failed, impactObserved: false)
  }

  /// Its coming was not seen: silence is not sure.
  @Test func aCopyThatWasNotSeenToCome() throws {
    let scenario = warm()
    let (first, last) = pair(scenario)
    forward(first)
    scenario.copy(last.server, first.client, on: 11, out: true, first.answerMessage(), name: first.name)
    scenario.wait(30 * second)
    let lost = try #require(scenario.losses.first)
    #expect(lost.verdict == .noAnswer && lost.grade == .inferred)
  }

  /// A service whose backend is on this node: nothing leaves and nothing comes.
  private func local(_ scenario: Scenario, id: UInt16) -> Ask {
    let ask = Ask(scenario, port: 30040, backend: Endpoint(scenario.nodeAddress, 53), id: id, name: "m.example")
    ask.entry()
    return ask
  }

  /// The answer of a server on this node is its own, while another server that the socket asked the same is still silent.
  @Test func aServerOnThisNodeAnswersForItself() throws {
    let scenario = warm()
    for index in 0..<8 {
      let ask = Ask(scenario, port: UInt16(31000 + index), backend: Endpoint(scenario.nodeAddress, 53), id: UInt16(100 + index), name: "m.example")
      ask.entry()
      ask.asked()
      scenario.pass(100 * microsecond)
      ask.delivered()
      scenario.wait(20 * millisecond)
    }
    let here = local(scenario, id: 7)
    var there = Ask(scenario, port: 30040, to: scenario.secondVIP, id: 7, name: "m.example")
    there.natted = Endpoint(scenario.pod, 3106)
    here.asked()
    forward(there)
    here.delivered()
    scenario.wait(30 * second)
    let lost = try #require(scenario.losses.first)
    #expect(scenario.losses.count == 1 && lost.server == scenario.secondVIP)
    #expect(lost.verdict == .noAnswer && lost.reason == .silent && lost.grade == .observed)
    #expect(scenario.closings.map(\.impact) == [.none] && scenario.isConserved)
  }

  /// It answered twice, and a rule dropped what came from the other.
  @Test func aServerOnThisNodeAnswersTwice() throws {
    let scenario = warm()
    let here = local(scenario, id: 7)
    var there = Ask(scenario, port: 30040, to: scenario.secondVIP, id: 7, name: "m.example")
    there.natted = Endpoint(scenario.pod, 3106)
    here.asked()
    forward(there)
    there.came()
    here.delivered()
    scenario.pass(100 * microsecond)
    here.delivered()
    scenario.wait(30 * second)
    let lost = try #require(scenario.losses.first)
    #expect(scenario.losses.count == 1 && lost.server == scenario.secondVIP)
    #expect(lost.verdict == .answerDroppedOnNode && lost.grade == .observed)
    #expect(scenario.engine.totals.duplicateAnswers == 1)
  }
}
