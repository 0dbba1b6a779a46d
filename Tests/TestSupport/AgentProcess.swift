import Foundation
import Glibc

/// `racetrack agent` in a lab's node namespace.
package final class AgentProcess {
  package static let listenAddress = "127.0.0.1:10553"
  package static let apiAddress = "127.0.0.1:10554"

  private let node: String
  private let process: Background
  private let recordsPath: String
  private let authorization: [String]

  /// Starts the agent; every incident is written, none sampled away.
  package convenience init(_ lab: Lab, options: [String] = []) throws { try self.init(in: lab.node, options: options) }

  /// Starts the agent in a namespace.
  ///
  /// - Parameters:
  ///   - user: `name:password`, where the options name a web configuration with users.
  ///   - wrapper: a program with its arguments that runs the agent.
  package init(in node: String, apiAddress: String = apiAddress, user: String? = nil, options: [String] = [], wrapper: [String] = []) throws {
    self.node = node
    authorization = user.map { ["Authorization: Basic " + Data($0.utf8).base64EncodedString()] } ?? []
    recordsPath = Lab.scratch + "/\(UUID().uuidString).jsonl"
    process = try Background(
      ["ip", "netns", "exec", node] + wrapper + [
        Executables.racetrack, "agent", "--incidents.output", recordsPath, "--incidents.all",
        "--web.listen-address", Self.listenAddress, "--web.api-address", apiAddress,
      ] + options)
  }

  deinit { unlink(recordsPath) }

  package var log: String { process.errors }
  package var pid: pid_t { process.pid }

  /// Waits until the log holds a text.
  package func waitForLog(_ text: String, seconds: Double = 10) throws {
    guard Clock.poll(seconds: seconds, { log.contains(text) }) else { throw LabError("the log does not say \(text): \(log.suffix(2000))") }
  }

  /// Waits until the agent says that it is ready and that no source is blind any more.
  package func waitUntilSeeing(seconds: Double = 20) throws {
    let ready = try Clock.poll(seconds: seconds) {
      if let status = process.exitStatus { throw LabError("the agent ended with status \(status): \(log.suffix(2000))") }
      guard try get("/-/ready").status == 0 else { return false }
      return try metrics().samples("racetrack_blind").allSatisfy { $0.value == 0 }
    }
    guard ready else { throw LabError("the agent was not ready and seeing after \(seconds) s: \(log.suffix(2000))") }
  }

  /// Asks the agent from within its namespace. The status is 0 for an answer of 200 and 3 for any other.
  package func get(_ path: String, from address: String = listenAddress, accept: String = "*/*") throws -> CommandResult {
    try Command.result(["ip", "netns", "exec", node, Executables.racelab, "http", address, path, accept] + authorization)
  }

  package func metrics() throws -> MetricsPage {
    let result = try get("/metrics")
    guard result.status == 0 else { throw LabError("/metrics: \(result.errors) \(log.suffix(1000))") }
    return MetricsPage(result.output)
  }

  /// Waits until `count` client transmissions were seen and none is open, then returns the page. Returns the last page if that does not come.
  package func settle(transmissions count: Int, seconds: Double) throws -> MetricsPage {
    var page = try metrics()
    _ = try Clock.poll(seconds: seconds, every: 0.2) {
      page = try metrics()
      return page.clientTransmissions >= Double(count) && page.sum("racetrack_dns_open") == 0
    }
    return page
  }

  /// Sends SIGTERM and returns the exit status. Before that the sums of the last page must hold, whatever the test is about.
  package func stop() throws -> Int32 {
    if process.exitStatus == nil {
      let problems = try metrics().conservationProblems()
      guard problems.isEmpty else { throw LabError("the sums on /metrics: \(problems.joined(separator: "; "))") }
    }
    process.signal(SIGTERM)
    guard let status = process.wait(seconds: 15) else { throw LabError("the agent did not end within 15 s of SIGTERM") }
    return status
  }

  /// Stops the agent's clock (SIGSTOP) and sets it going again (SIGCONT).
  package func pause() { process.signal(SIGSTOP) }
  package func resume() { process.signal(SIGCONT) }
  /// Has it read its configuration again (SIGHUP).
  package func reload() { process.signal(SIGHUP) }

  /// What the schema says against the records written so far; nil if nothing, or if there is nothing to ask.
  package func recordProblem() throws -> String? {
    guard FileManager.default.fileExists(atPath: recordsPath) else { return "no records" }
    return try RecordSchema.problem(in: recordsPath)
  }

  /// What was written so far.
  package func records() throws -> [AgentRecord] {
    guard FileManager.default.fileExists(atPath: recordsPath) else { return [] }
    return try AgentRecord.parse(try text())
  }

  /// The lines written so far.
  package func text() throws -> String { try String(contentsOfFile: recordsPath, encoding: .utf8) }
}
