/// Why a packet was not decoded. Counted by reason, never fatal.
package enum DecodeError: UInt8, Error, BitwiseCopyable, CaseIterable, Sendable {
  /// The EtherType is neither IPv4 nor IPv6.
  case notIP
  /// The packet ends inside an IP header or an extension header.
  case truncatedIP
  /// The version, header length or total length contradicts itself or the packet.
  case badIP
  /// More IPv6 extension headers than are followed.
  case tooManyExtensions
  /// A fragment other than the first: it carries neither ports nor a DNS header.
  case laterFragment
  /// An IPv6 header with an IPv4-mapped address: it must not pass for a flow of the IPv4 address.
  case mappedAddress
  case truncatedUDP
  /// The UDP length is shorter than its header or longer than the IP packet.
  case badUDPLength
  case truncatedTCP
  /// The transport is neither UDP nor TCP, nor ICMP with an error about UDP.
  case notDNS
  /// The datagram, or what was captured of it, ends inside the header or the first question.
  case truncatedDNS
  /// A label of a reserved type (RFC 1035 4.1.4, RFC 6891 5).
  case badName
  /// A compression pointer that does not point backwards.
  case badPointer
  /// A name of more than 255 bytes (RFC 1035 3.1).
  case nameTooLong
  /// An ICMP error ends before the ports of the datagram that it quotes, or quotes no UDP datagram.
  case badQuotation

  /// The packet ended before it was read: where only a part of it was at hand, the rest may have told more.
  package var isShortage: Bool {
    switch self {
    case .truncatedIP, .truncatedUDP, .truncatedTCP, .truncatedDNS: true
    default: false
    }
  }

  /// The value of the label `reason`.
  package var name: StaticString {
    switch self {
    case .notIP: "not_ip"
    case .truncatedIP: "truncated_ip"
    case .badIP: "bad_ip"
    case .tooManyExtensions: "too_many_extensions"
    case .laterFragment: "later_fragment"
    case .mappedAddress: "mapped_address"
    case .truncatedUDP: "truncated_udp"
    case .badUDPLength: "bad_udp_length"
    case .truncatedTCP: "truncated_tcp"
    case .notDNS: "not_dns"
    case .truncatedDNS: "truncated_dns"
    case .badName: "bad_name"
    case .badPointer: "bad_pointer"
    case .nameTooLong: "name_too_long"
    case .badQuotation: "bad_quotation"
    }
  }
}
