/// `enum ip_conntrack_status` as ctnetlink sends it in CTA_STATUS (include/uapi/linux/netfilter/nf_conntrack_common.h).
@usableFromInline
package struct ConntrackStatus: OptionSet, BitwiseCopyable, Hashable, Sendable {
  @usableFromInline package let rawValue: UInt32
  @inlinable package init(rawValue: UInt32) { self.rawValue = rawValue }

  @inlinable package static var seenReply: ConntrackStatus { ConntrackStatus(rawValue: 1 << 1) }
  @inlinable package static var assured: ConntrackStatus { ConntrackStatus(rawValue: 1 << 2) }
  @inlinable package static var confirmed: ConntrackStatus { ConntrackStatus(rawValue: 1 << 3) }
  @inlinable package static var sourceNAT: ConntrackStatus { ConntrackStatus(rawValue: 1 << 4) }
  @inlinable package static var destinationNAT: ConntrackStatus { ConntrackStatus(rawValue: 1 << 5) }
  @inlinable package static var sourceNATDone: ConntrackStatus { ConntrackStatus(rawValue: 1 << 7) }
  @inlinable package static var destinationNATDone: ConntrackStatus { ConntrackStatus(rawValue: 1 << 8) }
  @inlinable package static var dying: ConntrackStatus { ConntrackStatus(rawValue: 1 << 9) }
  @inlinable package static var fixedTimeout: ConntrackStatus { ConntrackStatus(rawValue: 1 << 10) }
  /// The entry clashed with another on insertion and stands in the reply direction only, for one second (IPS_NAT_CLASH, the old IPS_UNTRACKED bit).
  @inlinable package static var natClash: ConntrackStatus { ConntrackStatus(rawValue: 1 << 12) }
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
  @inlinable package var isDestinationTranslated: Bool { original.destination != reply.source }
  /// True if source address or port was translated (masquerading, or a port remapped to avoid a clash).
  @inlinable package var isSourceTranslated: Bool { original.source != reply.destination }
}
