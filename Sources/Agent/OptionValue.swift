import Flows

/// Why a text is not a value of its option, as the words that follow it: `is not a whole number from 1 to 16`.
package struct BadValue: Error, Equatable, Sendable {
  package var problem: String
}

/// How one kind of value is read from text and shown again. Both directions, so that a default shown is a default that parses.
package struct OptionValue<Value: Sendable>: Sendable {
  /// What stands for the value in help: `DURATION`, `debug|info|warn|error`.
  package let placeholder: String
  package let parse: @Sendable (String) throws(BadValue) -> Value
  package let show: @Sendable (Value) -> String

  package init(
    placeholder: String, parse: @escaping @Sendable (String) throws(BadValue) -> Value, show: @escaping @Sendable (Value) -> String
  ) {
    self.placeholder = placeholder
    self.parse = parse
    self.show = show
  }
}

extension OptionValue where Value == Bool {
  package static var boolean: Self {
    OptionValue(
      placeholder: "true|false",
      parse: { text throws(BadValue) in
        switch text {
        case "true": return true
        case "false": return false
        default: throw BadValue(problem: "is not one of true, false")
        }
      },
      show: { $0 ? "true" : "false" })
  }
}

extension OptionValue where Value: FixedWidthInteger {
  /// Decimal digits only: no sign, no separators.
  package static func whole(_ range: ClosedRange<Value>, placeholder: String = "N") -> Self {
    OptionValue(
      placeholder: placeholder,
      parse: { text throws(BadValue) in
        guard !text.isEmpty, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let value = Value(text), range.contains(value) else {
          throw BadValue(problem: "is not a whole number from \(range.lowerBound) to \(range.upperBound)")
        }
        return value
      },
      show: { String($0) })
  }
}

extension OptionValue where Value: RawRepresentable & CaseIterable, Value.RawValue == String {
  package static var choice: Self {
    let words = Value.allCases.map(\.rawValue)
    return OptionValue(
      placeholder: words.joined(separator: "|"),
      parse: { text throws(BadValue) in
        guard let value = Value(rawValue: text) else { throw BadValue(problem: "is not one of " + words.joined(separator: ", ")) }
        return value
      },
      show: { $0.rawValue })
  }
}

extension OptionValue where Value == Endpoint {
  /// A literal address and a port; an address left out (`:10553`) is every address of both families.
  static var endpoint: Self {
    OptionValue(
      placeholder: "ADDRESS:PORT",
      parse: { text throws(BadValue) in
        guard let value = Endpoint(listening: text) else {
          throw BadValue(problem: "is not an IP address and a port, like 127.0.0.1:10554 or [::]:10553")
        }
        return value
      },
      show: { $0.description })
  }
}

extension Endpoint {
  fileprivate init?(listening text: String) {
    guard let colon = text.utf8.lastIndex(of: UInt8(ascii: ":")) else { return nil }
    let digits = text[text.index(after: colon)...]
    guard (1...5).contains(digits.utf8.count), digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let port = UInt16(digits) else { return nil }
    let host = text[..<colon]
    if host.isEmpty {
      self.init(.unspecified, port)
    } else if host.first == "[" && host.last == "]" {
      let inner = String(host.dropFirst().dropLast())
      guard inner.utf8.contains(UInt8(ascii: ":")), let address = IPAddress(inner) else { return nil }
      self.init(address, port)
    } else {
      guard !host.utf8.contains(UInt8(ascii: ":")), let address = IPAddress(String(host)) else { return nil }
      self.init(address, port)
    }
  }
}

extension OptionValue where Value == String {
  /// A path as the system takes it.
  package static func path(placeholder: String = "FILE") -> Self {
    OptionValue(
      placeholder: placeholder,
      parse: { text throws(BadValue) in
        guard isPath(text) else { throw BadValue(problem: "is not a path") }
        return text
      },
      show: { $0 })
  }

  package static var directory: Self {
    OptionValue(
      placeholder: "DIR",
      parse: { text throws(BadValue) in
        guard isPath(text), text.utf8.first == UInt8(ascii: "/") else { throw BadValue(problem: "is not an absolute path, like /host/proc") }
        return text
      },
      show: { $0 })
  }

  /// A POSIX extended regular expression that compiles.
  package static var pattern: Self {
    OptionValue(
      placeholder: "REGEX",
      parse: { text throws(BadValue) in
        do throws(InterfacePattern.Invalid) {
          _ = try InterfacePattern(text)
        } catch {
          throw BadValue(problem: "is not a POSIX extended regular expression: \(error.problem)")
        }
        return text
      },
      show: { $0 })
  }

  /// A node's name: Kubernetes takes a DNS subdomain of at most 253 bytes, other hosts what their operators like.
  package static var nodeName: Self {
    OptionValue(
      placeholder: "TEXT",
      parse: { text throws(BadValue) in
        guard (1...253).contains(text.utf8.count), text.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else {
          throw BadValue(problem: "is not a name of 1 to 253 printable ASCII characters without spaces")
        }
        return text
      },
      show: { $0 })
  }
}

extension OptionValue {
  /// The same value where none may be set; nil is shown as nothing.
  package static func optional<Wrapped>(_ wrapped: OptionValue<Wrapped>) -> Self where Value == Wrapped? {
    OptionValue(
      placeholder: wrapped.placeholder,
      parse: { text throws(BadValue) in try wrapped.parse(text) },
      show: { $0.map(wrapped.show) ?? "" })
  }
}

private func isPath(_ text: String) -> Bool {
  (1..<4096).contains(text.utf8.count) && !text.utf8.contains(0)
}
