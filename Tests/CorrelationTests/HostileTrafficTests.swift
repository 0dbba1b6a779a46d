import Flows
import Glibc
import Testing

@testable import Correlation

/// What one packet can cost, whatever is sent, of the processor's time: what other processes take does not count. Bounds are for a debug build; a
/// walk over a whole table is far above them.
@Suite(.serialized) struct HostileTrafficTests {
  private static let bound = Duration.milliseconds(3)

  private func full() -> Scenario {
    Scenario {
      $0.transmissions = 65_536
      $0.entries = 65_536
      $0.services = 8_192
      $0.nameBytes = 4 << 20
    }
  }

  /// What this thread has had of a processor so far.
  private static var spent: Duration {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
  }

  /// Time per step of `body`, of the worst tenth of all steps; advances every thousand steps.
  private func cost(_ label: String, _ scenario: Scenario, _ number: Int, _ body: (Int) -> Void) -> Duration {
    var worst = Duration.zero
    let part = number / 10
    for tenth in 0..<10 {
      let before = Self.spent
      for index in tenth * part..<(tenth + 1) * part {
        body(index)
        if index % 1000 == 999 {
          scenario.pass(10 * millisecond)
          scenario.engine.advance(to: scenario.at, wall: scenario.wall)
          scenario.engine.records.removeAll(keepingCapacity: true)
        }
      }
      worst = max(worst, (Self.spent - before) / part)
    }
    print("\(label): \(worst) a step")
    return worst
  }

  @Test func oneQuestionOfOneSocketForEver() {
    let scenario = full()
    let ask = Ask(scenario, port: 40000)
    #expect(cost("same question", scenario, 30_000) { _ in ask.asked() } < Self.bound)
    #expect(cost("its sent legs", scenario, 3_000) { _ in ask.sent() } < Self.bound)
    #expect(cost("its answers", scenario, 3_000) { _ in ask.delivered() } < Self.bound)
    #expect(scenario.isConserved)
    scenario.wait(40 * second)
    #expect(scenario.engine.transmissions.count == 0 && scenario.isConserved)
  }

  @Test func moreDistinctQuestionsThanThereIsRoomFor() {
    let scenario = full()
    let pods = cost("distinct questions", scenario, 70_000) { index in
      var ask = Ask(scenario, port: UInt16(truncatingIfNeeded: index), id: UInt16(truncatingIfNeeded: index &* 7))
      ask.client.address = IPAddress(v4: 0x0A00_0000 + UInt32(index / 60_000))
      ask.name = "n\(index % 100).example"
      ask.asked()
    }
    #expect(pods < Self.bound)
    #expect(scenario.isConserved)
    #expect(scenario.engine.transmissions.count <= 65_536)
  }

  @Test func answersThatNobodyAskedFor() {
    let scenario = full()
    for _ in 0..<500 { Ask(scenario, port: 40000).asked() }
    let dns = scenario.message(1, "a.example", QueryType.a, response: true)
    let worst = cost("foreign answers", scenario, 5_000) { index in
      scenario.copy(endpoint("8.8.8.8"), endpoint("10.0.1.2", 40001), on: 21, out: index % 2 == 0, dns, name: "a.example")
    }
    #expect(worst < Self.bound)
    #expect(scenario.engine.totals.unmatchedAnswers == 5_000)
  }

  @Test func manyHoldersOfOneReplyTuple() {
    let scenario = full()
    let worst = cost("one reply tuple", scenario, 20_000) { index in
      let client = Endpoint(IPAddress(v4: 0x0A00_0000 + UInt32(index)), 40000)
      scenario.new((client, scenario.vip), reply: (scenario.backend, Endpoint(scenario.nodeAddress, 40000)))
      if index % 4 == 0 {
        scenario.new(
          (client, scenario.vip), reply: (scenario.backend, Endpoint(scenario.nodeAddress, 40000)), kind: .update, status: [.natClash])
      }
    }
    #expect(worst < Self.bound)
  }

  @Test func thousandsOfLossesASecond() {
    let scenario = full()
    scenario.warmUp()
    var index = 0
    let before = Self.spent
    // Three seconds of fifty races a sweep, as bursts between the readings.
    for _ in 0..<300 {
      scenario.pass(millisecond)
      for _ in 0..<50 {
        index += 1
        let port = UInt16(22000 + index % 40_000)
        let winner = Ask(scenario, port: port, to: scenario.vip, id: UInt16(truncatingIfNeeded: index))
        let loser = Ask(scenario, port: port, to: scenario.secondVIP, id: UInt16(truncatingIfNeeded: index))
        winner.entry()
        winner.asked()
        loser.asked()
        winner.sent()
        scenario.fail(1)
        winner.came()
        winner.delivered()
      }
      scenario.wait(10 * millisecond)
    }
    let spent = Self.spent - before
    print("15,000 races in 3 s: \(spent)")
    scenario.wait(15 * second)
    #expect(spent < .seconds(8))
    #expect(scenario.losses.count == index)
    let observed = scenario.losses.count { $0.verdict == .replyClashDropped && $0.grade == .observed }
    print("observed: \(observed) of \(index)")
    #expect(observed * 100 >= index * 95)
    #expect(scenario.isConserved)
  }
}
