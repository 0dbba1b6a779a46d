package import Flows
internal import Glibc

/// Where to listen: `ADDR:PORT`, `[v6]:PORT` or `:PORT`.
package struct HTTPListenAddress: Equatable, Sendable {
  /// The unspecified IPv6 address listens on every address of both families.
  package let address: IPAddress
  /// 0: the kernel chooses.
  package let port: UInt16

  package init(address: IPAddress, port: UInt16) {
    self.address = address
    self.port = port
  }

  /// Reads what a person wrote. Names are not looked up: an agent must not depend on the resolver that it watches.
  ///
  /// - Throws: `HTTPListenAddressError` with the reason.
  package init(parsing text: String) throws(HTTPListenAddressError) {
    guard let colon = text.utf8.lastIndex(of: UInt8(ascii: ":")) else { throw HTTPListenAddressError(text: text, reason: "no port") }
    let host = text.utf8[..<colon]
    guard let port = Self.port(text.utf8[text.utf8.index(after: colon)...]) else {
      throw HTTPListenAddressError(text: text, reason: "the port is not a number from 0 to 65535")
    }
    self.port = port
    if host.isEmpty {
      address = .unspecified
    } else if host.first == UInt8(ascii: "["), host.last == UInt8(ascii: "]"), host.count > 2 {
      guard let address = Self.v6(String(Substring(host.dropFirst().dropLast()))) else {
        throw HTTPListenAddressError(text: text, reason: "not an IPv6 address in the brackets")
      }
      self.address = address
    } else if host.contains(UInt8(ascii: ":")) {
      throw HTTPListenAddressError(text: text, reason: "an IPv6 address needs brackets, as in [::1]:10553")
    } else {
      guard let address = Self.v4(String(Substring(host))) else {
        throw HTTPListenAddressError(text: text, reason: "not an IP address before the port")
      }
      self.address = address
    }
  }

  /// The same port on IPv4 only: what is left where the kernel has no IPv6.
  package var withoutIPv6: HTTPListenAddress? {
    address == .unspecified ? HTTPListenAddress(address: IPAddress(v4: 0), port: port) : nil
  }

  /// The address as `struct in6_addr` holds it, IPv4 in the last four bytes.
  var bytes: [UInt8] {
    (0..<16).map { index in
      let half = index < 8 ? address.high : address.low
      return UInt8(truncatingIfNeeded: half >> UInt64(56 - 8 * (index % 8)))
    }
  }

  private static func port(_ digits: Substring.UTF8View) -> UInt16? {
    guard (1...5).contains(digits.count), digits.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) else { return nil }
    return UInt16(Substring(digits))
  }

  private static func v4(_ text: String) -> IPAddress? {
    var raw = in_addr()
    guard unsafe inet_pton(AF_INET, text, &raw) == 1 else { return nil }
    return IPAddress(v4: UInt32(bigEndian: raw.s_addr))
  }

  private static func v6(_ text: String) -> IPAddress? {
    var raw = in6_addr()
    guard unsafe inet_pton(AF_INET6, text, &raw) == 1 else { return nil }
    return unsafe withUnsafeBytes(of: &raw) { bytes in
      let high = unsafe bytes.loadUnaligned(fromByteOffset: 0, as: UInt64.self)
      let low = unsafe bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
      return IPAddress(high: UInt64(bigEndian: high), low: UInt64(bigEndian: low))
    }
  }
}

extension HTTPListenAddress: CustomStringConvertible {
  package var description: String { address.isV4 ? "\(address):\(port)" : "[\(address)]:\(port)" }
}

/// Why a listen address cannot be understood, in one line.
package struct HTTPListenAddressError: Error, Equatable, CustomStringConvertible {
  package let text: String
  package let reason: String

  package var description: String { "listen address \"\(text)\": \(reason)" }
}
