/// An IPv4 or IPv6 address, 128 bits in host order. IPv4 is held v4-mapped (RFC 4291 2.5.5.2), so that one comparison serves both families.
@usableFromInline
package struct IPAddress: BitwiseCopyable, Hashable, Sendable {
  @usableFromInline package var high: UInt64
  @usableFromInline package var low: UInt64

  @inlinable package init(high: UInt64, low: UInt64) {
    self.high = high
    self.low = low
  }

  /// - Parameter v4: the address in host order: 10.0.0.1 is 0x0A00_0001.
  @inlinable package init(v4: UInt32) {
    self.init(high: 0, low: 0xFFFF_0000_0000 | UInt64(v4))
  }

  @inlinable package static var unspecified: IPAddress { IPAddress(high: 0, low: 0) }

  /// True for a v4-mapped address, that is, for every address that came from an IPv4 header.
  @inlinable package var isV4: Bool { high == 0 && low >> 32 == 0xFFFF }

  /// The IPv4 address in host order; meaningless unless `isV4`.
  @inlinable package var v4: UInt32 { UInt32(truncatingIfNeeded: low) }

  @inlinable package var isLoopback: Bool {
    isV4 ? v4 >> 24 == 127 : (high == 0 && low == 1)
  }

  /// 224.0.0.0/4 (RFC 5771) or ff00::/8 (RFC 4291 2.7).
  @inlinable package var isMulticast: Bool {
    isV4 ? v4 >> 28 == 0xE : high >> 56 == 0xFF
  }

  @inlinable package static func == (a: IPAddress, b: IPAddress) -> Bool { a.high == b.high && a.low == b.low }
}

extension IPAddress: CustomStringConvertible {
  /// Dotted quad, or IPv6 as RFC 5952 writes it: lower case, the longest run of two or more zero groups as `::`.
  @usableFromInline package var description: String {
    var text: [UInt8] = []
    appendText(to: &text)
    return String(decoding: text, as: UTF8.self)
  }

  /// Appends what `description` returns, without making a string.
  package func appendText(to out: inout [UInt8]) {
    if isV4 {
      for octet in 0..<4 {
        if octet > 0 { out.append(UInt8(ascii: ".")) }
        appendDecimal(UInt64((v4 >> UInt32(24 - 8 * octet)) & 0xFF), to: &out)
      }
      return
    }
    var bestStart = -1
    var bestLength = 1
    var start = -1
    for index in 0..<8 {
      if group(index) == 0 {
        if start < 0 { start = index }
        if index - start + 1 > bestLength {
          bestStart = start
          bestLength = index - start + 1
        }
      } else {
        start = -1
      }
    }
    var index = 0
    while index < 8 {
      if index == bestStart {
        out.append(UInt8(ascii: ":"))
        out.append(UInt8(ascii: ":"))
        index += bestLength
        continue
      }
      if index > 0 && index != bestStart + bestLength { out.append(UInt8(ascii: ":")) }
      appendHexadecimal(UInt64(group(index)), to: &out)
      index += 1
    }
  }

  /// Parses a dotted quad or IPv6 text (RFC 4291 2.2, with an embedded dotted quad); no zone index. Nil if it is neither.
  package init?(_ text: String) {
    let bytes = Array(text.utf8)
    if !bytes.contains(UInt8(ascii: ":")) {
      guard let v4 = Self.parseV4(bytes[...]) else { return nil }
      self.init(v4: v4)
      return
    }
    var before: [UInt16] = []
    var after: [UInt16] = []
    var compressed = false
    var rest = bytes[...]
    if rest.starts(with: [0x3A, 0x3A]) {
      compressed = true
      rest = rest.dropFirst(2)
    }
    while !rest.isEmpty {
      let end = rest.firstIndex(of: 0x3A) ?? rest.endIndex
      let part = rest[rest.startIndex..<end]
      if part.contains(UInt8(ascii: ".")) {
        guard end == rest.endIndex, let v4 = Self.parseV4(part) else { return nil }
        let groups = [UInt16(truncatingIfNeeded: v4 >> 16), UInt16(truncatingIfNeeded: v4)]
        if compressed { after += groups } else { before += groups }
        rest = rest[end...]
        break
      }
      guard let value = Self.parseGroup(part) else { return nil }
      if compressed { after.append(value) } else { before.append(value) }
      rest = rest[end...]
      if rest.isEmpty { break }
      rest = rest.dropFirst()
      if rest.first == 0x3A {
        if compressed { return nil }
        compressed = true
        rest = rest.dropFirst()
      } else if rest.isEmpty {
        return nil
      }
    }
    guard compressed ? before.count + after.count < 8 : before.count == 8 else { return nil }
    let groups = before + Array(repeating: 0, count: 8 - before.count - after.count) + after
    self.init(
      high: groups[0..<4].reduce(0) { $0 << 16 | UInt64($1) },
      low: groups[4..<8].reduce(0) { $0 << 16 | UInt64($1) })
  }

  private static func parseGroup(_ text: ArraySlice<UInt8>) -> UInt16? {
    guard (1...4).contains(text.count) else { return nil }
    var value: UInt16 = 0
    for byte in text {
      let digit: UInt8
      switch byte {
      case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = byte - UInt8(ascii: "0")
      case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = byte - UInt8(ascii: "a") + 10
      case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = byte - UInt8(ascii: "A") + 10
      default: return nil
      }
      value = value << 4 | UInt16(digit)
    }
    return value
  }

  private static func parseV4(_ text: ArraySlice<UInt8>) -> UInt32? {
    let parts = text.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
    guard parts.count == 4 else { return nil }
    var value: UInt32 = 0
    for part in parts {
      guard (1...3).contains(part.count), part.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
      let octet = part.reduce(0) { $0 * 10 + UInt32($1 - 0x30) }
      guard octet <= 255, part.count == 1 || part.first != 0x30 else { return nil }
      value = value << 8 | octet
    }
    return value
  }

  private func group(_ index: Int) -> UInt16 {
    let half = index < 4 ? high : low
    return UInt16(truncatingIfNeeded: half >> (48 - 16 * UInt64(index & 3)))
  }
}

/// Appends `value` in decimal digits.
package func appendDecimal(_ value: UInt64, to out: inout [UInt8]) {
  let start = out.count
  var rest = value
  repeat {
    out.append(UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest % 10))
    rest /= 10
  } while rest > 0
  out[start...].reverse()
}

/// Appends `value` in lower-case hexadecimal digits, without leading zeros.
package func appendHexadecimal(_ value: UInt64, to out: inout [UInt8]) {
  let start = out.count
  var rest = value
  repeat {
    let digit = UInt8(truncatingIfNeeded: rest & 15)
    out.append(digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10)
    rest >>= 4
  } while rest > 0
  out[start...].reverse()
}
