/// What is wrong with an option, where it was given, and what would be right, in one line.
package struct ConfigurationError: Error, Equatable, Sendable, CustomStringConvertible {
  /// `--dns.timeout`, `RACETRACK_DNS_TIMEOUT` or `/etc/racetrack.yaml:3`.
  package var place: String
  package var problem: String

  package init(place: String, problem: String) {
    self.place = place
    self.problem = problem
  }

  package var description: String { "\(place): \(problem)" }
}

/// One option with the texts given for it, not yet read as values.
package struct OptionSetting: Equatable, Sendable {
  package var name: String
  package var texts: [String]
  package var place: String
}

/// A command line, taken apart.
package struct ParsedArguments: Equatable, Sendable {
  package var settings: [OptionSetting] = []
  package var operands: [String] = []
  package var wantsHelp = false
  package var wantsVersion = false
}

extension OptionTable {
  /// Takes a command line apart: `--name value`, `--name=value`, `--flag`, `--flag=false`, `--` before operands. Reads no values.
  ///
  /// - Parameter arguments: without the program and the subcommand.
  package func parse(arguments: [String], operandsAllowed: Int = 0) throws(ConfigurationError) -> ParsedArguments {
    var parsed = ParsedArguments()
    var index = 0
    while index < arguments.count {
      let argument = arguments[index]
      index += 1
      if argument == "--" {
        parsed.operands += arguments[index...]
        break
      }
      guard argument.hasPrefix("-"), argument != "-" else {
        parsed.operands.append(argument)
        continue
      }
      if argument == "--help" || argument == "-h" {
        parsed.wantsHelp = true
        continue
      }
      if argument == "--version" {
        parsed.wantsVersion = true
        continue
      }
      let equals = argument.utf8.firstIndex(of: UInt8(ascii: "="))
      let spelled = String(argument[..<(equals ?? argument.endIndex)])
      guard spelled.hasPrefix("--"), let option = option(named: String(spelled.dropFirst(2))) else {
        throw unknownOption(spelled)
      }
      let text: String
      if let equals {
        text = String(argument[argument.utf8.index(after: equals)...])
      } else if option.shape == .flag {
        let isGiven = index < arguments.count && ["true", "false"].contains(arguments[index])
        text = isGiven ? arguments[index] : "true"
        index += isGiven ? 1 : 0
      } else if index < arguments.count && !arguments[index].hasPrefix("--") {
        text = arguments[index]
        index += 1
      } else {
        throw ConfigurationError(place: spelled, problem: "needs a value: \(spelled) \(option.placeholder)")
      }
      try parsed.append(OptionSetting(name: option.name, texts: [text], place: spelled), repeatable: option.shape == .list)
    }
    if parsed.operands.count > operandsAllowed && !parsed.wantsHelp && !parsed.wantsVersion {
      throw ConfigurationError(place: quoted(parsed.operands[operandsAllowed]), problem: "unexpected argument; see \"\(command) --help\"")
    }
    return parsed
  }

  /// The settings in the environment. An empty variable counts as not set, and unknown names are not looked at: Kubernetes puts variables
  /// of every service into its pods, whatever they are called.
  package func settings(environment: [String: String]) -> [OptionSetting] {
    options.compactMap { option in
      guard let text = environment[option.environmentName], !text.isEmpty else { return nil }
      return OptionSetting(name: option.name, texts: [text], place: option.environmentName)
    }
  }

  /// Reads the values of `settings` into `target`.
  package func apply(_ settings: [OptionSetting], to target: inout Settings) throws(ConfigurationError) {
    for setting in settings {
      guard let option = option(named: setting.name) else { continue }
      do throws(OptionError) {
        try option.assign(&target, setting.texts)
      } catch {
        let problem = error.text.map { "\(quoted($0)) \(error.problem)" } ?? error.problem
        throw ConfigurationError(place: setting.place, problem: problem)
      }
    }
  }

  private func unknownOption(_ spelled: String) -> ConfigurationError {
    var name = Substring(spelled)
    while name.hasPrefix("-") { name = name.dropFirst() }
    let suggestion = nearest(to: String(name), among: options.map(\.name) + ["help", "version"])
    let shown = spelled.utf8.allSatisfy { (0x21...0x7E).contains($0) } && spelled.utf8.count <= 64 ? spelled : quoted(spelled)
    return ConfigurationError(
      place: shown, problem: suggestion.map { "no such option; did you mean --\($0)?" } ?? "no such option; see \"\(command) --help\"")
  }
}

extension ParsedArguments {
  fileprivate mutating func append(_ setting: OptionSetting, repeatable: Bool) throws(ConfigurationError) {
    guard let index = settings.firstIndex(where: { $0.name == setting.name }) else {
      settings.append(setting)
      return
    }
    guard repeatable else { throw ConfigurationError(place: setting.place, problem: "is given twice") }
    settings[index].texts += setting.texts
  }
}
