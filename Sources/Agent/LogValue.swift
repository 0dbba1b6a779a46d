/// What may stand behind a key in a log line.
package enum LogValue: Sendable {
  case text(String)
  /// Bytes that should be UTF-8 and may not be: each ill-formed sequence is shown as U+FFFD.
  case bytes([UInt8])
  case integer(Int64)
  case unsigned(UInt64)
  case boolean(Bool)

  package static func count(_ value: some BinaryInteger) -> LogValue { .integer(Int64(clamping: value)) }
}

extension LogValue: ExpressibleByStringInterpolation, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral {
  package init(stringLiteral value: String) { self = .text(value) }
  package init(integerLiteral value: Int64) { self = .integer(value) }
  package init(booleanLiteral value: Bool) { self = .boolean(value) }
}

/// Keys are literals of the source, values may come from anywhere.
package typealias LogFields = KeyValuePairs<StaticString, LogValue>
