package import Flows

/// One line of the log, built in a buffer that is used again. Never longer than `maximumBytes`: as much as a pipe takes whole
/// (PIPE_BUF, pipe(7)), so that lines of several writers do not mix and a writable pipe does not block.
struct LogLine {
  static let maximumBytes = 4096
  static let maximumValueBytes = 512

  let format: LogFormat
  private(set) var bytes: [UInt8]
  private var isTruncated = false

  init(format: LogFormat, reusing buffer: consuming [UInt8], time: WallTime, level: LogLevel, message: StaticString) {
    self.format = format
    bytes = buffer
    bytes.removeAll(keepingCapacity: true)
    if format == .json { bytes.append(UInt8(ascii: "{")) }
    appendKey("time")
    if format == .json { bytes.append(0x22) }
    appendTimestamp(time, to: &bytes)
    if format == .json { bytes.append(0x22) }
    append("level", .text(level.rawValue))
    append("msg", .text(message.description))
  }

  /// Adds a field, or nothing but a mark at the end of the line once it would grow too long.
  mutating func append(_ key: StaticString, _ value: LogValue) {
    guard !isTruncated else { return }
    let start = bytes.count
    appendKey(key.description)
    switch value {
    case .text(let text): appendText(text[...])
    case .bytes(let raw): appendText(String(decoding: raw.prefix(Self.maximumValueBytes + 4), as: UTF8.self)[...])
    case .integer(let number): bytes += Array(String(number).utf8)
    case .unsigned(let number): appendDecimal(number, to: &bytes)
    case .boolean(let flag): bytes += Array((flag ? "true" : "false").utf8)
    }
    if bytes.count > Self.maximumBytes - 32 {
      bytes.removeSubrange(start...)
      isTruncated = true
    }
  }

  /// The whole line with its newline.
  mutating func finish() -> [UInt8] {
    if isTruncated {
      appendKey("truncated")
      bytes += Array("true".utf8)
    }
    if format == .json { bytes.append(UInt8(ascii: "}")) }
    bytes.append(UInt8(ascii: "\n"))
    return bytes
  }

  private mutating func appendKey(_ key: String) {
    let isFirst = bytes.count <= 1
    switch format {
    case .json:
      if !isFirst { bytes.append(UInt8(ascii: ",")) }
      bytes.append(0x22)
      appendEscaped(key, to: &bytes)
      bytes += [0x22, UInt8(ascii: ":")]
    case .logfmt:
      if !isFirst { bytes.append(0x20) }
      bytes += Array(key.utf8)
      bytes.append(UInt8(ascii: "="))
    }
  }

  private mutating func appendText(_ text: Substring) {
    var shown = text
    if text.utf8.count > Self.maximumValueBytes {
      var end = text.startIndex
      var length = 0
      for scalar in text.unicodeScalars {
        length += UTF8.width(scalar)
        if length > Self.maximumValueBytes { break }
        end = text.unicodeScalars.index(after: end)
      }
      shown = text[..<end]
    }
    let isQuoted = format == .json || shown.count != text.count || !text.utf8.allSatisfy(Self.isPlain) || text.isEmpty
    if isQuoted { bytes.append(0x22) }
    appendEscaped(shown, to: &bytes)
    if shown.endIndex != text.endIndex { bytes += Array("...".utf8) }
    if isQuoted { bytes.append(0x22) }
  }

  /// What logfmt may leave without quotes: printable ASCII but the space, the quote, the equals sign and the backslash.
  private static func isPlain(_ byte: UInt8) -> Bool {
    byte > 0x20 && byte < 0x7F && byte != 0x22 && byte != 0x3D && byte != 0x5C
  }
}

/// Appends RFC 3339 in UTC with milliseconds: `2026-11-21T06:00:00.123Z`.
package func appendTimestamp(_ time: WallTime, to out: inout [UInt8]) {
  let (days, nanosecondOfDay) = time.nanoseconds.flooredQuotientAndRemainder(86_400 * Nanoseconds.perSecond)
  // Civil date of a day number, counted from 1 March of year 0 (the proleptic Gregorian calendar repeats every 146,097 days).
  let shifted = days + 719_468
  let (era, dayOfEra) = shifted.flooredQuotientAndRemainder(146_097)
  let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
  let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
  let marchMonth = (5 * dayOfYear + 2) / 153
  let day = dayOfYear - (153 * marchMonth + 2) / 5 + 1
  let month = marchMonth < 10 ? marchMonth + 3 : marchMonth - 9
  let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
  let seconds = nanosecondOfDay / Nanoseconds.perSecond
  appendPadded(year, 4, "", to: &out)
  appendPadded(month, 2, "-", to: &out)
  appendPadded(day, 2, "-", to: &out)
  appendPadded(seconds / 3600, 2, "T", to: &out)
  appendPadded(seconds / 60 % 60, 2, ":", to: &out)
  appendPadded(seconds % 60, 2, ":", to: &out)
  appendPadded(nanosecondOfDay / Nanoseconds.perMillisecond % 1000, 3, ".", to: &out)
  out.append(UInt8(ascii: "Z"))
}

private func appendPadded(_ value: Int64, _ width: Int, _ separator: StaticString, to out: inout [UInt8]) {
  out += Array(separator.description.utf8)
  let digits = String(value)
  for _ in 0..<max(0, width - digits.utf8.count) { out.append(UInt8(ascii: "0")) }
  out += Array(digits.utf8)
}

extension Int64 {
  fileprivate func flooredQuotientAndRemainder(_ divisor: Int64) -> (Int64, Int64) {
    let (quotient, remainder) = quotientAndRemainder(dividingBy: divisor)
    return remainder < 0 ? (quotient - 1, remainder + divisor) : (quotient, remainder)
  }
}
