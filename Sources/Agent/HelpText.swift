/// Help as `--help` prints it: plain text, at most 100 columns.
package enum HelpText {
  static let columns = 100

  /// - Parameters:
  ///   - usage: what follows the command: `[OPTION]...`.
  ///   - summary: what the command does.
  ///   - settings: the defaults.
  ///   - sources: the options may stand in the environment and in a file as well.
  package static func text<S>(of table: OptionTable<S>, usage: String, summary: String, defaults settings: S, sources: Bool) -> String {
    var text = "Usage: \(table.command) \(usage)\n\n" + wrapped(summary, indent: 0)
    for group in table.groups {
      text += "\n\(group)\n"
      for option in table.options where option.group == group {
        text += "  " + synopsis(of: option) + "\n"
        text += wrapped(option.help, indent: 8)
        text += "        " + notes(of: option, defaults: settings, sources: sources) + "\n"
      }
    }
    text += "\nHelp\n  --help\n        Show this text.\n  --version\n        Show the version.\n"
    if sources {
      text += "\n"
      text += wrapped(
        "The command line overrides the environment, which overrides the configuration file. Lists hold several values between commas. "
          + "In the file, web.listen-address may be written so or as listen-address under web. On SIGHUP the file is read again; "
          + "these options change then, the others need a restart: "
          + table.options.filter(\.changesAtRunTime).map(\.name).joined(separator: ", ") + ".", indent: 0)
    }
    return text
  }

  /// `--web.listen-address=ADDRESS:PORT`.
  package static func synopsis<S>(of option: Option<S>) -> String {
    switch option.shape {
    case .flag: "--\(option.name)[=\(option.placeholder)]"
    case .value, .list: "--\(option.name)=\(option.placeholder)"
    }
  }

  /// `[default: 53; repeatable; environment: RACETRACK_DNS_PORT]`.
  static func notes<S>(of option: Option<S>, defaults settings: S, sources: Bool) -> String {
    var notes = ["default: \(option.defaultText(of: settings))"]
    if option.shape == .list { notes.append("repeatable") }
    if sources { notes.append("environment: \(option.environmentName)") }
    return "[" + notes.joined(separator: "; ") + "]"
  }

  /// `text` in lines of at most `columns`, each indented and ended.
  package static func wrapped(_ text: String, indent: Int) -> String {
    let margin = String(repeating: " ", count: indent)
    var lines = ""
    var line = ""
    for word in text.split(separator: " ") {
      if !line.isEmpty && indent + line.utf8.count + 1 + word.utf8.count > columns {
        lines += margin + line + "\n"
        line = ""
      }
      line += (line.isEmpty ? "" : " ") + word
    }
    return line.isEmpty ? lines : lines + margin + line + "\n"
  }
}
