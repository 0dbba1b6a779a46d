import CConntrack

/// A way around the queue of a `ConntrackEventSocket`: an eBPF program in the place of its filter writes the events into memory that is read without a system
/// call. What it cannot take comes through the socket as ever, so that nothing is lost for the ring's sake.
///
/// Needs Linux 5.8, and CAP_BPF or CAP_SYS_ADMIN while it is opened; sockets that are opened later can use it without them.
@safe
package struct ConntrackEventRing: ~Copyable {
  private let ring: OpaquePointer

  package init(ports: [UInt16] = [53]) throws(SetupError) {
    var failure = unsafe conntrack_failure()
    guard let ring = unsafe conntrack_ring_open(ports, ports.count, &failure) else { throw unsafe SetupError(ring: failure) }
    unsafe self.ring = ring
  }

  deinit { unsafe conntrack_ring_close(ring) }

  /// For epoll, EPOLLIN.
  package var descriptor: Int32 { unsafe conntrack_ring_descriptor(ring) }

  /// Messages that the program left to the socket since it was opened: too long, of a form that it does not know, or without room in the ring.
  package var left: UInt64 { unsafe conntrack_ring_left(ring) }

  /// From now on the socket drains the ring too, which must outlive it. One that used the ring before must be gone.
  package func serve(_ socket: inout ConntrackEventSocket) throws(SetupError) { unsafe try socket.use(ring) }
}
