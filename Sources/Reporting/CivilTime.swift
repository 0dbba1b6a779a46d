package import Flows

/// A point of UTC as the Gregorian calendar writes it. Arithmetic only: no locale, no time zone data, no leap seconds (POSIX time has none).
package struct CivilTime: Equatable, Sendable {
  package var year: Int64
  package var month: UInt8
  package var day: UInt8
  package var hour: UInt8
  package var minute: UInt8
  package var second: UInt8
  package var nanosecond: UInt32

  /// Right for every value of 0 and more (1970 to 2262); a wall clock before 1970 is shown as 1970-01-01T00:00:00Z.
  package init(_ time: WallTime) {
    let nanoseconds = max(0, time.nanoseconds)
    let seconds = nanoseconds / Nanoseconds.perSecond
    nanosecond = UInt32(truncatingIfNeeded: nanoseconds % Nanoseconds.perSecond)
    let days = seconds / 86_400
    let ofDay = seconds % 86_400
    hour = UInt8(truncatingIfNeeded: ofDay / 3_600)
    minute = UInt8(truncatingIfNeeded: ofDay / 60 % 60)
    second = UInt8(truncatingIfNeeded: ofDay % 60)

    // Days are counted from 0000-03-01, so that the leap day is the last of its year and an era of 400 years has 146,097 days.
    let shifted = days + 719_468
    let era = shifted / 146_097
    let dayOfEra = shifted % 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let monthFromMarch = (5 * dayOfYear + 2) / 153
    day = UInt8(truncatingIfNeeded: dayOfYear - (153 * monthFromMarch + 2) / 5 + 1)
    month = UInt8(truncatingIfNeeded: monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9)
    year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
  }

  /// The time of a text as `appendRFC3339` writes it, from 1970 to 2261; nil for anything else.
  package static func parseRFC3339(_ text: String) -> WallTime? {
    let bytes = Array(text.utf8)
    guard bytes.count == 30, bytes[29] == UInt8(ascii: "Z") else { return nil }
    for (index, byte) in [(4, "-"), (7, "-"), (10, "T"), (13, ":"), (16, ":"), (19, ".")] as [(Int, Unicode.Scalar)] {
      guard bytes[index] == UInt8(ascii: byte) else { return nil }
    }
    func number(_ from: Int, _ count: Int) -> Int64? {
      var value: Int64 = 0
      for byte in bytes[from..<(from + count)] {
        guard (0x30...0x39).contains(byte) else { return nil }
        value = value * 10 + Int64(byte - 0x30)
      }
      return value
    }
    guard let year = number(0, 4), let month = number(5, 2), let day = number(8, 2), let hour = number(11, 2), let minute = number(14, 2),
      let second = number(17, 2), let nanosecond = number(20, 9), (1970...2261).contains(year), (1...12).contains(month), (1...31).contains(day),
      hour < 24, minute < 60, second < 61
    else { return nil }
    let shifted = month <= 2 ? year - 1 : year
    let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
    let days = 365 * shifted + shifted / 4 - shifted / 100 + shifted / 400 + dayOfYear - 719_468
    return WallTime(nanoseconds: (days * 86_400 + hour * 3_600 + minute * 60 + second) * Nanoseconds.perSecond + nanosecond)
  }

  /// Appends RFC 3339 with nanoseconds, always 30 bytes: `2026-11-21T06:00:00.123456789Z`.
  package func appendRFC3339(to out: inout [UInt8]) {
    appendPadded(UInt64(year), 4, to: &out)
    out.append(UInt8(ascii: "-"))
    appendPadded(UInt64(month), 2, to: &out)
    out.append(UInt8(ascii: "-"))
    appendPadded(UInt64(day), 2, to: &out)
    out.append(UInt8(ascii: "T"))
    appendPadded(UInt64(hour), 2, to: &out)
    out.append(UInt8(ascii: ":"))
    appendPadded(UInt64(minute), 2, to: &out)
    out.append(UInt8(ascii: ":"))
    appendPadded(UInt64(second), 2, to: &out)
    out.append(UInt8(ascii: "."))
    appendPadded(UInt64(nanosecond), 9, to: &out)
    out.append(UInt8(ascii: "Z"))
  }

  private func appendPadded(_ value: UInt64, _ width: Int, to out: inout [UInt8]) {
    var unit: UInt64 = 1
    for _ in 1..<width { unit *= 10 }
    while unit > 0 {
      out.append(UInt8(ascii: "0") + UInt8(truncatingIfNeeded: value / unit % 10))
      unit /= 10
    }
  }
}
