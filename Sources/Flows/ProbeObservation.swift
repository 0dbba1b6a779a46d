/// What the kernel probe tells of one DNS query whose insertion into the conntrack table clashed.
package struct ProbeObservation: BitwiseCopyable, Sendable {
  package enum Kind: UInt8, BitwiseCopyable, Sendable {
    /// Dropped: NF_DROP of `__nf_conntrack_confirm`.
    case dropped = 1
    /// Resolved: the packet goes on with the winner's entry.
    case merged = 2
    /// Resolved: its own entry stands in the reply direction only (IPS_NAT_CLASH).
    case replyOnly = 3
  }

  package var kind: Kind
  /// When the packet was dropped or passed on.
  package var time: Instant
  package var wallTime = WallTime(nanoseconds: 0)
  package var cpu: UInt32
  /// The device that it came in by; 0 for what this node sent itself.
  package var interface: UInt32
  package var zone: UInt16
  /// On this CPU the counters that name the cause moved by one each, with this packet.
  package var isExact: Bool
  /// The packet's own tuples: as it was sent, and the reply tuple that it wanted.
  package var original: FiveTuple
  package var reply: FiveTuple
  /// Those of the entry that it clashed with; nil where the probe does not see them.
  package var winnerOriginal: FiveTuple?
  package var winnerReply: FiveTuple?
  /// The packet's headers after translation.
  package var sent: FiveTuple
  package var dns = DNSMessage()

  package init(kind: Kind, time: Instant, cpu: UInt32, interface: UInt32 = 0, zone: UInt16 = 0, isExact: Bool, original: FiveTuple, reply: FiveTuple)
  {
    self.kind = kind
    self.time = time
    self.cpu = cpu
    self.interface = interface
    self.zone = zone
    self.isExact = isExact
    self.original = original
    self.reply = reply
    sent = reply.inverse
  }
}
