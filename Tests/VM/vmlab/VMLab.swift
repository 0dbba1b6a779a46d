import Foundation
import TestSupport

/// Runs rows of the compatibility table on the kernel it finds itself on, and writes one line each, fields apart by tabs:
/// race, mode, probe asked for, attached, sent, lost, recall, precision, grades, outcome.
@main struct VMLab {
  static let help = "vmlab --output FILE [--drops-clashes] [--races A,B] [--modes A,B] [--probes off,auto]"

  static func main() {
    var options = [String: String]()
    var words = CommandLine.arguments.dropFirst()
    while let word = words.popFirst() {
      if word == "--drops-clashes" {
        options[word] = "yes"
      } else if ["--output", "--races", "--modes", "--probes"].contains(word), let value = words.popFirst() {
        options[word] = value
      } else {
        fail(help)
      }
    }
    func list(_ option: String, _ all: [String]) -> [String] { options[option].map { $0.split(separator: ",").map(String.init) } ?? all }
    guard let output = options["--output"] else { fail(help) }
    let kernel = Kernel(dropsClashes: options["--drops-clashes"] != nil)
    let races = list("--races", Race.allCases.map(\.rawValue)).map { Race(rawValue: $0) }
    let modes = list("--modes", ServiceMode.allCases.map(\.rawValue)).map { ServiceMode(rawValue: $0) }
    var failed = false
    for race in races {
      for mode in modes {
        guard let race, let mode else { fail(help) }
        for probe in list("--probes", ["off"]) {
          guard let line = row(race, mode, probe, kernel) else { continue }
          append(line.fields.joined(separator: "\t") + "\n", to: output)
          if line.isFailure { failed = true }
        }
      }
    }
    exit(failed ? 1 : 0)
  }

  private static func row(_ race: Race, _ mode: ServiceMode, _ probe: String, _ kernel: Kernel) -> RowReport? {
    if let obstacle = race.obstacle(mode, kernel) {
      return obstacle.isEmpty ? nil : RowReport(race, mode, probe, outcome: "skipped: \(obstacle)")
    }
    let asked = probe.split(separator: ":").map(String.init)
    let options = ["--dns.timeout", "4s", "--kernel-probe", asked[0]] + (asked.count > 1 ? ["--kernel-probe.rung", asked[1]] : [])
    var voids: [String] = []
    for _ in 0..<3 {
      do {
        defer { if race == .full { Race.restore() } }
        let outcome = try race.perform(mode, kernel, agent: options)
        guard let void = race.void(outcome, kernel) else { return try RowReport(race, mode, probe, kernel, outcome) }
        print("\(race.rawValue) \(mode.rawValue) \(probe): void run: \(void); the kernel counted \(outcome.counters); said:")
        print(RowReport.sayings(outcome))
        voids.append(void)
      } catch {
        return RowReport(race, mode, probe, outcome: "failed: \(error)".replacingOccurrences(of: "\n", with: " "))
      }
    }
    return RowReport(race, mode, probe, outcome: "void: \(voids.last ?? "")")
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
