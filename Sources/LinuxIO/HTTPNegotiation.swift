/// Which of the two formats of a page an Accept header asks for (RFC 9110 12.5.1). Pure; every input is hostile.
package enum HTTPNegotiation {
  /// True if OpenMetrics 1.0.0 or 0.0.1 is named with a weight above 0 that is not below the text format's.
  ///
  /// Wildcards never choose OpenMetrics: a browser or curl sends `*/*` and wants to read. Anything malformed is skipped.
  package static func prefersOpenMetrics(_ accept: Span<UInt8>) -> Bool {
    var openMetrics = 0
    var text: Int?
    var anyText: Int?
    var anything: Int?
    var start = 0
    while start < accept.count {
      let end = index(of: UInt8(ascii: ","), in: accept, from: start, to: accept.count)
      let range = MediaRange(accept, start, end)
      switch range.type {
      case .openMetrics: openMetrics = max(openMetrics, range.isKnownVersion ? range.weight : 0)
      case .text: text = max(text ?? 0, range.weight)
      case .anyText: anyText = max(anyText ?? 0, range.weight)
      case .anything: anything = max(anything ?? 0, range.weight)
      case .other: break
      }
      start = end + 1
    }
    return openMetrics > 0 && openMetrics >= (text ?? anyText ?? anything ?? 0)
  }

  /// One element of the list: a media range and its parameters.
  private struct MediaRange {
    enum Kind { case openMetrics, text, anyText, anything, other }

    var type: Kind
    /// Thousandths.
    var weight = 1000
    var isKnownVersion = true

    init(_ bytes: Span<UInt8>, _ start: Int, _ end: Int) {
      let typeEnd = HTTPNegotiation.index(of: UInt8(ascii: ";"), in: bytes, from: start, to: end)
      let name = HTTPNegotiation.trim(bytes, start, typeEnd)
      if HTTPNegotiation.equals(bytes, name, "application/openmetrics-text") {
        type = .openMetrics
      } else if HTTPNegotiation.equals(bytes, name, "text/plain") {
        type = .text
      } else if HTTPNegotiation.equals(bytes, name, "text/*") {
        type = .anyText
      } else if HTTPNegotiation.equals(bytes, name, "*/*") {
        type = .anything
      } else {
        type = .other
      }
      var start = typeEnd + 1
      while start < end {
        let parameterEnd = HTTPNegotiation.index(of: UInt8(ascii: ";"), in: bytes, from: start, to: end)
        read(parameter: HTTPNegotiation.trim(bytes, start, parameterEnd), bytes)
        start = parameterEnd + 1
      }
    }

    private mutating func read(parameter: Range<Int>, _ bytes: Span<UInt8>) {
      let equals = HTTPNegotiation.index(of: UInt8(ascii: "="), in: bytes, from: parameter.lowerBound, to: parameter.upperBound)
      guard equals < parameter.upperBound else { return }
      let name = HTTPNegotiation.trim(bytes, parameter.lowerBound, equals)
      let value = HTTPNegotiation.unquote(bytes, HTTPNegotiation.trim(bytes, equals + 1, parameter.upperBound))
      if HTTPNegotiation.equals(bytes, name, "q") {
        weight = HTTPNegotiation.weight(bytes, value)
      } else if type == .openMetrics, HTTPNegotiation.equals(bytes, name, "version") {
        isKnownVersion = HTTPNegotiation.equals(bytes, value, "1.0.0") || HTTPNegotiation.equals(bytes, value, "0.0.1")
      }
    }
  }

  private static func index(of byte: UInt8, in bytes: Span<UInt8>, from start: Int, to end: Int) -> Int {
    var index = start
    while index < end, bytes[index] != byte { index += 1 }
    return index
  }

  private static func trim(_ bytes: Span<UInt8>, _ start: Int, _ end: Int) -> Range<Int> {
    var start = start
    var end = end
    while start < end, isSpace(bytes[start]) { start += 1 }
    while start < end, isSpace(bytes[end - 1]) { end -= 1 }
    return start..<end
  }

  private static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 }

  private static func unquote(_ bytes: Span<UInt8>, _ range: Range<Int>) -> Range<Int> {
    guard range.count >= 2, bytes[range.lowerBound] == UInt8(ascii: "\""), bytes[range.upperBound - 1] == UInt8(ascii: "\"") else { return range }
    return range.lowerBound + 1..<range.upperBound - 1
  }

  /// - Parameter expected: in lower case.
  private static func equals(_ bytes: Span<UInt8>, _ range: Range<Int>, _ expected: StaticString) -> Bool {
    guard range.count == expected.utf8CodeUnitCount else { return false }
    for offset in 0..<range.count {
      let byte = bytes[range.lowerBound + offset]
      let lower = (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) ? byte | 0x20 : byte
      guard unsafe lower == expected.utf8Start[offset] else { return false }
    }
    return true
  }

  /// Thousandths of `0`, `1`, `0.5`, `1.000` (RFC 9110 12.4.2); 0 for anything else.
  private static func weight(_ bytes: Span<UInt8>, _ range: Range<Int>) -> Int {
    guard (1...5).contains(range.count) else { return 0 }
    var value = 0
    var scale = 1000
    for offset in 0..<range.count {
      let byte = bytes[range.lowerBound + offset]
      if offset == 1 {
        guard byte == UInt8(ascii: ".") else { return 0 }
        continue
      }
      guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { return 0 }
      value += Int(byte - UInt8(ascii: "0")) * scale
      scale /= 10
    }
    return value <= 1000 ? value : 0
  }
}
