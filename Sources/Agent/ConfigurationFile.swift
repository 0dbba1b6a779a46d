/// The configuration file: the options in YAML. `web.listen-address:` and `web: {listen-address: ...}` mean the same.
package enum ConfigurationFile {
  /// Reads a file into settings. Each has its own file and line as its place.
  package static func settings<S>(path: String, table: OptionTable<S>) throws(ConfigurationError) -> [OptionSetting] {
    let bytes: [UInt8]
    do throws(FileError) {
      bytes = try BoundedFile.read(path, limit: YAMLDocument.maximumBytes)
    } catch {
      throw ConfigurationError(place: shownPath(path), problem: error.problem)
    }
    return try settings(bytes: bytes, path: path, table: table)
  }

  package static func settings<S>(bytes: [UInt8], path: String, table: OptionTable<S>) throws(ConfigurationError) -> [OptionSetting] {
    let file = shownPath(path)
    let entries: [YAMLEntry]
    do throws(YAMLError) {
      entries = try YAMLDocument.entries(of: bytes)
    } catch {
      throw ConfigurationError(place: "\(file):\(error.line)", problem: error.problem)
    }
    let names = table.options.filter(\.inFile).map(\.name)
    var settings: [OptionSetting] = []
    var lines: [String: Int] = [:]
    for entry in entries {
      let name = entry.path.joined(separator: ".")
      let place = "\(file):\(entry.line)"
      guard let option = table.option(named: name), option.inFile else {
        // A group whose keys are all commented out is empty, not wrong.
        if entry.isEmpty && names.contains(where: { $0.hasPrefix(name + ".") }) { continue }
        throw ConfigurationError(place: place, problem: unknownKey(name, table: table, names: names))
      }
      if let first = lines.updateValue(entry.line, forKey: name) {
        throw ConfigurationError(place: place, problem: "\(name) is given twice, first on line \(first)")
      }
      settings.append(OptionSetting(name: name, texts: try texts(of: entry, option: option, file: file), place: "\(place): \(name)"))
    }
    return settings
  }

  private static func texts<S>(of entry: YAMLEntry, option: Option<S>, file: String) throws(ConfigurationError) -> [String] {
    let scalars: [YAMLScalar]
    switch entry.content {
    case .scalar(let scalar):
      scalars = [scalar]
    case .list(let list):
      guard option.shape == .list else {
        throw ConfigurationError(place: "\(file):\(entry.line): \(option.name)", problem: "takes one value, not a list")
      }
      scalars = list
    case .emptyMapping:
      throw ConfigurationError(place: "\(file):\(entry.line): \(option.name)", problem: "takes a value, not a mapping")
    }
    for scalar in scalars where scalar.isNull {
      throw ConfigurationError(place: "\(file):\(scalar.line): \(option.name)", problem: "has no value")
    }
    return scalars.map(\.text)
  }

  private static func unknownKey<S>(_ name: String, table: OptionTable<S>, names: [String]) -> String {
    if table.option(named: name) != nil { return "\(name) cannot be set in a configuration file" }
    if names.contains(where: { $0.hasPrefix(name + ".") }) { return "\(name) is a group of options, not an option" }
    guard let suggestion = nearest(to: name, among: names) else { return "no such option: \(quoted(name))" }
    return "no such option: \(quoted(name)); did you mean \(suggestion)?"
  }
}

extension YAMLEntry {
  fileprivate var isEmpty: Bool {
    switch content {
    case .scalar(let scalar): scalar.isNull
    case .list: false
    case .emptyMapping: true
    }
  }
}

/// A path as it may stand in a line of text: as it is when it is plain, else quoted and escaped.
func shownPath(_ path: String) -> String {
  let isPlain = !path.isEmpty && path.utf8.count <= 512 && path.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F && $0 != 0x22 && $0 != 0x5C }
  return isPlain ? path : quoted(path)
}
