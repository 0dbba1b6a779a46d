/// The text formats in which metrics are served.
package enum ExpositionFormat: UInt8, Sendable, CaseIterable {
  /// Prometheus text 0.0.4.
  case text
  /// OpenMetrics 1.0.0.
  case openMetrics
  /// The same page under the version that servers before 2.43 also ask for. It differs in its name only.
  case openMetrics001

  package var isOpenMetrics: Bool { self != .text }

  /// The value of the Content-Type header. Prometheus 3 refuses a scrape without it.
  package var contentType: StaticString {
    switch self {
    case .text: "text/plain; version=0.0.4; charset=utf-8"
    case .openMetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8"
    case .openMetrics001: "application/openmetrics-text; version=0.0.1; charset=utf-8"
    }
  }

  /// Chooses a format by an Accept header (RFC 9110 12.5.1). Never refuses: what asks for nothing that exists gets text.
  ///
  /// The highest quality wins; of equal ones a named format before a wildcard, and then the one listed first. A format in a version that is not
  /// written here does not count. No more than 4,096 octets are read.
  package static func negotiate(accept: [UInt8]) -> ExpositionFormat {
    var best = ExpositionFormat.text
    var bestQuality = 0
    var bestIsWildcard = true
    for element in accept.prefix(4_096).split(separator: UInt8(ascii: ",")) {
      guard let range = MediaRange(element), let format = range.format, range.quality > 0 else { continue }
      if range.quality > bestQuality || (range.quality == bestQuality && bestIsWildcard && !range.isWildcard) {
        best = format
        bestQuality = range.quality
        bestIsWildcard = range.isWildcard
      }
    }
    return best
  }
}

/// One element of an Accept header.
private struct MediaRange {
  /// Thousandths: 1000 is `q=1`.
  var quality = 1_000
  var isWildcard = false
  /// Nil for what is not served.
  var format: ExpositionFormat?

  /// Nil if its quality is not a number of RFC 9110 12.4.2.
  init?(_ element: ArraySlice<UInt8>) {
    let parts = element.split(separator: UInt8(ascii: ";"), omittingEmptySubsequences: false)
    guard let type = parts.first else { return nil }
    var version: [UInt8] = []
    for part in parts.dropFirst() {
      guard let equals = part.firstIndex(of: UInt8(ascii: "=")) else { continue }
      let value = Self.unquoted(part[(equals + 1)...])
      switch Self.lowered(part[..<equals]) {
      case Array("q".utf8):
        guard let parsed = Self.parseQuality(value) else { return nil }
        quality = parsed
      case Array("version".utf8): version = value
      default: break
      }
    }
    switch Self.lowered(type) {
    case Array("application/openmetrics-text".utf8):
      if version.isEmpty || version == Array("1.0.0".utf8) {
        format = .openMetrics
      } else if version == Array("0.0.1".utf8) {
        format = .openMetrics001
      }
    case Array("text/plain".utf8):
      if version.isEmpty || version == Array("0.0.4".utf8) { format = .text }
    case Array("text/*".utf8), Array("*/*".utf8):
      isWildcard = true
      format = .text
    default: break
    }
  }

  private static func trimmed(_ text: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
    var text = text
    while let first = text.first, first == 0x20 || first == 0x09 { text.removeFirst() }
    while let last = text.last, last == 0x20 || last == 0x09 { text.removeLast() }
    return text
  }

  private static func lowered(_ text: ArraySlice<UInt8>) -> [UInt8] {
    trimmed(text).map { (0x41...0x5A).contains($0) ? $0 | 0x20 : $0 }
  }

  private static func unquoted(_ text: ArraySlice<UInt8>) -> [UInt8] {
    let text = trimmed(text)
    guard text.count >= 2, text.first == UInt8(ascii: "\""), text.last == UInt8(ascii: "\"") else { return Array(text) }
    return Array(text.dropFirst().dropLast())
  }

  /// `0`, `1`, `0.5`, `1.000`: at most three decimals.
  private static func parseQuality(_ text: [UInt8]) -> Int? {
    guard let whole = text.first, whole == UInt8(ascii: "0") || whole == UInt8(ascii: "1") else { return nil }
    var quality = whole == UInt8(ascii: "1") ? 1_000 : 0
    guard text.count > 1 else { return quality }
    guard text[1] == UInt8(ascii: "."), text.count <= 5 else { return nil }
    var unit = 100
    for digit in text[2...] {
      guard (0x30...0x39).contains(digit) else { return nil }
      quality += Int(digit - 0x30) * unit
      unit /= 10
    }
    return quality <= 1_000 ? quality : nil
  }
}
