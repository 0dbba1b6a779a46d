import Foundation
import Testing

@testable import Agent

@Suite struct HelpTextTests {
  let help = HelpText.text(of: AgentOptions.table, usage: "[OPTION]...", summary: "Watches.", defaults: Configuration(), sources: true)

  @Test func everyOptionWithItsDefaultAndVariable() {
    let flowed = help.split(whereSeparator: { $0 == " " || $0 == "\n" }).joined(separator: " ")
    for option in AgentOptions.table.options {
      #expect(help.contains("\n  \(HelpText.synopsis(of: option))\n"), "\(option.name)")
      #expect(flowed.contains("\(option.help) [default: \(option.defaultText(of: Configuration()));"), "\(option.name)")
      #expect(help.contains("; environment: \(option.environmentName)]\n"), "\(option.name)")
    }
    for group in AgentOptions.table.groups { #expect(help.contains("\n\(group)\n")) }
    #expect(help.hasPrefix("Usage: racetrack agent [OPTION]...\n"))
  }

  @Test func fitsATerminal() {
    #expect(help.split(separator: "\n").allSatisfy { $0.utf8.count <= HelpText.columns })
    #expect(help.utf8.allSatisfy { $0 == 0x0A || (0x20..<0x7F).contains($0) })
  }

  @Test func suggestions() {
    let names = AgentOptions.table.options.map(\.name)
    #expect(nearest(to: "dns.prot", among: names) == "dns.port")
    #expect(nearest(to: "exclude", among: names) == "capture.exclude")
    #expect(nearest(to: "WEB_CONFIG_FILE", among: ["web.config.file"]) == "web.config.file")
    #expect(nearest(to: "", among: names) == nil)
    #expect(nearest(to: "x", among: names) == nil)
    #expect(nearest(to: String(repeating: "a", count: 10_000), among: names) == nil)
  }

  /// The table in docs/configuration.md, as the options have it.
  private static func documentation() -> String {
    var text = ""
    for group in AgentOptions.table.groups {
      text += "### \(group)\n\n| option | default | on SIGHUP | what it does |\n|---|---|---|---|\n"
      for option in AgentOptions.table.options where option.group == group {
        let placeholder = option.placeholder.split(separator: "|").joined(separator: "\\|")
        let value = option.defaultText(of: Configuration())
        let shown = option.show(Configuration()).allSatisfy(\.isEmpty) ? value : "`\(value)`"
        text += "| `--\(option.name)` \(placeholder)\(option.shape == .list ? ", repeatable" : "")<br>`\(option.environmentName)` | \(shown) | "
        text += "\(option.changesAtRunTime ? "changes" : "needs a restart") | \(option.help) |\n"
      }
      text += "\n"
    }
    return text
  }

  /// With RACETRACK_UPDATE_DOCS set, writes the table instead.
  @Test func docsAreTheOptionTable() throws {
    let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appending(path: "../../docs/configuration.md").standardizedFileURL
    let text = try String(contentsOf: path, encoding: .utf8)
    let start = try #require(text.range(of: "<!-- options: start -->\n\n"))
    let end = try #require(text.range(of: "<!-- options: end -->"))
    if ProcessInfo.processInfo.environment["RACETRACK_UPDATE_DOCS"] != nil {
      try (text[..<start.upperBound] + Self.documentation() + text[end.lowerBound...]).write(to: path, atomically: true, encoding: .utf8)
      return
    }
    #expect(text[start.upperBound..<end.lowerBound] == Self.documentation(), "run the test once with RACETRACK_UPDATE_DOCS=1")
  }
}
