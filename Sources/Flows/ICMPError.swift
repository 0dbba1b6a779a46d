/// An ICMP error that says of a DNS datagram that it did not get where it was sent: destination unreachable or time exceeded
/// (RFC 792, RFC 4443 3.1 and 3.3). Which datagram that was, the packet's quotation says.
package struct ICMPError: BitwiseCopyable, Equatable, Sendable {
  /// Who says so.
  package var sender = IPAddress.unspecified
  package var receiver = IPAddress.unspecified
  package var type: UInt8 = 0
  package var code: UInt8 = 0
  /// The quotation reaches into the DNS header: the ID is known. RFC 792 asks for no more than the UDP header.
  package var quotesID = false

  package init() {}
}

/// One copy of an ICMP error about a DNS datagram, as the packet tap saw it on one device.
package struct RefusalObservation: BitwiseCopyable, Sendable {
  package var time: Instant
  /// `sll_ifindex`.
  package var interface: UInt32
  /// `sll_pkttype == PACKET_OUTGOING`.
  package var isOutgoing: Bool
  package var error: ICMPError
  /// The tuple of the datagram that the error quotes.
  package var quoted: FiveTuple
  /// Its message: the ID where `error.quotesID`, the question where `questionCount` is not 0.
  package var dns: DNSMessage

  package init(time: Instant, interface: UInt32, isOutgoing: Bool, error: ICMPError, quoted: FiveTuple, dns: DNSMessage) {
    self.time = time
    self.interface = interface
    self.isOutgoing = isOutgoing
    self.error = error
    self.quoted = quoted
    self.dns = dns
  }
}
