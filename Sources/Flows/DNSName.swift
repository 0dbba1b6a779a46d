/// DNS names in wire form: labels, each behind its length, up to the root's zero byte (RFC 1035 3.1).
package enum DNSName {
  /// Appends the presentation form (RFC 1035 5.1, RFC 4343 2.1) without making a string: case as sent, no trailing dot, the root as `.`;
  /// always printable ASCII.
  ///
  /// Inside a label `.` `\` `"` `(` `)` `;` `@` `$` are written with a backslash before them, and every byte outside 0x21...0x7E, the space too, as
  /// `\DDD` in decimal. Empty bytes (a message without a question) append nothing; bytes that are no name are written as far as they go.
  package static func appendPresentation(_ wire: RawSpan, to out: inout [UInt8]) {
    guard wire.byteCount > 0 else { return }
    let start = out.count
    var offset = 0
    while offset < wire.byteCount {
      let length = Int(unsafe wire.unsafeLoad(fromByteOffset: offset, as: UInt8.self))
      if length == 0 { break }
      if offset > 0 { out.append(UInt8(ascii: ".")) }
      let end = min(offset + 1 + length, wire.byteCount)
      offset += 1
      while offset < end {
        appendEscaped(unsafe wire.unsafeLoad(fromByteOffset: offset, as: UInt8.self), to: &out)
        offset += 1
      }
    }
    if out.count == start { out.append(UInt8(ascii: ".")) }
  }

  package static func appendPresentation(_ wire: [UInt8], to out: inout [UInt8]) {
    appendPresentation(unsafe wire.span.bytes, to: &out)
  }

  /// The presentation form as a string.
  package static func presentation(_ wire: [UInt8]) -> String {
    var text: [UInt8] = []
    appendPresentation(wire, to: &text)
    return String(decoding: text, as: UTF8.self)
  }

  private static func appendEscaped(_ byte: UInt8, to out: inout [UInt8]) {
    switch byte {
    case UInt8(ascii: "."), UInt8(ascii: "\\"), UInt8(ascii: "\""), UInt8(ascii: "("), UInt8(ascii: ")"), UInt8(ascii: ";"), UInt8(ascii: "@"),
      UInt8(ascii: "$"):
      out.append(UInt8(ascii: "\\"))
      out.append(byte)
    case 0x21...0x7E:
      out.append(byte)
    default:
      out.append(UInt8(ascii: "\\"))
      out.append(UInt8(ascii: "0") + byte / 100)
      out.append(UInt8(ascii: "0") + byte / 10 % 10)
      out.append(UInt8(ascii: "0") + byte % 10)
    }
  }
}

extension SeededHash {
  /// Combines a name in wire form, upper and lower case alike (RFC 4343).
  /// A name ends itself, so the zeros that fill up its last word are not ambiguous.
  @inlinable package mutating func combine(name wire: RawSpan) {
    let count = wire.byteCount
    var offset = 0
    while count - offset >= 16 {
      combine(Self.lowerCased(Self.word(wire, offset)), Self.lowerCased(Self.word(wire, offset + 8)))
      offset += 16
    }
    let first: UInt64
    if count - offset >= 8 {
      first = Self.word(wire, offset)
      offset += 8
    } else {
      first = 0
    }
    let rest = count - offset
    var tail: UInt64 = 0
    if rest > 0 && count >= 8 {
      // The last eight bytes, less those already combined.
      tail = Self.word(wire, count - 8) &>> UInt64(8 * (8 - rest))
    } else {
      while offset < count {
        tail |= UInt64(unsafe wire.unsafeLoad(fromByteOffset: offset, as: UInt8.self)) &<< UInt64(8 * offset)
        offset += 1
      }
    }
    combine(Self.lowerCased(first), Self.lowerCased(tail))
  }

  @inlinable static func word(_ wire: RawSpan, _ offset: Int) -> UInt64 {
    UInt64(littleEndian: unsafe wire.unsafeLoadUnaligned(fromByteOffset: offset, as: UInt64.self))
  }

  /// Lower-cases the ASCII letters among eight bytes at once. Length bytes are at most 63, less than any letter.
  @inlinable static func lowerCased(_ word: UInt64) -> UInt64 {
    let ones: UInt64 = 0x0101_0101_0101_0101
    let low = word & (ones &* 0x7F)
    // Bit 7 of each byte: not less than `A`, and more than `Z`.
    let fromA = low &+ ones &* UInt64(0x80 - 0x41)
    let pastZ = low &+ ones &* UInt64(0x80 - 0x5B)
    return word | ((fromA ^ pastZ) & ~word & (ones &* 0x80)) >> 2
  }
}
