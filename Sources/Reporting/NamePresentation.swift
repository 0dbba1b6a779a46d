/// A DNS name as people and records read it (RFC 1035 5.1, RFC 4343 2.1): labels joined by dots, no trailing dot, case as sent, always printable ASCII.
package enum NamePresentation {
  /// Appends the presentation form of a name in wire form, with or without the root's length octet at the end.
  ///
  /// A dot or backslash inside a label gets a backslash in front; every octet outside 0x21...0x7E becomes `\DDD`. The root is `.`.
  /// What is not a name (a length above 63, a label cut short) ends it there: what was read before is kept, a cut label as far as it goes.
  package static func append(wire name: [UInt8], to out: inout [UInt8]) {
    var index = 0
    var isFirst = true
    while index < name.count {
      let length = Int(name[index])
      // 0xC0 would be a compression pointer (RFC 1035 4.1.4); a question that is kept has none.
      if length == 0 || length > 63 { break }
      if !isFirst { out.append(UInt8(ascii: ".")) }
      isFirst = false
      let end = min(index + 1 + length, name.count)
      for octet in name[(index + 1)..<end] { append(octet: octet, to: &out) }
      index = end
    }
    if isFirst { out.append(UInt8(ascii: ".")) }
  }

  private static func append(octet: UInt8, to out: inout [UInt8]) {
    switch octet {
    case UInt8(ascii: "."), UInt8(ascii: "\\"):
      out.append(UInt8(ascii: "\\"))
      out.append(octet)
    case 0x21...0x7E:
      out.append(octet)
    default:
      out.append(UInt8(ascii: "\\"))
      out.append(UInt8(ascii: "0") + octet / 100)
      out.append(UInt8(ascii: "0") + octet / 10 % 10)
      out.append(UInt8(ascii: "0") + octet % 10)
    }
  }
}
