/// Offsets in the header of a DNS message (RFC 1035 4.1.1).
enum DNSHeader {
  static let id = 0
  static let flags = 2
  static let questionCount = 4
  static let answerCount = 6
  static let authorityCount = 8
  static let additionalCount = 10
  static let length = 12
}

/// The OPT pseudo-record of EDNS (RFC 6891 6.1.2, 6.1.3).
struct OPTRecord: BitwiseCopyable {
  /// The sender's UDP payload size: the CLASS field.
  var udpPayloadSize: UInt16
  /// The upper eight bits of the response code: the first byte of the TTL field.
  var extendedResponseCode: UInt8

  /// Questions and records passed over on the way to it.
  static let walkLimit = 32
  private static let type: UInt16 = 41

  /// Looks for the OPT record of the additional section among the first records of a message.
  /// Stops silently where the message was cut or makes no sense: what matters of it is already known.
  ///
  /// - Parameter offset: of what follows the first question.
  static func find(_ message: RawSpan, from offset: Int) -> OPTRecord? {
    let otherQuestions = max(Int(message.uint16(at: DNSHeader.questionCount)) - 1, 0)
    let additional = otherQuestions + Int(message.uint16(at: DNSHeader.answerCount)) + Int(message.uint16(at: DNSHeader.authorityCount))
    let count = additional + Int(message.uint16(at: DNSHeader.additionalCount))
    var offset = offset
    for index in 0..<min(count, walkLimit) {
      guard let fields = skipName(message, at: offset) else { return nil }
      if index < otherQuestions {
        offset = fields + 4
        continue
      }
      // TYPE, CLASS, TTL, RDLENGTH (RFC 1035 4.1.3).
      guard message.byteCount - fields >= 10 else { return nil }
      // The OPT record's name is the root: one zero byte.
      if index >= additional, message.uint16(at: fields) == type, fields == offset + 1 {
        return OPTRecord(udpPayloadSize: message.uint16(at: fields + 2), extendedResponseCode: message.octet(at: fields + 4))
      }
      offset = fields + 10 + Int(message.uint16(at: fields + 8))
    }
    return nil
  }

  /// The offset after a name, or nil. A pointer ends it and is not followed.
  private static func skipName(_ message: RawSpan, at start: Int) -> Int? {
    var offset = start
    while offset < message.byteCount {
      let octet = Int(message.octet(at: offset))
      switch octet {
      case 0: return offset + 1
      case 1...63: offset += 1 + octet
      case 0xC0...: return offset + 2
      default: return nil
      }
    }
    return nil
  }
}
