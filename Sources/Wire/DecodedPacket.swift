package import Flows

/// What one packet says: who to whom, and the DNS message it carries. The name stays in the decoder.
///
/// Of an ICMP error (`transport` is `.icmp` or `.icmpv6`) everything here is that of the datagram it quotes; its own part is the decoder's
/// `icmpError`. Of a message that is quoted in part, the ID alone may be known, or nothing.
package struct DecodedPacket: BitwiseCopyable, Sendable {
  package var source: Endpoint
  package var destination: Endpoint
  package var transport: TransportProtocol
  /// The first of several fragments: the message may go on in them.
  package var isFirstFragment: Bool
  /// Empty for TCP, whose payload is not looked at.
  package var dns: DNSMessage

  package init(
    source: Endpoint, destination: Endpoint, transport: TransportProtocol, isFirstFragment: Bool = false, dns: DNSMessage = DNSMessage()
  ) {
    self.source = source
    self.destination = destination
    self.transport = transport
    self.isFirstFragment = isFirstFragment
    self.dns = dns
  }
}
