import CKernelProbe
package import Flows

/// Where the probe's programs sit in the kernel, in the order in which they are tried.
package enum KernelProbeRung: String, CaseIterable, Sendable {
  case fexitResolve = "fexit-resolve"
  case kprobeResolve = "kprobe-resolve"
  case fexitConfirm = "fexit-confirm"
  case kprobeConfirm = "kprobe-confirm"
  case kfreeSkb = "kfree-skb"

  fileprivate var number: kernel_probe_rung {
    switch self {
    case .fexitResolve: KERNEL_PROBE_FEXIT_RESOLVE
    case .kprobeResolve: KERNEL_PROBE_KPROBE_RESOLVE
    case .fexitConfirm: KERNEL_PROBE_FEXIT_CONFIRM
    case .kprobeConfirm: KERNEL_PROBE_KPROBE_CONFIRM
    case .kfreeSkb: KERNEL_PROBE_KFREE_SKB
    }
  }
}

/// eBPF programs that tell of DNS queries which clashed at insertion, in the network namespace of the thread that opens them.
///
/// Needs CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN, while it is opened and for nothing afterwards: ring, ports and losses are mapped memory.
@safe
package struct KernelProbe: ~Copyable {
  private let probe: OpaquePointer
  private let events: UnsafeMutablePointer<kernel_probe_event>
  private var order = ProbeOrder(capacity: eventsPerDrain)
  package let rung: KernelProbeRung

  /// Events of one `drain`: all that the ring can hold, so that they are put in order together; and no more, so that a flood of clashes cannot keep the
  /// loop from its other sources.
  package static let eventsPerDrain = 2048
  /// Bytes of one; the ring adds a header of eight.
  static var eventSize: Int { MemoryLayout<kernel_probe_event>.size }

  /// - Parameters:
  ///   - watchesResolved: on the rung `kfreeSkb` also looks at every packet that leaves, for clashes that were resolved. The others see them anyway.
  ///   - counters: each possible CPU's conntrack statistics as they are now.
  package init(
    _ rung: KernelProbeRung, watchesResolved: Bool = false, ports: [UInt16], counters: [ConntrackCPUReading]
  ) throws(KernelProbeFailure) {
    var failure = kernel_probe_failure()
    let seeds = counters.sorted { $0.cpu < $1.cpu }.map {
      kernel_probe_counters(insert_failed: $0.insertFailed, drop: $0.drop, clash_resolve: $0.clashResolve, is_known: 1)
    }
    guard let probe = unsafe kernel_probe_open(rung.number, watchesResolved ? 1 : 0, ports, ports.count, seeds, seeds.count, &failure) else {
      throw KernelProbeFailure(failure, rung)
    }
    unsafe self.probe = probe
    unsafe events = .allocate(capacity: Self.eventsPerDrain)
    self.rung = rung
  }

  deinit {
    unsafe events.deallocate()
    unsafe kernel_probe_close(probe)
  }

  /// For epoll, EPOLLIN.
  package var descriptor: Int32 { unsafe kernel_probe_descriptor(probe) }

  /// A packet that the probe tells of: from the network header on, so far as it was kept.
  package struct Packet {
    package var etherType: UInt16
    /// Bytes that it had, at most 65,535; what is lent of it may be less.
    package var wholeLength: Int
    package var isLengthKnown: Bool { wholeLength > 0 && wholeLength < 0xFFFF }
  }

  /// Gives what the ring holds to `body`, in order of time, each with its packet. Headers and DNS message are the caller's to decode.
  ///
  /// - Returns: true if more may wait.
  package mutating func drain(_ body: (ProbeObservation, RawSpan, Packet) -> Void) -> Bool {
    let count = unsafe kernel_probe_next(probe, events, Self.eventsPerDrain)
    order.arrange(count) { unsafe events[$0].time }
    for index in order.places {
      guard let observation = unsafe ProbeObservation(events[index]) else { continue }
      let length = min(Int(unsafe events[index].length), Int(KERNEL_PROBE_PACKET))
      let shape = Packet(
        etherType: observation.original.source.address.isV4 ? 0x0800 : 0x86DD, wholeLength: Int(unsafe events[index].whole_length))
      unsafe withUnsafeBytes(of: &events[index].packet) { packet in
        body(observation, unsafe packet.bytes.extracting(first: length), shape)
      }
    }
    return count == Self.eventsPerDrain
  }

  /// Events that found no room in the ring, since it was opened.
  package var lost: UInt64 { unsafe kernel_probe_lost(probe) }

  package mutating func setPorts(_ ports: [UInt16]) { unsafe kernel_probe_set_ports(probe, ports, ports.count) }
}

extension ProbeObservation {
  fileprivate init?(_ event: kernel_probe_event) {
    guard let kind = Kind(rawValue: event.kind) else { return nil }
    self.init(
      kind: kind, time: Instant(nanoseconds: Int64(clamping: event.time)), cpu: event.cpu, interface: event.interface, zone: event.zone,
      isExact: event.flags & UInt8(KERNEL_PROBE_EXACT.rawValue) != 0, original: FiveTuple(event.original), reply: FiveTuple(event.reply))
    if event.flags & UInt8(KERNEL_PROBE_WINNER.rawValue) != 0 {
      winnerOriginal = FiveTuple(event.winner_original)
      winnerReply = FiveTuple(event.winner_reply)
    }
  }
}

extension FiveTuple {
  fileprivate init(_ tuple: kernel_probe_tuple) {
    let source = unsafe withUnsafeBytes(of: tuple.source) { unsafe IPAddress($0.bytes, family: tuple.family) }
    let destination = unsafe withUnsafeBytes(of: tuple.destination) { unsafe IPAddress($0.bytes, family: tuple.family) }
    self.init(
      source: Endpoint(source, UInt16(bigEndian: tuple.source_port)), destination: Endpoint(destination, UInt16(bigEndian: tuple.destination_port)),
      protocolNumber: tuple.protocol)
  }
}

extension IPAddress {
  /// - Parameter bytes: `union nf_inet_addr`, in network order.
  fileprivate init(_ bytes: RawSpan, family: UInt16) {
    let high = UInt64(bigEndian: unsafe bytes.unsafeLoadUnaligned(fromByteOffset: 0, as: UInt64.self))
    let low = UInt64(bigEndian: unsafe bytes.unsafeLoadUnaligned(fromByteOffset: 8, as: UInt64.self))
    // AF_INET: the address is the first of four words.
    if family == 2 { self.init(v4: UInt32(truncatingIfNeeded: high >> 32)) } else { self.init(high: high, low: low) }
  }
}
