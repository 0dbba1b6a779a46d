/// One option of a subcommand: its name, what it takes, what it does, and where its value lives. Command line, environment,
/// configuration file, help and documentation are all made from this.
package struct Option<Settings: Sendable>: Sendable {
  package enum Shape: Sendable {
    case value
    /// Repeatable; one text may hold several values between commas.
    case list
    /// `--name` alone means true.
    case flag
  }

  /// As on the command line, without the two dashes: `web.listen-address`.
  package let name: String
  package let group: String
  package let placeholder: String
  /// One to three sentences.
  package let help: String
  package let shape: Shape
  /// Takes effect on SIGHUP; the others need a restart.
  package let changesAtRunTime: Bool
  /// May stand in the configuration file.
  package let inFile: Bool
  /// Shown where the default is no value: `the host's name`.
  package let defaultNote: String
  /// Replaces the value by what the texts say, all of them or none.
  let assign: @Sendable (inout Settings, [String]) throws(OptionError) -> Void
  /// The value as texts that `assign` would take; empty for no value.
  package let show: @Sendable (Settings) -> [String]
  let copy: @Sendable (inout Settings, Settings) -> Void

  /// `RACETRACK_WEB_LISTEN_ADDRESS`.
  package var environmentName: String {
    let bytes = name.utf8.map { $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "-") ? UInt8(ascii: "_") : $0 }
    return "RACETRACK_" + String(decoding: bytes, as: UTF8.self).uppercased()
  }

  /// The default as help and documentation show it.
  package func defaultText(of settings: Settings) -> String {
    let texts = show(settings).filter { !$0.isEmpty }
    return texts.isEmpty ? defaultNote : texts.joined(separator: ",")
  }
}

/// A value that an option refuses: the text, unless the number of values is the fault, and the words that follow it.
struct OptionError: Error {
  var text: String?
  var problem: String
}

extension Option {
  package static func value<Value>(
    _ name: String, _ path: any WritableKeyPath<Settings, Value> & Sendable, _ value: OptionValue<Value>, group: String, help: String,
    defaultNote: String = "none", changesAtRunTime: Bool = false, inFile: Bool = true
  ) -> Option {
    Option(
      name: name, group: group, placeholder: value.placeholder, help: help, shape: Value.self == Bool.self ? .flag : .value,
      changesAtRunTime: changesAtRunTime, inFile: inFile, defaultNote: defaultNote,
      assign: { settings, texts throws(OptionError) in
        guard texts.count == 1, let text = texts.first else { throw OptionError(text: nil, problem: "takes one value, not a list") }
        do throws(BadValue) {
          settings[keyPath: path] = try value.parse(text)
        } catch {
          throw OptionError(text: text, problem: error.problem)
        }
      },
      show: { [value.show($0[keyPath: path])] },
      copy: { $0[keyPath: path] = $1[keyPath: path] })
  }

  /// A list without repetitions, in the order given.
  package static func list<Value: Equatable>(
    _ name: String, _ path: any WritableKeyPath<Settings, [Value]> & Sendable, _ value: OptionValue<Value>, atMost limit: Int, group: String,
    help: String, changesAtRunTime: Bool = false
  ) -> Option {
    Option(
      name: name, group: group, placeholder: value.placeholder, help: help, shape: .list, changesAtRunTime: changesAtRunTime, inFile: true,
      defaultNote: "none",
      assign: { settings, texts throws(OptionError) in
        var values: [Value] = []
        for text in texts {
          for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let trimmed = trimmingSpaces(part)
            do throws(BadValue) {
              let next = try value.parse(trimmed)
              if !values.contains(next) { values.append(next) }
            } catch {
              throw OptionError(text: trimmed, problem: error.problem)
            }
            guard values.count <= limit else { throw OptionError(text: nil, problem: "takes at most \(limit) values") }
          }
        }
        guard !values.isEmpty else { throw OptionError(text: nil, problem: "needs at least one value") }
        settings[keyPath: path] = values
      },
      show: { $0[keyPath: path].map(value.show) },
      copy: { $0[keyPath: path] = $1[keyPath: path] })
  }
}

private func trimmingSpaces(_ text: Substring) -> String {
  let bytes = text.utf8.drop { $0 == 0x20 }
  let end = bytes.lastIndex { $0 != 0x20 }.map { bytes.index(after: $0) } ?? bytes.startIndex
  return String(text[bytes.startIndex..<end])
}

/// The options of one subcommand, in the order in which help shows them.
package struct OptionTable<Settings: Sendable>: Sendable {
  /// As typed: `racetrack agent`.
  package let command: String
  package let options: [Option<Settings>]

  package init(command: String, options: [Option<Settings>]) {
    self.command = command
    self.options = options
  }

  package func option(named name: String) -> Option<Settings>? {
    options.first { $0.name == name }
  }

  /// Groups in the order of their first option.
  package var groups: [String] {
    var seen: [String] = []
    for option in options where !seen.contains(option.group) { seen.append(option.group) }
    return seen
  }

  /// Names of the options whose values differ.
  package func differences(_ a: Settings, _ b: Settings) -> [Option<Settings>] {
    options.filter { $0.show(a) != $0.show(b) }
  }
}
