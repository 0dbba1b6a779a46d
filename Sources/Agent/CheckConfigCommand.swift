import Glibc

/// `racetrack check-config FILE`: reads a configuration file as the agent would, and the web configuration file that it names.
package enum CheckConfigCommand {
  package static var subcommand: Subcommand {
    Subcommand(
      name: "check-config", summary: "check a configuration file, without running", run: run)
  }

  /// Takes no options but `--help` and `--version`; its table is empty.
  private static let table = OptionTable<Configuration>(command: "racetrack check-config", options: [])

  package static func run(arguments: [String]) -> Int32 {
    do throws(ConfigurationError) {
      let parsed = try table.parse(arguments: arguments, operandsAllowed: 1)
      if parsed.wantsHelp {
        return Subcommand.printed(
          HelpText.text(
            of: table, usage: "FILE",
            summary: "Checks FILE, a configuration file of racetrack agent, and the file that its web.config.file names, with the certificate "
              + "and key files named there. Prints what differs from the defaults. Exit status 0 means that the agent would take them, 2 that not.",
            defaults: Configuration(), sources: false))
      }
      if parsed.wantsVersion { return Subcommand.printed(Subcommand.versionLine) }
      guard let path = parsed.operands.first else {
        return Subcommand.usageError(table.command, "needs a file: racetrack check-config FILE")
      }
      return Subcommand.printed(try report(path: path))
    } catch {
      return Subcommand.usageError(table.command, error.description)
    }
  }

  /// What is printed about a valid file. Neither command line nor environment take part.
  package static func report(path: String) throws(ConfigurationError) -> String {
    let options = AgentOptions.table
    var configuration = Configuration()
    try options.apply(ConfigurationFile.settings(path: path, table: options), to: &configuration)
    var text = "\(shownPath(path)): valid\n"
    for option in options.differences(configuration, Configuration()) {
      text += "  \(option.name): \(option.show(configuration).joined(separator: ", "))\n"
    }
    guard let web = configuration.webConfigFile else {
      try configuration.checkAPIAccess(identifiesClients: false)
      return text
    }
    let contents = try WebConfiguration.read(path: web)
    try checkFiles(of: contents, place: shownPath(web))
    let tls = contents.tls.map { "TLS, client certificates \($0.clientAuthType)" } ?? "no TLS"
    try configuration.checkAPIAccess(
      identifiesClients: !contents.users.isEmpty || contents.tls?.clientAuthType == "RequireAndVerifyClientCert")
    text += "\(shownPath(web)): valid: \(tls), \(contents.users.count) users\n"
    return text
  }

  private static func checkFiles(of web: WebConfiguration, place: String) throws(ConfigurationError) {
    guard let tls = web.tls else { return }
    for file in [tls.certificateFile, tls.keyFile, tls.clientCAFile].compactMap({ $0 }) {
      do throws(FileError) {
        _ = try BoundedFile.read(file, limit: YAMLDocument.maximumBytes)
      } catch {
        throw ConfigurationError(place: place, problem: "\(shownPath(file)): \(error.problem)")
      }
    }
  }
}
