import Foundation

/// This checkout.
package enum Repository {
  package static func path(_ relative: String) -> String { root.appendingPathComponent(relative).path }
  private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
}

/// docs/records.schema.json, asked by Tests/records/validate.py.
package enum RecordSchema {
  /// `RACETRACK_PYTHON` names an interpreter with jsonschema.
  package static let python = ProcessInfo.processInfo.environment["RACETRACK_PYTHON"] ?? "python3"

  package static let isAvailable: Bool = {
    let isThere = (try? Command.result([python, "-c", "import jsonschema; jsonschema.Draft202012Validator"]).status) == 0
    if !isThere { print("records are not validated: no Python package jsonschema (set RACETRACK_PYTHON)") }
    return isThere
  }()

  /// The same of a text.
  package static func problem(of text: String, schema: String) throws -> String? {
    let path = Lab.scratch + "/\(UUID().uuidString).jsonl"
    defer { try? FileManager.default.removeItem(atPath: path) }
    try text.write(toFile: path, atomically: false, encoding: .utf8)
    return try problem(in: path, schema: schema)
  }

  /// What is wrong with the lines of a file; nil if nothing is, or if there is nothing to ask.
  package static func problem(in path: String, schema: String = "docs/records.schema.json") throws -> String? {
    guard isAvailable else { return nil }
    let files = ["Tests/records/validate.py", schema].map(Repository.path)
    let result = try Command.result([python] + files + [path], seconds: 300)
    return result.status == 0 ? nil : "\(result.output)\(result.errors.prefix(2000))"
  }
}
