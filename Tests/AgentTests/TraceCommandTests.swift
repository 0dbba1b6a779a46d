import Flows
import Foundation
import LinuxIO
import TestSupport
import Testing

@testable import Agent
@testable import Reporting

@Suite struct TraceCommandTests {
  @Test(arguments: [
    [], ["12"], ["0123456789abcdeg"], ["0123456789abcdef", "x"], ["0123456789abcdef", "--agent"], ["0123456789abcdef", "--agent", "node-a"],
    ["0123456789abcdef", "--agent", "https://node-a"], ["0123456789abcdef", "--agnet", "http://x"], ["0123456789abcdef", "--timeout", "5"],
    ["0123456789abcdef", "--json", "--json"], ["0123456789abcdef", "--web.user-file", "/nowhere"],
  ])
  func wrongUsageEndsWithTwo(_ arguments: [String]) { #expect(TraceCommand.run(arguments) == 2) }

  @Test func anUnreachableAgentEndsWithThree() {
    #expect(TraceCommand.run(["0123456789ABCDEF", "--agent", "http://127.0.0.1:1"]) == 3)
    #expect(TraceCommand.run(["0123456789ABCDEF", "--agent", "http://127.0.0.1:1", "--json"]) == 3)
  }

  @Test func helpTellsTheExitStatuses() {
    #expect(TraceCommand.run(["--help"]) == 0)
    let options = TraceOptions.table.options.map(\.name)
    #expect(options == ["agent", "web.user-file", "timeout", "json"])
  }

  @Test(arguments: [
    ("a:b", "Basic YTpi"), ("Aladdin:open sesame\nx", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), ("u:ü", "Basic dTrDvA=="),
    ("user:\r\n", "Basic dXNlcjo="),
  ])
  func basicAuthorization(_ row: (String, String)) throws { #expect(try TraceCommand.basicAuthorization(Array(row.0.utf8)) == row.1) }

  @Test(arguments: ["", "nobody", "\na:b", "a:b\u{7}"])
  func whatIsNoUserIsRefused(_ text: String) { #expect(throws: FileError.self) { try TraceCommand.basicAuthorization(Array(text.utf8)) } }

  @Test func jsonIsReadWholeOrNotAtAll() {
    #expect(
      JSONValue(Array(#"{"a":[1,-2.5,true,null,"\u00fc\n"],"b":{}}"#.utf8))
        == .object(["a": .array([.integer(1), .real(-2.5), .boolean(true), .null, .string("ü\n")]), "b": .object([:])]))
    for text in ["", "{", #"{"a":1}x"#, #"{"a":1,"a":2}"#, #"{"a":"\ud800"}"#, "[1,]", "nul", "\u{0}"] {
      #expect(JSONValue(Array(text.utf8)) == nil, "\(text)")
    }
    #expect(JSONValue([0x22, 0xFF, 0x22]) == nil)
    let deep = String(repeating: "[", count: 1000) + String(repeating: "]", count: 1000)
    #expect(JSONValue(Array(deep.utf8)) != nil && JSONValue(Array((deep + deep).utf8)) == nil)
  }

  /// What the agent writes is what the trace reads, and what the schema says.
  @Test func anAnswerIsReadAsItWasWritten() throws {
    var flow = TracedFlow()
    flow.vantage = .client
    flow.state = .lost
    flow.verdict = .noAnswer
    flow.reason = .silent
    flow.grade = .observed
    flow.incidentID = 9
    flow.dnsID = 4711
    flow.name = [1, 0x61, 0]
    flow.queryType = QueryType.aaaa
    flow.client = Endpoint(IPAddress("fd40::11")!, 33000)
    flow.server = Endpoint(IPAddress("fd96::10")!, 53)
    flow.sentDestination = Endpoint(IPAddress("fd60::11")!, 5353)
    flow.sentSource = flow.client
    flow.attempt = 2
    flow.asked = TracedFlow.Leg(time: WallTime(nanoseconds: 1_795_000_000_000_000_001), interface: 3)
    flow.sent = TracedFlow.Leg(time: WallTime(nanoseconds: 1_795_000_000_000_050_000), interface: 4)
    var served = flow
    served.vantage = .server
    served.state = .answered
    served.name = nil
    served.isHandedOver = true
    served.came = served.sent
    served.delivered = served.sent
    let now = WallTime(nanoseconds: 1_795_000_010_000_000_000)
    var answer = FlowAnswer(id: 0xABC, time: now, version: "1", serverFlowsSince: WallTime(nanoseconds: 5), lostFlowsSince: WallTime(nanoseconds: 6))
    {
      FlowAnswer.Device(name: $0 == 3 ? "veth\"1" : "", kind: "workload")
    }
    answer.flows = [flow, served]
    answer.blind = [BlindWindow(source: .packets, start: WallTime(nanoseconds: 7), end: WallTime(nanoseconds: 8), lost: 1)]
    answer.isBackendHere = true
    var bytes: [UInt8] = []
    RecordWriter(options: RecordOptions(nodeName: "node-a")).append(answer, to: &bytes)
    let read = try #require(
      JSONValue(bytes).flatMap {
        TraceAnswer($0, url: "u", asked: WallTime(nanoseconds: now.nanoseconds - 3_000), answered: WallTime(nanoseconds: now.nanoseconds - 1_000))
      })
    #expect(read.node == "node-a" && read.clockOffset == 2_000 && read.clockError == 1_000 && read.isBackendHere == true)
    #expect(read.serverFlowsSince == 5 && read.lostFlowsSince == 6 && read.blind == [TraceAnswer.Blind(source: "packets", start: 7, end: 8)])
    let first = try #require(read.flows.first)
    #expect(first.vantage == "client" && first.verdict == "no_answer" && first.reason == "silent" && first.grade == "observed")
    #expect(first.question == "a AAAA ID 4711" && first.client == "[fd40::11]:33000" && first.destination == "[fd60::11]:5353" && first.attempt == 2)
    #expect(first.asked == TraceFlow.Leg(time: 1_795_000_000_000_000_001, device: "veth\"1") && first.sent?.device == "" && first.came == nil)
    #expect(read.flows.last?.isHandedOver == true && read.flows.last?.question == "AAAA ID 4711" && read.flows.last?.delivered != nil)

    var unknown = answer
    unknown.flows = []
    unknown.isBackendHere = nil
    RecordWriter(options: RecordOptions()).append(unknown, to: &bytes)
    var story = TraceStory(flow: first)
    story.sentence = "Delivered."
    story.steps = [TraceStory.Step(node: "n", name: "asked", time: 1, device: "", sinceFirst: -1_500_000_000, error: 5)]
    var agent = TraceAgent(url: "http://x")
    agent.problem = "no"
    TraceJSON.append(1, [story], [agent, TraceAgent(url: "http://y")], to: &bytes)
    let lines = String(decoding: bytes, as: UTF8.self)
    #expect(lines.contains(#""since_first_seconds":-1.5,"#))
    #expect(try RecordSchema.problem(of: lines, schema: "docs/flows.schema.json") == nil)
  }
}
