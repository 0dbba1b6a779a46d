import Foundation
import Glibc

/// Debian's Prometheus in a lab's node namespace, with a configuration and a database of its own that go with it.
package final class Prometheus {
  package static let program = "/usr/bin/prometheus"
  package static var isThere: Bool { FileManager.default.isExecutableFile(atPath: program) }
  private static let address = "127.0.0.1:19090"

  private let lab: Lab
  private let process: Background
  private let directory: String

  package init(_ lab: Lab, target: String) throws {
    self.lab = lab
    directory = Lab.scratch + "/prometheus-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    let configuration = """
      global: {scrape_interval: 500ms, scrape_timeout: 500ms}
      storage: {exemplars: {max_exemplars: 1000}}
      scrape_configs: [{job_name: racetrack, static_configs: [{targets: ["\(target)"]}]}]

      """
    try configuration.write(toFile: directory + "/prometheus.yml", atomically: true, encoding: .utf8)
    process = try Background([
      "ip", "netns", "exec", lab.node, Self.program, "--config.file", directory + "/prometheus.yml", "--storage.tsdb.path", directory + "/data",
      "--web.listen-address", Self.address, "--enable-feature=exemplar-storage",
    ])
  }

  deinit { try? FileManager.default.removeItem(atPath: directory) }

  package var log: String { process.errors }

  /// The `data` of an answer of the HTTP API.
  private func data(_ path: String) throws -> Any {
    let result = try Command.result(["ip", "netns", "exec", lab.node, Executables.racelab, "http", Self.address, path])
    guard result.status == 0, let answer = try JSONSerialization.jsonObject(with: Data(result.output.utf8)) as? [String: Any],
      let data = answer["data"]
    else { throw LabError("prometheus \(path): \(result.output.prefix(500)) \(result.errors) \(log.suffix(500))") }
    return data
  }

  private static func escape(_ text: String) -> String { text.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? "" }

  /// Waits until the one target was scraped and found well-formed.
  package func waitUntilUp() throws {
    var last = "not scraped"
    let isUp = try Clock.poll(seconds: 20, every: 0.2) {
      if let status = process.exitStatus { throw LabError("prometheus ended with status \(status): \(log.suffix(1000))") }
      guard let targets = (try? data("/api/v1/targets")) as? [String: Any], let active = targets["activeTargets"] as? [[String: Any]] else {
        return false
      }
      last = active.compactMap { $0["lastError"] as? String }.joined()
      return !active.isEmpty && active.allSatisfy { $0["health"] as? String == "up" }
    }
    guard isUp else { throw LabError("the target is not up: \(last)") }
  }

  /// The value of an expression that has one sample; nil if it has none.
  package func value(_ expression: String) throws -> Double? {
    let data = try data("/api/v1/query?query=" + Self.escape(expression)) as? [String: Any]
    guard let sample = (data?["result"] as? [[String: Any]])?.first?["value"] as? [Any], sample.count == 2 else { return nil }
    return Double(sample[1] as? String ?? "")
  }

  /// The labels of the exemplars stored in the last ten minutes.
  package func exemplars(_ expression: String) throws -> [[String: String]] {
    let now = Int(Date().timeIntervalSince1970)
    let series = try data("/api/v1/query_exemplars?query=\(Self.escape(expression))&start=\(now - 600)&end=\(now + 60)") as? [[String: Any]] ?? []
    return series.flatMap { $0["exemplars"] as? [[String: Any]] ?? [] }.compactMap { $0["labels"] as? [String: String] }
  }

  /// Sends SIGTERM and returns the exit status.
  package func stop() throws -> Int32 {
    process.signal(SIGTERM)
    guard let status = process.wait(seconds: 15) else { throw LabError("prometheus did not end") }
    return status
  }
}
