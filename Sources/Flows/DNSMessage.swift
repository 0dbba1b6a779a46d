/// Header and first question of a DNS message (RFC 1035 4.1, RFC 6891). The name travels beside it as wire bytes.
@usableFromInline
package struct DNSMessage: BitwiseCopyable, Equatable, Sendable {
  @usableFromInline package var id: UInt16 = 0
  @usableFromInline package var isResponse = false
  /// RFC 1035 4.1.1; 0 is a standard query.
  @usableFromInline package var opcode: UInt8 = 0
  @usableFromInline package var isTruncated = false
  /// The low four bits of the response code, with the EDNS upper bits in front where an OPT record was seen within the snap length.
  @usableFromInline package var responseCode: UInt16 = 0
  @usableFromInline package var questionCount: UInt16 = 0
  /// QTYPE and QCLASS of the first question; 0 where there is none.
  @usableFromInline package var queryType: UInt16 = 0
  @usableFromInline package var queryClass: UInt16 = 0
  /// True if an OPT record (RFC 6891) was seen within the snap length.
  @usableFromInline package var hasEDNS = false
  /// The requestor's UDP payload size of the OPT record; 0 where there is none.
  @usableFromInline package var udpPayloadSize: UInt16 = 0
  /// `SeededHash` of the first question: the name's wire bytes in lower case, QTYPE and QCLASS. 0 where there is no question.
  @usableFromInline package var questionHash: UInt64 = 0
  /// The same over the name alone.
  @usableFromInline package var nameHash: UInt64 = 0

  @inlinable package init() {}
}

/// Well-known query types (IANA DNS parameters), for labels and records. Any other is written `TYPE<n>` (RFC 3597 5).
package enum QueryType {
  package static let a: UInt16 = 1
  package static let aaaa: UInt16 = 28

  private static let names: [(UInt16, StaticString)] = [
    (1, "A"), (2, "NS"), (5, "CNAME"), (6, "SOA"), (12, "PTR"), (15, "MX"), (16, "TXT"), (28, "AAAA"), (33, "SRV"), (35, "NAPTR"), (43, "DS"),
    (48, "DNSKEY"), (64, "SVCB"), (65, "HTTPS"), (255, "ANY"),
  ]

  /// Mnemonic, or `TYPE<n>`.
  package static func name(_ type: UInt16) -> String {
    for (value, name) in names where value == type { return "\(name)" }
    return "TYPE\(type)"
  }
}
