import Correlation
import Flows
import Glibc
import LinuxIO
import Reporting

/// `/api/v1/flows/ID`, on the pipeline's thread: HTTP's thread hands the question over and waits.
enum FlowLookups {
  /// Answers what is waiting.
  static func answer(_ server: borrowing HTTPServer, _ pipeline: Pipeline, _ options: RecordOptions) {
    server.answerFlows { id, backend, body in
      var answer = FlowAnswer(
        id: id, time: Clocks.wall(), version: Version.text, serverFlowsSince: pipeline.engine.serverFlowsSince,
        lostFlowsSince: pipeline.engine.lostFlowsSince
      ) { FlowAnswer.Device(name: deviceName($0), kind: pipeline.engine.deviceKind($0).name) }
      answer.flows = pipeline.engine.flows(id)
      answer.blind = pipeline.engine.packetBlindWindows()
      answer.isBackendHere = backend.map { pipeline.engine.serves($0) }
      RecordWriter(options: options).append(answer, to: &body)
      return answer.flows.isEmpty ? 404 : 200
    }
  }

  /// Empty where the device is gone.
  private static func deviceName(_ index: UInt32) -> String {
    var name = [CChar](repeating: 0, count: Int(IF_NAMESIZE))
    guard unsafe if_indextoname(index, &name) != nil else { return "" }
    return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}

extension Pipeline {
  static var flowsToken: EventToken { EventToken(10) }
}

extension NetworkDevice.Kind {
  fileprivate var name: StaticString {
    switch self {
    case .workload: "workload"
    case .bridge: "bridge"
    case .uplink: "uplink"
    case .tunnel: "tunnel"
    case .loopback: "loopback"
    case .other: "other"
    }
  }
}
