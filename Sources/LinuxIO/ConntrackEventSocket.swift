import CConntrack
package import Flows
import Glibc

/// The event half of ctnetlink: what happens to the entries of DNS flows, and exactly how much of it was lost.
///
/// The kernel lets through NEW, UPDATE with NAT_CLASH, and DESTROY with NAT_CLASH or without SEEN_REPLY, for UDP and TCP entries that have one of
/// the ports on either side of either tuple. Nothing else is queued, counted or wakes the agent, but with an event ring what its program cannot tell. A dump does not get through either:
/// ask on a `ConntrackRequests`.
@safe
package struct ConntrackEventSocket: ~Copyable {
  private let events: OpaquePointer
  private let records: UnsafeMutablePointer<conntrack_record>
  private let batch: UnsafeMutablePointer<ConntrackEvent>
  private var lastDrops: UInt32
  private var totalLost: UInt64 = 0
  /// Reads that failed for another reason than an empty queue. What was queued stays queued.
  package private(set) var receiveErrors: UInt64 = 0

  /// The kernel grants twice what is asked for: the doubled half is for its own bookkeeping.
  package static let defaultReceiveBuffer = 8 << 20
  /// Messages that one `drain` looks at, so that a flood of events cannot keep the loop from its other sources.
  package static let messagesPerDrain = 65_536
  /// How many events `prepare` is ahead of the body.
  private static let lead = 6
  /// Ports that the kernel filter holds.
  package static let portLimit = Int(CONNTRACK_PORTS_MAX)

  /// Opens the socket in the calling thread's network namespace.
  ///
  /// - Parameter ports: at most `portLimit`, in host order.
  /// - Parameter receiveBuffer: bytes to ask for; beyond net.core.rmem_max with CAP_NET_ADMIN only, see `isReceiveBufferForced`.
  package init(ports: [UInt16] = [53], receiveBuffer: Int = Self.defaultReceiveBuffer) throws(SetupError) {
    var failure = unsafe conntrack_failure()
    guard let events = unsafe conntrack_events_open(ports, ports.count, Int32(clamping: receiveBuffer), &failure) else {
      throw unsafe SetupError(conntrack: failure)
    }
    unsafe self.events = events
    unsafe records = .allocate(capacity: Int(CONNTRACK_BATCH))
    unsafe batch = .allocate(capacity: Int(CONNTRACK_BATCH))
    unsafe batch.initialize(repeating: ConntrackEvent.blank, count: Int(CONNTRACK_BATCH))
    lastDrops = unsafe UInt32(truncatingIfNeeded: max(0, conntrack_events_drops(events)))
    // Drops before the caller's first look count as lost: nothing could be read yet.
    totalLost = UInt64(lastDrops)
  }

  deinit {
    unsafe records.deallocate()
    unsafe batch.deallocate()
    unsafe conntrack_events_close(events)
  }

  /// An event ring brings the events; the socket only what the ring does not take.
  package private(set) var usesRing = false

  /// An event in the ring was still being written when the last `drain` came to it. It and all later ones wait for the next.
  package var isHeldUp: Bool { unsafe conntrack_events_is_held_up(events) }
  /// The ring holds more than the last `drain` saw, for which nobody may be woken: drain again soon.
  package var hasMore: Bool { unsafe conntrack_events_has_more(events) }

  /// For epoll, EPOLLIN.
  package var descriptor: Int32 { unsafe conntrack_events_descriptor(events) }

  /// Bytes that the kernel granted: twice what was asked for, or twice net.core.rmem_max.
  package var receiveBuffer: Int {
    var forced = false
    return unsafe Int(conntrack_events_receive_buffer(events, &forced))
  }

  /// False if SO_RCVBUFFORCE was refused and net.core.rmem_max limits the buffer.
  package var isReceiveBufferForced: Bool {
    var forced = false
    _ = unsafe conntrack_events_receive_buffer(events, &forced)
    return forced
  }

  /// - Parameter ring: outlives this socket.
  @unsafe
  mutating func use(_ ring: OpaquePointer) throws(SetupError) {
    let result = unsafe conntrack_events_use_ring(events, ring)
    if result < 0 { throw SetupError(ringOperation: "put the event ring on the socket", code: 0 &- result) }
    usesRing = true
  }

  /// Replaces the ports of the kernel filter: no event of a port that stays is missed. Entries of a new port that are older than this call gave no
  /// NEW: dump for them.
  package mutating func setPorts(_ ports: [UInt16]) throws(SetupError) {
    let result = unsafe conntrack_events_set_ports(events, ports, ports.count)
    if result < 0 { throw SetupError(conntrack: "set the event ports", code: 0 &- result) }
  }

  /// Gives every event that waits when it begins to `body`, in the kernel's order. Allocates nothing. Around a time when the ring was full the order holds within the ring and
  /// within the socket, not between what came by one and by the other.
  ///
  /// `readAt` of an event is taken after it was received, so the event is never younger.
  ///
  /// - Parameter prepare: gets each event a few before `body` does. Events are lent where they stand: `inout` spares copies of them.
  /// - Returns: true if `limit` was reached and more may be queued.
  package mutating func drain(
    limit: Int = Self.messagesPerDrain, prepare: (inout ConntrackEvent) -> Void = { _ in }, _ body: (inout ConntrackEvent) -> Void
  ) -> Bool {
    var budget = max(0, limit)
    var drained = false
    while !drained && budget > 0 {
      let count = unsafe conntrack_events_next(events, records, Int(CONNTRACK_BATCH), &budget, &drained)
      if count < 0 {
        precondition(count != -EBADF && count != -ENOTSOCK, "the descriptor of the conntrack socket is not ours any more")
        receiveErrors &+= 1
        return false
      }
      let readAt = Instant(nanoseconds: conntrack_now())
      for index in 0..<Int(count) + Self.lead {
        if index < Int(count) {
          unsafe batch[index].take(records + index, readAt: readAt)
          unsafe prepare(&batch[index])
        }
        if index >= Self.lead { unsafe body(&batch[index - Self.lead]) }
      }
    }
    return !drained
  }

  /// Messages that the kernel dropped because the receive buffer was full, since the socket was opened. Exact: received and lost together
  /// are all that passed the filter, or, with an event ring, that its program chose or could not tell. Corresponds to SO_MEMINFO's SK_MEMINFO_DROPS, 32-bit wraps undone.
  package mutating func readLost() -> UInt64 {
    let drops = unsafe conntrack_events_drops(events)
    guard drops >= 0 else { return totalLost }
    let current = UInt32(truncatingIfNeeded: drops)
    totalLost &+= UInt64(current &- lastDrops)
    lastDrops = current
    return totalLost
  }

  /// Messages that the kernel sent and that were read here, from the ring too, good or not.
  package var messages: UInt64 { unsafe conntrack_events_tally(events).pointee.messages }

  /// Datagrams that some process and not the kernel sent (`nl_pid` is not 0), ignored. What comes by an event ring cannot be told so.
  package var foreignMessages: UInt64 { unsafe conntrack_events_tally(events).pointee.foreign }

  /// Messages that were not taken for an entry, for this reason.
  package func errors(_ reason: ConntrackDecodeError) -> UInt64 {
    let results = unsafe conntrack_events_tally(events).pointee.results
    return switch reason {
    case .shortMessage: results.1
    case .otherType: results.2
    case .badAttribute: results.3
    case .noTuple: results.4
    }
  }
}
