import Glibc

/// What a configuration is made from. Kept with it, so that SIGHUP reads the same sources again.
package struct ConfigurationSources: Equatable, Sendable {
  /// Without the program and the subcommand.
  package var arguments: [String]
  /// Only the variables that name options.
  package var environment: [String: String]

  package init(arguments: [String] = [], environment: [String: String] = [:]) {
    self.arguments = arguments
    self.environment = environment
  }

  /// With this process's environment.
  package init(arguments: [String]) {
    var environment: [String: String] = [:]
    for option in AgentOptions.table.options {
      if let text = unsafe getenv(option.environmentName) {
        environment[option.environmentName] = unsafe String(cString: text)
      }
    }
    self.init(arguments: arguments, environment: environment)
  }

  /// Reads everything: command line over environment over file over defaults. A wrong value is an error even where another overrides it.
  package func load() throws(ConfigurationError) -> Configuration {
    let table = AgentOptions.table
    let commandLine = try table.parse(arguments: arguments).settings
    let environment = table.settings(environment: environment)
    var configuration = Configuration()
    configuration.sources = self
    try table.apply((environment + commandLine).filter { $0.name == "config.file" }, to: &configuration)
    if let path = configuration.configFile {
      try table.apply(ConfigurationFile.settings(path: path, table: table), to: &configuration)
    }
    try table.apply(environment, to: &configuration)
    try table.apply(commandLine, to: &configuration)
    return configuration
  }
}

/// What reading a running agent's sources again came to.
package struct ConfigurationReload: Equatable, Sendable {
  /// The old configuration with the changes that can be made now.
  package var configuration: Configuration
  /// Names of the options that changed.
  package var changed: [String]
  /// Names of the options whose new values wait for a restart.
  package var needRestart: [String]
}

extension Configuration {
  /// Reads the sources of `old` again. On failure `old` stays in force.
  package static func reload(_ old: Configuration) -> Result<ConfigurationReload, ConfigurationError> {
    let new: Configuration
    do throws(ConfigurationError) {
      new = try old.sources.load()
    } catch {
      return .failure(error)
    }
    var reload = ConfigurationReload(configuration: old, changed: [], needRestart: [])
    for option in AgentOptions.table.differences(old, new) {
      if option.changesAtRunTime {
        option.copy(&reload.configuration, new)
        reload.changed.append(option.name)
      } else {
        reload.needRestart.append(option.name)
      }
    }
    return .success(reload)
  }
}
