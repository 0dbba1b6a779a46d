import Flows
import Testing

@testable import Correlation

/// What is kept for `racetrack trace`.
@Suite struct FlowLogTests {
  let scenario = Scenario { $0.flows = 1024 }
  var remote: Endpoint { endpoint("10.0.9.9", 40000) }

  /// A query of another node's client for a backend of this node, leg by leg.
  private func served(_ id: UInt16 = 7, name: String = "a.example", from client: Endpoint? = nil, legs: Int = 4) {
    let client = client ?? remote
    let dns = scenario.message(id, name, QueryType.a)
    let answer = scenario.message(id, name, QueryType.a, response: true)
    scenario.copy(client, scenario.backend, on: 2, out: false, dns, name: name)
    guard legs > 1 else { return }
    scenario.pass(10 * microsecond)
    scenario.copy(client, scenario.backend, on: 21, out: true, dns, name: name)
    guard legs > 2 else { return }
    scenario.pass(200 * microsecond)
    scenario.copy(scenario.backend, client, on: 21, out: false, answer, name: name)
    guard legs > 3 else { return }
    scenario.copy(scenario.backend, client, on: 2, out: true, answer, name: name)
  }

  private func number(_ source: Endpoint, _ destination: Endpoint, _ id: UInt16, _ name: String) -> UInt64 {
    FlowID.hash(FiveTuple(udp: source, destination), id: id, type: QueryType.a, name: Scenario.wire(name).span.bytes)
  }

  private var flows: (UInt64) -> [TracedFlow] { { scenario.engine.flows($0) } }

  @Test func bothNodesGiveOneNumber() {
    // Node of the client: a service address, translated to the backend; the answer never comes.
    let client = Scenario()
    client.warmUp()
    let ask = Ask(client, port: 30000, id: 7, name: "Api.Example")
    ask.entry()
    ask.asked()
    ask.sent()
    client.wait(11 * second)
    let id = client.losses.last?.flowID ?? 0
    #expect(client.losses.last?.verdict == .noAnswer && id != 0)
    // Node of the server: what the client's node sent arrives, spelled in another case.
    served(7, name: "aPI.eXAMPLE", from: ask.client)
    scenario.wait(2 * second)
    let seen = flows(id)
    #expect(seen.count == 1 && seen.first?.vantage == .server && seen.first?.state == .answered && seen.first?.client == ask.client)
    // The client's own.
    client.wait(60 * second)
    let own = client.engine.flows(id)
    #expect(own.count == 1 && own.first?.verdict == .noAnswer && own.first?.name == Scenario.wire("Api.Example"))
    #expect(own.first?.sentDestination == ask.backend && own.first?.isHandedOver == true && own.first?.came == nil)
    #expect(own.first?.incidentID == client.losses.last?.incidentID)
  }

  @Test func masqueradedClientsAreKnownByTheTupleOnTheWire() {
    let client = Scenario()
    client.warmUp()
    var ask = Ask(client, port: 30000, id: 9)
    ask.natted = Endpoint(client.nodeAddress, 51000)
    ask.entry()
    ask.asked()
    ask.sent()
    client.wait(11 * second)
    #expect(client.losses.last?.flowID == number(Endpoint(client.nodeAddress, 51000), ask.backend, 9, "a.example"))
    served(9, from: Endpoint(client.nodeAddress, 51000))
    #expect(flows(client.losses.last?.flowID ?? 0).count == 1)
  }

  @Test func legsAreKeptToTheMicrosecond() throws {
    served(7)
    scenario.wait(3 * second)
    let flow = try #require(flows(number(remote, scenario.backend, 7, "a.example")).first)
    let start = flow.asked.time.nanoseconds
    #expect(flow.sent?.time.nanoseconds == start + 11 * microsecond && flow.came?.time.nanoseconds == start + 212 * microsecond)
    #expect(flow.delivered?.time.nanoseconds == start + 213 * microsecond && flow.untranslated == nil && flow.name == nil)
    #expect([flow.asked.interface, flow.sent?.interface, flow.came?.interface, flow.delivered?.interface] == [2, 21, 21, 2])
  }

  @Test func whatArrivedAndWentNowhereIsKept() {
    served(7, legs: 1)
    let id = number(remote, scenario.backend, 7, "a.example")
    #expect(flows(id).map(\.state) == [.open])
    scenario.wait(3 * second)
    #expect(flows(id).map(\.state) == [.notForwarded] && flows(id).first?.sent == nil)
    #expect(scenario.losses.isEmpty)
  }

  @Test func whatPassesThroughIsNot() {
    let dns = scenario.message(7, "a.example", QueryType.a)
    scenario.engine.deviceChanged(3, .uplink)
    scenario.copy(remote, endpoint("10.9.9.9"), on: 2, out: false, dns, name: "a.example")
    scenario.copy(remote, endpoint("10.9.9.9"), on: 3, out: true, dns, name: "a.example")
    scenario.wait(3 * second)
    #expect(flows(number(remote, endpoint("10.9.9.9"), 7, "a.example")).isEmpty)
  }

  @Test func answeredQueriesOfClientsAreForgotten() {
    scenario.warmUp()
    let ask = Ask(scenario, port: 31000, id: 3)
    ask.answered()
    let id = number(ask.client, ask.backend, 3, "a.example")
    #expect(flows(id).map(\.state) == [.answered])
    scenario.wait(2 * second)
    #expect(flows(id).isEmpty && use("flows").used == 0 && use("lost_flows").used == 0)
  }

  @Test func theLogIsCappedAndSaysSinceWhenItIsWhole() {
    let start = scenario.engine.serverFlowsSince.nanoseconds
    for index in 0..<2500 {
      served(UInt16(index), from: Endpoint(v4("10.0.9.9"), UInt16(10000 + index)))
      scenario.wait(10 * millisecond)
    }
    scenario.wait(3 * second)
    #expect(use("flows").used <= 1024 && use("flows").used > 512)
    #expect(use("flows").evictions >= 1536 && use("flows").evictions % 512 == 0)
    #expect(scenario.engine.serverFlowsSince.nanoseconds > start)
    // The newest is there, the oldest is not, and nothing that is asked for is older than what is promised.
    #expect(flows(number(Endpoint(v4("10.0.9.9"), 12499), scenario.backend, 2499, "a.example")).count == 1)
    #expect(flows(number(Endpoint(v4("10.0.9.9"), 10000), scenario.backend, 0, "a.example")).isEmpty)
  }

  @Test func blocksOlderThanAMinuteAreGivenBack() {
    func flood(_ port: Int) {
      for index in 0..<600 { served(UInt16(index), from: Endpoint(v4("10.0.9.9"), UInt16(port + index))) }
    }
    flood(10000)
    scenario.wait(3 * second)
    #expect(use("flows").used == 600)
    scenario.wait(61 * second)
    flood(20000)
    scenario.wait(3 * second)
    #expect(use("flows").used == 1200 - 512 && use("flows").evictions == 0)
  }

  @Test func theLatestLossesStay() {
    let large = Scenario {
      $0.transmissions = 4096
      $0.nameBytes = 1 << 20
    }
    large.warmUp()
    for index in 0..<1100 {
      Ask(large, port: UInt16(20000 + index), id: UInt16(index)).asked()
      if index % 100 == 99 { large.wait(10 * millisecond) }
    }
    large.wait(30 * second)
    #expect(large.losses.count == 1100)
    let (first, last) = (large.losses.map(\.flowID).min { _, _ in false }, large.losses.last?.flowID)
    #expect(large.engine.flows(last ?? 0).count == 1 && first != last)
    #expect(large.engine.tableUse().first { "\($0.name)" == "lost_flows" }?.used == 1024)
    #expect(large.losses.count { large.engine.flows($0.flowID).isEmpty } == 76)
    #expect(large.engine.lostFlowsSince.nanoseconds > Scenario.wallStart)
  }

  @Test func longNamesAreHashedWhole() {
    let long = (0..<8).map { _ in String(repeating: "x", count: 30) }.joined(separator: ".")
    served(7, name: long)
    served(8, name: long + "y")
    scenario.wait(3 * second)
    #expect(flows(number(remote, scenario.backend, 7, long)).count == 1)
    #expect(flows(number(remote, scenario.backend, 7, long + "y")).isEmpty)
    #expect(flows(number(remote, scenario.backend, 8, long + "y")).count == 1)
  }

  private func use(_ table: String) -> (used: Int, evictions: UInt64) {
    scenario.engine.tableUse().first { "\($0.name)" == table }.map { ($0.used, $0.evictions) } ?? (-1, 0)
  }
}
