import Flows

extension OptionValue where Value == Int64 {
  /// Nanoseconds, written as Go writes durations.
  package static func duration(_ range: ClosedRange<Int64>) -> Self {
    OptionValue(
      placeholder: "DURATION",
      parse: { text throws(BadValue) in
        guard let value = parseDuration(text), range.contains(value) else {
          throw BadValue(
            problem: "is not a duration from \(durationText(range.lowerBound)) to \(durationText(range.upperBound)), like 10s, 1m30s or 1500ms")
        }
        return value
      },
      show: { durationText($0) })
  }
}

private let durationUnits: [(name: [UInt8], nanoseconds: Int64)] = [
  (Array("ms".utf8), Nanoseconds.perMillisecond),
  (Array("h".utf8), 3600 * Nanoseconds.perSecond),
  (Array("m".utf8), 60 * Nanoseconds.perSecond),
  (Array("s".utf8), Nanoseconds.perSecond),
]

/// Nanoseconds of a duration such as `10s`, `1m30s`, `1.5s` or `500ms`: decimal numbers, each with a unit of h, m, s or ms. Nil for
/// anything else: a number without a unit, a sign, more than nine digits, more than fits.
package func parseDuration(_ text: String) -> Int64? {
  var rest = Array(text.utf8)[...]
  guard (1...64).contains(rest.count) else { return nil }
  var total: Int64 = 0
  while !rest.isEmpty {
    let whole = rest.prefix { (0x30...0x39).contains($0) }
    rest = rest.dropFirst(whole.count)
    var fraction: ArraySlice<UInt8> = []
    if rest.first == UInt8(ascii: ".") {
      fraction = rest.dropFirst().prefix { (0x30...0x39).contains($0) }
      rest = rest.dropFirst(1 + fraction.count)
      guard !fraction.isEmpty else { return nil }
    }
    guard (1...9).contains(whole.count), fraction.count <= 9 else { return nil }
    guard let unit = durationUnits.first(where: { rest.starts(with: $0.name) }) else { return nil }
    rest = rest.dropFirst(unit.name.count)
    let number = whole.reduce(Int64(0)) { $0 * 10 + Int64($1 - 0x30) }
    let (product, overflow) = number.multipliedReportingOverflow(by: unit.nanoseconds)
    var part: Int64 = 0
    var scale = unit.nanoseconds
    for digit in fraction {
      scale /= 10
      part += Int64(digit - 0x30) * scale
    }
    let (sum, sumOverflow) = product.addingReportingOverflow(part)
    let (next, totalOverflow) = total.addingReportingOverflow(sum)
    guard !overflow, !sumOverflow, !totalOverflow else { return nil }
    total = next
  }
  return total
}

/// The shortest text that `parseDuration` reads back: `10s`, `5m`, `1m30s`, `1500ms`. Whole milliseconds only.
package func durationText(_ nanoseconds: Int64) -> String {
  let milliseconds = nanoseconds / Nanoseconds.perMillisecond
  if milliseconds % 1000 != 0 || milliseconds == 0 { return "\(milliseconds)ms" }
  let seconds = milliseconds / 1000
  var text = ""
  if seconds >= 3600 { text += "\(seconds / 3600)h" }
  if seconds / 60 % 60 != 0 { text += "\(seconds / 60 % 60)m" }
  if seconds % 60 != 0 { text += "\(seconds % 60)s" }
  return text
}
