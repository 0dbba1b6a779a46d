import CYAML

/// A YAML text that cannot be taken, and where: one line's worth of words.
package struct YAMLError: Error, Equatable, Sendable {
  package var line: Int
  package var problem: String
}

/// One scalar of a YAML text.
package struct YAMLScalar: Equatable, Sendable {
  package var text: String
  package var line: Int
  /// Written as nothing, `~` or `null`, without quotes.
  package var isNull: Bool
}

/// One leaf of a YAML text: the keys that lead to it and what stands there.
package struct YAMLEntry: Equatable, Sendable {
  package enum Content: Equatable, Sendable {
    case scalar(YAMLScalar)
    case list([YAMLScalar])
    /// A mapping without keys.
    case emptyMapping
  }

  package var path: [String]
  /// Line of the last key of `path`, from 1.
  package var line: Int
  package var content: Content
}

/// Flattens one YAML document into its leaves, in the order of the text.
///
/// Refuses what a settings file does not need and what can be turned against its reader: anchors and aliases, tags, further documents,
/// keys that are not scalars, nested lists, a key given twice in one mapping, and more than the limits below.
package enum YAMLDocument {
  package static let maximumBytes = 1 << 20
  package static let maximumDepth = 16
  package static let maximumEntries = 4096
  package static let maximumKeyBytes = 256

  /// - Parameter bytes: UTF-8 text; an empty one, or one of comments alone, has no entries.
  package static func entries(of bytes: [UInt8]) throws(YAMLError) -> [YAMLEntry] {
    guard bytes.count <= maximumBytes else {
      throw YAMLError(line: 1, problem: "the file is larger than 1 MiB")
    }
    let result: Result<[YAMLEntry], YAMLError> = unsafe bytes.withUnsafeBufferPointer { buffer in
      guard let parser = unsafe cyaml_open(buffer.baseAddress, buffer.count) else {
        return .failure(YAMLError(line: 1, problem: "out of memory"))
      }
      defer { unsafe cyaml_close(parser) }
      var reader = unsafe YAMLReader(parser: parser)
      return Result { () throws(YAMLError) in try reader.document() }
    }
    return try result.get()
  }
}

/// Walks the events of one parser. The depth is bounded before each descent, so recursion is too.
@safe private struct YAMLReader: ~Copyable {
  private struct Event {
    var kind: Int
    var line: Int
    var text: String
    var isPlain: Bool
  }

  private let parser: OpaquePointer
  private var entries: [YAMLEntry] = []

  init(parser: OpaquePointer) { unsafe self.parser = parser }

  mutating func document() throws(YAMLError) -> [YAMLEntry] {
    var event = try next()
    if event.kind == CYAML_END { return [] }
    event = try next()
    switch event.kind {
    case CYAML_MAPPING_START:
      try mapping(path: [], line: event.line, depth: 1)
    case CYAML_SCALAR where event.isPlain && event.text.isEmpty:
      break
    default:
      throw YAMLError(line: event.line, problem: "the file must be a mapping of keys to values")
    }
    event = try next()
    guard event.kind == CYAML_END else {
      throw YAMLError(line: event.line, problem: "the file may hold one YAML document only")
    }
    return entries
  }

  /// Reads up to the end of the mapping whose start was just read.
  private mutating func mapping(path: [String], line: Int, depth: Int) throws(YAMLError) {
    guard depth <= YAMLDocument.maximumDepth else {
      throw YAMLError(line: line, problem: "nested deeper than \(YAMLDocument.maximumDepth) levels")
    }
    var seen: [String: Int] = [:]
    while true {
      let key = try next()
      if key.kind == CYAML_MAPPING_END { break }
      guard key.kind == CYAML_SCALAR else {
        throw YAMLError(line: key.line, problem: "a key must be plain text")
      }
      guard !key.text.isEmpty, key.text.utf8.count <= YAMLDocument.maximumKeyBytes else {
        throw YAMLError(line: key.line, problem: "a key must have 1 to \(YAMLDocument.maximumKeyBytes) bytes")
      }
      if let first = seen.updateValue(key.line, forKey: key.text) {
        throw YAMLError(line: key.line, problem: "\(quoted(key.text)) is given twice, first on line \(first)")
      }
      let value = try next()
      let valuePath = path + [key.text]
      switch value.kind {
      case CYAML_MAPPING_START:
        try mapping(path: valuePath, line: key.line, depth: depth + 1)
      case CYAML_SEQUENCE_START:
        try append(YAMLEntry(path: valuePath, line: key.line, content: .list(list())))
      default:
        try append(YAMLEntry(path: valuePath, line: key.line, content: .scalar(Self.scalar(value))))
      }
    }
    if seen.isEmpty && !path.isEmpty {
      try append(YAMLEntry(path: path, line: line, content: .emptyMapping))
    }
  }

  /// Reads up to the end of the list whose start was just read.
  private mutating func list() throws(YAMLError) -> [YAMLScalar] {
    var items: [YAMLScalar] = []
    while true {
      let item = try next()
      if item.kind == CYAML_SEQUENCE_END { return items }
      guard item.kind == CYAML_SCALAR else {
        throw YAMLError(line: item.line, problem: "a list may hold single values only")
      }
      guard items.count < YAMLDocument.maximumEntries else {
        throw YAMLError(line: item.line, problem: "a list of more than \(YAMLDocument.maximumEntries) values")
      }
      items.append(Self.scalar(item))
    }
  }

  private mutating func append(_ entry: YAMLEntry) throws(YAMLError) {
    guard entries.count < YAMLDocument.maximumEntries else {
      throw YAMLError(line: entry.line, problem: "more than \(YAMLDocument.maximumEntries) keys")
    }
    entries.append(entry)
  }

  private static func scalar(_ event: Event) -> YAMLScalar {
    let isNull = event.isPlain && ["", "~", "null", "Null", "NULL"].contains(event.text)
    return YAMLScalar(text: event.text, line: event.line, isNull: isNull)
  }

  private mutating func next() throws(YAMLError) -> Event {
    var raw = unsafe cyaml_event()
    unsafe cyaml_next(parser, &raw)
    let line = unsafe Int(raw.line)
    let text = unsafe String(decoding: UnsafeBufferPointer(start: raw.text, count: raw.length), as: UTF8.self)
    let kind = unsafe Int(raw.kind)
    if kind == CYAML_ERROR {
      throw YAMLError(line: line, problem: "not YAML: \(text)")
    }
    if unsafe raw.anchored != 0 || kind == CYAML_ALIAS {
      throw YAMLError(line: line, problem: "anchors and aliases are not allowed")
    }
    if unsafe raw.tagged != 0 {
      throw YAMLError(line: line, problem: "tags are not allowed")
    }
    return unsafe Event(kind: kind, line: line, text: text, isPlain: raw.plain != 0)
  }
}
