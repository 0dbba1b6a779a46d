import Foundation
import TestSupport

/// Runs rows of the compatibility table on the kernel it finds itself on, and writes one line each, fields apart by tabs:
/// race, mode, probe asked for, attached, sent, lost, recall, precision, grades, outcome.
@main struct VMLab {
  static let help = """
    vmlab --output FILE [--drops-clashes] [--races A,B] [--modes A,B] [--probes off,auto]
    vmlab --output FILE --starts all|A,B [--modules FOLDER]
    """

  static func main() {
    var options = [String: String]()
    var words = CommandLine.arguments.dropFirst()
    while let word = words.popFirst() {
      if word == "--drops-clashes" {
        options[word] = "yes"
      } else if ["--output", "--races", "--modes", "--probes", "--starts", "--modules"].contains(word), let value = words.popFirst() {
        options[word] = value
      } else {
        fail(help)
      }
    }
    func list(_ option: String, _ all: [String]) -> [String] { options[option].map { $0.split(separator: ",").map(String.init) } ?? all }
    guard let output = options["--output"] else { fail(help) }
    if let starts = options["--starts"] {
      let named = starts.split(separator: ",", omittingEmptySubsequences: false).map { Start(rawValue: String($0)) }
      if starts != "all", named.contains(nil) { fail(help) }
      var failed = false
      for start in Start.allCases where starts == "all" || named.contains(start) {
        let line = start.row(options["--modules"])
        append(line.fields.joined(separator: "\t") + "\n", to: output)
        failed = failed || line.isFailure
      }
      exit(failed ? 1 : 0)
    }
    let kernel = Kernel(dropsClashes: options["--drops-clashes"] != nil)
    let races = list("--races", Race.allCases.map(\.rawValue) + ["service-v6", "reply-v6", "source-v6", "late-v6"]).map { name in
      (name, Race(rawValue: name.hasSuffix(six) ? String(name.dropLast(six.count)) : name))
    }
    let modes = list("--modes", ServiceMode.allCases.map(\.rawValue)).map { ServiceMode(rawValue: $0) }
    var failed = false
    for (name, race) in races {
      for mode in modes {
        guard let race, let mode else { fail(help) }
        for probe in list("--probes", ["off"]) {
          guard let line = row(name, race, mode, probe, kernel) else { continue }
          append(line.fields.joined(separator: "\t") + "\n", to: output)
          if line.isFailure { failed = true }
        }
      }
    }
    exit(failed ? 1 : 0)
  }

  /// What a race over IPv6 ends with.
  private static let six = "-v6"

  private static func row(_ name: String, _ race: Race, _ mode: ServiceMode, _ probe: String, _ kernel: Kernel) -> RowReport? {
    let family = name.hasSuffix(six) ? Lab.Family.v6 : .v4
    if let obstacle = race.obstacle(mode, family, kernel) {
      return obstacle.isEmpty ? nil : RowReport(name, mode, probe, outcome: "skipped: \(obstacle)")
    }
    let asked = probe.split(separator: ":").map(String.init)
    let options = ["--dns.timeout", "4s", "--kernel-probe", asked[0]] + (asked.count > 1 ? ["--kernel-probe.rung", asked[1]] : [])
    var voids: [String] = []
    for _ in 0..<3 {
      do {
        let outcome = try race.perform(mode, family, kernel, agent: options)
        guard let void = race.void(outcome, kernel) else { return try RowReport(name, mode, probe, reason: race.reason, outcome) }
        print("\(name) \(mode.rawValue) \(probe): void run: \(void); the kernel counted \(outcome.counters); said:")
        print(RowReport.sayings(outcome))
        // A machine that is ended early has still said what it did.
        fflush(nil)
        voids.append(void)
      } catch {
        return RowReport(name, mode, probe, outcome: "failed: \(error)".replacingOccurrences(of: "\n", with: " "))
      }
    }
    return RowReport(name, mode, probe, outcome: "void: \(voids.last ?? "")")
  }

  private static func append(_ text: String, to path: String) {
    print(text, terminator: "")
    fflush(nil)
    guard let file = fopen(path, "a") else { fail("open \(path)") }
    fputs(text, file)
    fclose(file)
  }

  private static func fail(_ text: String) -> Never {
    print(text)
    exit(2)
  }
}
