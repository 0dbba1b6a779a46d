import Flows

/// One line of JSON (RFC 8259): an object, written into a buffer that is borrowed while it grows. Keys are literals without anything to escape;
/// every text value is escaped, whatever its octets.
///
/// `begin` takes the caller's bytes and `end` gives them back longer by one line; in between the caller's array is empty.
struct JSONLine {
  private var bytes: [UInt8] = []
  private var needsComma = false

  private init() {}

  static func begin(_ out: inout [UInt8]) -> JSONLine {
    var line = JSONLine()
    swap(&line.bytes, &out)
    line.bytes.append(UInt8(ascii: "{"))
    return line
  }

  consuming func end(_ out: inout [UInt8]) {
    bytes.append(UInt8(ascii: "}"))
    bytes.append(UInt8(ascii: "\n"))
    swap(&bytes, &out)
  }

  mutating func member(_ key: StaticString, _ value: StaticString) {
    self.key(key)
    var text: [UInt8] = []
    appendLiteral(value, to: &text)
    appendString(text)
  }

  mutating func member(_ key: StaticString, _ value: UInt64) {
    self.key(key)
    appendDecimal(value, to: &bytes)
  }

  mutating func member(_ key: StaticString, isTrue value: Bool) {
    self.key(key)
    appendLiteral(value ? "true" : "false", to: &bytes)
  }

  mutating func member(_ key: StaticString, text value: [UInt8]) {
    self.key(key)
    appendString(value)
  }

  mutating func member(_ key: StaticString, text value: String) {
    member(key, text: Array(value.utf8))
  }

  mutating func member(_ key: StaticString, time value: WallTime) {
    self.key(key)
    string { CivilTime(value).appendRFC3339(to: &$0) }
  }

  mutating func member(_ key: StaticString, identifier value: UInt64) {
    self.key(key)
    string { appendIdentifier(value, to: &$0) }
  }

  mutating func member(_ key: StaticString, seconds nanoseconds: Int64) {
    self.key(key)
    appendSeconds(nanoseconds: nanoseconds, to: &bytes)
  }

  /// For what may be negative: differences of two clocks.
  mutating func member(_ key: StaticString, signedSeconds nanoseconds: Int64) {
    self.key(key)
    if nanoseconds < 0 { bytes.append(UInt8(ascii: "-")) }
    appendSeconds(nanoseconds: nanoseconds == .min ? .max : abs(nanoseconds), to: &bytes)
  }

  mutating func member(_ key: StaticString, _ value: IPAddress) {
    self.key(key)
    string { value.appendText(to: &$0) }
  }

  /// A member whose value is an object; `body` writes its members.
  mutating func object(_ key: StaticString, _ body: (inout JSONLine) -> Void) {
    self.key(key)
    open(UInt8(ascii: "{"))
    body(&self)
    close(UInt8(ascii: "}"))
  }

  /// A member whose value is an array; `body` writes its elements.
  mutating func array(_ key: StaticString, _ body: (inout JSONLine) -> Void) {
    self.key(key)
    open(UInt8(ascii: "["))
    body(&self)
    close(UInt8(ascii: "]"))
  }

  /// An object as element of an array.
  mutating func element(_ body: (inout JSONLine) -> Void) {
    comma()
    open(UInt8(ascii: "{"))
    body(&self)
    close(UInt8(ascii: "}"))
  }

  /// A string as element of an array: `name`, or `name+delta`.
  mutating func element(_ name: StaticString, delta: UInt64? = nil) {
    comma()
    string {
      appendLiteral(name, to: &$0)
      if let delta {
        $0.append(UInt8(ascii: "+"))
        appendDecimal(delta, to: &$0)
      }
    }
  }

  private mutating func key(_ key: StaticString) {
    comma()
    string { appendLiteral(key, to: &$0) }
    bytes.append(UInt8(ascii: ":"))
  }

  private mutating func comma() {
    if needsComma { bytes.append(UInt8(ascii: ",")) }
    needsComma = true
  }

  private mutating func open(_ bracket: UInt8) {
    bytes.append(bracket)
    needsComma = false
  }

  private mutating func close(_ bracket: UInt8) {
    bytes.append(bracket)
    needsComma = true
  }

  /// A string whose bytes, all made here, need no escapes.
  private mutating func string(_ body: (inout [UInt8]) -> Void) {
    bytes.append(UInt8(ascii: "\""))
    body(&bytes)
    bytes.append(UInt8(ascii: "\""))
  }

  /// A string of any octets. What is not UTF-8 becomes U+FFFD, so that one bad byte cannot spoil the line.
  private mutating func appendString(_ text: [UInt8]) {
    let valid = text.allSatisfy { $0 < 0x80 } ? text : Array(String(decoding: text, as: UTF8.self).utf8)
    bytes.append(UInt8(ascii: "\""))
    for byte in valid {
      switch byte {
      case UInt8(ascii: "\""), UInt8(ascii: "\\"):
        bytes.append(UInt8(ascii: "\\"))
        bytes.append(byte)
      case 0..<0x20, 0x7F:
        appendLiteral("\\u00", to: &bytes)
        bytes.append(hexadecimalDigit(byte >> 4))
        bytes.append(hexadecimalDigit(byte & 15))
      default:
        bytes.append(byte)
      }
    }
    bytes.append(UInt8(ascii: "\""))
  }
}
