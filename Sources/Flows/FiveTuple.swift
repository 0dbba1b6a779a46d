/// A transport endpoint: address and port (host order).
@usableFromInline
package struct Endpoint: BitwiseCopyable, Hashable, Sendable {
  @usableFromInline package var address: IPAddress
  @usableFromInline package var port: UInt16

  @inlinable package init(_ address: IPAddress, _ port: UInt16) {
    self.address = address
    self.port = port
  }

  @inlinable package static var none: Endpoint { Endpoint(.unspecified, 0) }

  @inlinable package static func == (a: Endpoint, b: Endpoint) -> Bool { a.address == b.address && a.port == b.port }
}

/// IP protocol numbers that matter here (RFC 768, RFC 9293, RFC 792, RFC 4443).
@usableFromInline
package enum TransportProtocol: UInt8, BitwiseCopyable, Sendable {
  case icmp = 1
  case tcp = 6
  case udp = 17
  case icmpv6 = 58

  /// By the byte: what the compiler makes of a raw value is a generic call from another module.
  @inlinable @inline(__always) package static func == (a: TransportProtocol, b: TransportProtocol) -> Bool {
    unsafe unsafeBitCast(a, to: UInt8.self) == unsafeBitCast(b, to: UInt8.self)
  }
}

/// Source, destination and IP protocol of one direction of a flow.
@usableFromInline
package struct FiveTuple: BitwiseCopyable, Hashable, Sendable {
  @usableFromInline package var source: Endpoint
  @usableFromInline package var destination: Endpoint
  @usableFromInline package var protocolNumber: UInt8

  @inlinable package init(source: Endpoint, destination: Endpoint, protocolNumber: UInt8) {
    self.source = source
    self.destination = destination
    self.protocolNumber = protocolNumber
  }

  @inlinable package init(udp source: Endpoint, _ destination: Endpoint) {
    self.init(source: source, destination: destination, protocolNumber: 17)
  }

  /// The tuple of a packet that goes the other way.
  @inlinable package var inverse: FiveTuple {
    FiveTuple(source: destination, destination: source, protocolNumber: protocolNumber)
  }

  @inlinable package static func == (a: FiveTuple, b: FiveTuple) -> Bool {
    a.source == b.source && a.destination == b.destination && a.protocolNumber == b.protocolNumber
  }
}

extension Endpoint: CustomStringConvertible {
  @usableFromInline package var description: String { address.isV4 ? "\(address):\(port)" : "[\(address)]:\(port)" }
}

extension FiveTuple: CustomStringConvertible {
  @usableFromInline package var description: String { "\(source)>\(destination)/\(protocolNumber)" }
}
