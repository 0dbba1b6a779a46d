import CJansson

/// A JSON text of somebody else's, read whole. Numbers beyond Int64 are `real`.
package indirect enum JSONValue: Equatable, Sendable {
  case null
  case boolean(Bool)
  case integer(Int64)
  case real(Double)
  case string(String)
  case array([JSONValue])
  /// The members that were asked for.
  case object([String: JSONValue])

  /// Nil if the bytes are no JSON, hold a key twice, or something else behind the value. The library refuses nesting beyond 2,048 levels.
  package init?(_ bytes: [UInt8]) {
    let parsed = unsafe bytes.withUnsafeBufferPointer { unsafe cjansson_parse($0.baseAddress, $0.count) }
    guard let value = unsafe parsed else { return nil }
    defer { unsafe cjansson_free(value) }
    unsafe self.init(value, depth: 0)
  }

  /// What is nested deeper than any answer of ours is read as null.
  private static let deepest = 16

  private init(_ value: OpaquePointer, depth: Int) {
    switch Int(unsafe cjansson_kind(value)) {
    case CJANSSON_BOOLEAN: self = .boolean(unsafe cjansson_boolean(value))
    case CJANSSON_INTEGER: self = .integer(unsafe cjansson_integer(value))
    case CJANSSON_REAL: self = .real(unsafe cjansson_real(value))
    case CJANSSON_STRING:
      var length = 0
      let text = unsafe cjansson_string(value, &length)
      self = .string(unsafe String(decoding: UnsafeBufferPointer(start: text, count: length), as: UTF8.self))
    case CJANSSON_ARRAY where depth < Self.deepest:
      var elements: [JSONValue] = []
      for index in 0..<(unsafe cjansson_count(value)) {
        if let element = unsafe cjansson_element(value, index) { elements.append(unsafe JSONValue(element, depth: depth + 1)) }
      }
      self = .array(elements)
    case CJANSSON_OBJECT where depth < Self.deepest:
      self = .object(unsafe Self.members(value, depth: depth))
    default: self = .null
    }
  }

  private static func members(_ object: OpaquePointer, depth: Int) -> [String: JSONValue] {
    var members: [String: JSONValue] = [:]
    var iterator = unsafe cjansson_first(object)
    while let at = unsafe iterator {
      var length = 0
      if let key = unsafe cjansson_key(at, &length), let value = unsafe cjansson_value_at(at) {
        let name = unsafe String(decoding: UnsafeBufferPointer(start: key, count: length), as: UTF8.self)
        members[name] = unsafe JSONValue(value, depth: depth + 1)
      }
      unsafe iterator = cjansson_next(object, at)
    }
    return members
  }

  package subscript(_ key: String) -> JSONValue? {
    guard case .object(let members) = self else { return nil }
    return members[key]
  }

  package var elements: [JSONValue] {
    guard case .array(let elements) = self else { return [] }
    return elements
  }

  package var text: String? {
    guard case .string(let text) = self else { return nil }
    return text
  }

  package var integer: Int64? {
    guard case .integer(let number) = self else { return nil }
    return number
  }

  package var number: Double? {
    switch self {
    case .integer(let number): Double(number)
    case .real(let number): number
    default: nil
    }
  }

  package var isTrue: Bool { self == .boolean(true) }
}
