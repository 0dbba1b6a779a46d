/// `enum ip_conntrack_status` as ctnetlink sends it in CTA_STATUS (include/uapi/linux/netfilter/nf_conntrack_common.h).
@usableFromInline
package struct ConntrackStatus: OptionSet, BitwiseCopyable, Hashable, Sendable {
  @usableFromInline package let rawValue: UInt32
  @inlinable package init(rawValue: UInt32) { self.rawValue = rawValue }

  package static let seenReply = ConntrackStatus(rawValue: 1 << 1)
  package static let assured = ConntrackStatus(rawValue: 1 << 2)
  package static let confirmed = ConntrackStatus(rawValue: 1 << 3)
  package static let sourceNAT = ConntrackStatus(rawValue: 1 << 4)
  package static let destinationNAT = ConntrackStatus(rawValue: 1 << 5)
  package static let sourceNATDone = ConntrackStatus(rawValue: 1 << 7)
  package static let destinationNATDone = ConntrackStatus(rawValue: 1 << 8)
  package static let dying = ConntrackStatus(rawValue: 1 << 9)
  package static let fixedTimeout = ConntrackStatus(rawValue: 1 << 10)
  /// The entry clashed with another on insertion and stands in the reply direction only, for one second (IPS_NAT_CLASH, the old IPS_UNTRACKED bit).
  package static let natClash = ConntrackStatus(rawValue: 1 << 12)
}

/// One ctnetlink event, or one entry of a dump.
@usableFromInline
package struct ConntrackEvent: BitwiseCopyable, Sendable {
  @usableFromInline
  package enum Kind: UInt8, BitwiseCopyable, Sendable {
    /// CT_NEW with NLM_F_CREATE|NLM_F_EXCL.
    case new
    /// CT_NEW without these flags.
    case update
    /// CT_DELETE.
    case destroy
    /// Not an event: an entry of a table dump, made before the dump was asked for.
    case dumped
  }

  @usableFromInline package var kind: Kind
  @usableFromInline package var original: FiveTuple
  @usableFromInline package var reply: FiveTuple
  /// CTA_ZONE, or CTA_TUPLE_ZONE of the original tuple where the zone holds in one direction only. 0 is the default zone.
  @usableFromInline package var zone: UInt16
  @usableFromInline package var status: ConntrackStatus
  /// CTA_ID; repeats when the kernel reuses the object for the same tuple.
  @usableFromInline package var id: UInt32
  @usableFromInline package var mark: UInt32
  /// CTA_TIMESTAMP_START and _STOP, nanoseconds of CLOCK_REALTIME; 0 where nf_conntrack_timestamp is off.
  @usableFromInline package var start: UInt64
  @usableFromInline package var stop: UInt64
  /// When the agent read the event: at most one sweep (about 10 ms) after it happened.
  @usableFromInline package var readAt: Instant

  @inlinable package init(
    kind: Kind, original: FiveTuple, reply: FiveTuple, zone: UInt16 = 0, status: ConntrackStatus = [], id: UInt32 = 0, mark: UInt32 = 0,
    start: UInt64 = 0, stop: UInt64 = 0, readAt: Instant
  ) {
    self.kind = kind
    self.original = original
    self.reply = reply
    self.zone = zone
    self.status = status
    self.id = id
    self.mark = mark
    self.start = start
    self.stop = stop
    self.readAt = readAt
  }

  /// True if the destination was translated. By the tuples, never by the status: IPVS sets no IPS_DST_NAT.
  package var isDestinationTranslated: Bool { original.destination != reply.source }
  /// True if source address or port was translated (masquerading, or a port remapped to avoid a clash).
  package var isSourceTranslated: Bool { original.source != reply.destination }
}
