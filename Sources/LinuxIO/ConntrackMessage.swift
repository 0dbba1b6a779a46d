import CConntrack
package import Flows

/// Why a ctnetlink message was not taken for an entry.
package enum ConntrackDecodeError: UInt8, Error, CaseIterable {
  /// The headers do not fit, or the message is longer than what was received.
  case shortMessage = 1
  /// Neither IPCTNL_MSG_CT_NEW nor IPCTNL_MSG_CT_DELETE.
  case otherType = 2
  /// An attribute runs over the end of what holds it, or is too short for its type.
  case badAttribute = 3
  /// A tuple is missing, or has no addresses of one family, or no protocol.
  case noTuple = 4

  /// The value of the label `reason`.
  package var name: StaticString {
    switch self {
    case .shortMessage: "short_message"
    case .otherType: "other_type"
    case .badAttribute: "bad_attribute"
    case .noTuple: "no_tuple"
    }
  }
}

/// ctnetlink messages without a socket: for recordings, fuzzing and tests. The sockets use the same parser.
package enum ConntrackMessage {
  /// Decodes one netlink message. Unknown attributes are skipped; absent ones are 0.
  ///
  /// - Parameter bytes: the message from its `struct nlmsghdr` on, 4-byte aligned.
  package static func decode(_ bytes: RawSpan, readAt: Instant) throws(ConntrackDecodeError) -> ConntrackEvent {
    var record = conntrack_record()
    var length = 0
    let result = unsafe bytes.withUnsafeBytes { buffer in
      guard let base = buffer.baseAddress else { return Int32(ConntrackDecodeError.shortMessage.rawValue) }
      return unsafe conntrack_parse(base, buffer.count, &record, &length)
    }
    if let error = ConntrackDecodeError(rawValue: UInt8(truncatingIfNeeded: result)) { throw error }
    return unsafe ConntrackEvent(&record, readAt: readAt)
  }
}

extension ConntrackEvent {
  static var blank: ConntrackEvent {
    let tuple = FiveTuple(udp: .none, .none)
    return ConntrackEvent(kind: .update, original: tuple, reply: tuple, readAt: .zero)
  }

  /// - Parameter kind: in place of the record's own; a dump's entries look like updates.
  init(_ record: UnsafePointer<conntrack_record>, kind: Kind? = nil, readAt: Instant) {
    self = .blank
    unsafe take(record, readAt: readAt)
    if let kind { self.kind = kind }
  }

  /// Writes the record over this one, field by field: to build an event and copy it here costs more than to parse it.
  @inline(__always) mutating func take(_ record: UnsafePointer<conntrack_record>, readAt: Instant) {
    kind = unsafe Kind(rawValue: record.pointee.kind) ?? .update
    unsafe original.take(record.pointee.original)
    unsafe reply.take(record.pointee.reply)
    zone = unsafe record.pointee.zone
    status = unsafe ConntrackStatus(rawValue: record.pointee.status)
    id = unsafe record.pointee.id
    mark = unsafe record.pointee.mark
    start = unsafe record.pointee.start
    stop = unsafe record.pointee.stop
    self.readAt = readAt
  }
}

extension FiveTuple {
  @inline(__always) fileprivate mutating func take(_ tuple: conntrack_tuple) {
    source = Endpoint(IPAddress(high: tuple.source_high, low: tuple.source_low), tuple.source_port)
    destination = Endpoint(IPAddress(high: tuple.destination_high, low: tuple.destination_low), tuple.destination_port)
    protocolNumber = tuple.protocol
  }
}
