import Flows

/// A page of HTML that grows. Markup comes from literals alone; every other text is escaped, so that no name can become markup.
struct HTMLText {
  private(set) var bytes: [UInt8]

  /// - Parameter bytes: its storage is used again.
  init(reusing bytes: consuming [UInt8]) {
    self.bytes = bytes
    self.bytes.removeAll(keepingCapacity: true)
  }

  mutating func markup(_ literal: StaticString) { appendLiteral(literal, to: &bytes) }

  mutating func text(_ literal: StaticString) {
    var text: [UInt8] = []
    appendLiteral(literal, to: &text)
    self.text(text)
  }

  mutating func text(_ string: String) { text(Array(string.utf8)) }

  mutating func text(_ text: [UInt8]) {
    // What is not UTF-8 becomes U+FFFD: a browser must never have to guess.
    let valid = text.allSatisfy { $0 < 0x80 } ? text : Array(String(decoding: text, as: UTF8.self).utf8)
    for byte in valid {
      switch byte {
      case UInt8(ascii: "&"): appendLiteral("&amp;", to: &bytes)
      case UInt8(ascii: "<"): appendLiteral("&lt;", to: &bytes)
      case UInt8(ascii: ">"): appendLiteral("&gt;", to: &bytes)
      case UInt8(ascii: "\""): appendLiteral("&quot;", to: &bytes)
      case UInt8(ascii: "'"): appendLiteral("&#39;", to: &bytes)
      case 0..<0x20, 0x7F: bytes.append(UInt8(ascii: " "))
      default: bytes.append(byte)
      }
    }
  }

  mutating func number(_ value: UInt64) { appendDecimal(value, to: &bytes) }

  /// Seconds to a tenth, above a minute to the second.
  mutating func seconds(_ nanoseconds: Int64) {
    let tenths = max(0, nanoseconds) / 100_000_000
    appendDecimal(UInt64(tenths / 10), to: &bytes)
    if tenths < 600 {
      bytes.append(UInt8(ascii: "."))
      appendDecimal(UInt64(tenths % 10), to: &bytes)
    }
    markup("&nbsp;s")
  }

  /// `2026-11-21 06:00:00 UTC`.
  mutating func time(_ time: WallTime) {
    var text: [UInt8] = []
    CivilTime(time).appendRFC3339(to: &text)
    bytes.append(contentsOf: text[0..<10])
    bytes.append(UInt8(ascii: " "))
    bytes.append(contentsOf: text[11..<19])
    markup(" UTC")
  }

  mutating func address(_ address: IPAddress) { address.appendText(to: &bytes) }

  /// One cell of a table.
  mutating func cell(_ body: (inout HTMLText) -> Void) {
    markup("<td>")
    body(&self)
    markup("</td>")
  }
}
