import Flows

/// Appends the bytes of a literal.
func appendLiteral(_ text: StaticString, to out: inout [UInt8]) {
  text.withUTF8Buffer { unsafe out.append(contentsOf: $0) }
}

/// Appends `value` as sixteen lower-case hexadecimal digits.
func appendIdentifier(_ value: UInt64, to out: inout [UInt8]) {
  var shift: UInt64 = 64
  while shift > 0 {
    shift -= 4
    out.append(hexadecimalDigit(UInt8(truncatingIfNeeded: value >> shift) & 15))
  }
}

/// The lower-case digit of a value below 16.
func hexadecimalDigit(_ value: UInt8) -> UInt8 {
  value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") &+ value &- 10
}

/// Appends a duration in seconds: a decimal number without exponent and without trailing zeros, exact to the nanosecond.
/// Negative durations, which only a defect upstream can make, are written as 0.
func appendSeconds(nanoseconds: Int64, to out: inout [UInt8]) {
  let total = UInt64(max(0, nanoseconds))
  appendDecimal(total / 1_000_000_000, to: &out)
  var fraction = total % 1_000_000_000
  guard fraction > 0 else { return }
  out.append(UInt8(ascii: "."))
  var unit: UInt64 = 100_000_000
  while fraction > 0 {
    out.append(UInt8(ascii: "0") + UInt8(truncatingIfNeeded: fraction / unit))
    fraction %= unit
    unit /= 10
  }
}
