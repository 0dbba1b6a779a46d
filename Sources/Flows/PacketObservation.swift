/// One copy of a DNS message as the packet tap saw it on one device.
@usableFromInline
package struct PacketObservation: BitwiseCopyable, Sendable {
  /// The kernel's stamp, put on the monotonic time line.
  @usableFromInline package var time: Instant
  /// The kernel's stamp itself.
  @usableFromInline package var wallTime: WallTime
  /// `sll_ifindex`.
  @usableFromInline package var interface: UInt32
  /// `sll_pkttype == PACKET_OUTGOING`. Everything else is a copy on its way in, PACKET_OTHERHOST on bridge ports too.
  @usableFromInline package var isOutgoing: Bool
  @usableFromInline package var source: Endpoint
  @usableFromInline package var destination: Endpoint
  @usableFromInline package var transport: TransportProtocol
  /// The UDP checksum was looked at and is wrong.
  @usableFromInline package var hasBadChecksum: Bool
  @usableFromInline package var dns: DNSMessage

  @inlinable package init(
    time: Instant, wallTime: WallTime, interface: UInt32, isOutgoing: Bool, source: Endpoint, destination: Endpoint,
    transport: TransportProtocol = .udp, hasBadChecksum: Bool = false, dns: DNSMessage
  ) {
    self.time = time
    self.wallTime = wallTime
    self.interface = interface
    self.isOutgoing = isOutgoing
    self.source = source
    self.destination = destination
    self.transport = transport
    self.hasBadChecksum = hasBadChecksum
    self.dns = dns
  }

  @inlinable package var tuple: FiveTuple {
    FiveTuple(source: source, destination: destination, protocolNumber: transport.rawValue)
  }
}

/// What a network device leads to, from rtnetlink (IFLA_INFO_KIND, IFLA_MASTER, IFLA_INFO_SLAVE_KIND, the default routes).
@usableFromInline
package struct NetworkDevice: Sendable, Equatable {
  @usableFromInline
  package enum Kind: UInt8, BitwiseCopyable, Sendable, CaseIterable {
    /// veth, netkit, tap or another device whose other end is a local workload, also where it is a port of a bridge.
    case workload
    /// A bridge itself: frames pass on to one of its ports.
    case bridge
    /// A physical or virtual card, bond, VLAN, or any device that carries a default route.
    case uplink
    /// vxlan, geneve, gre, ipip, sit, wireguard, tun.
    case tunnel
    case loopback
    /// ipvlan, macvlan, dummy and whatever is not known: no vantage is concluded from it alone.
    case other

    /// By the byte: what the compiler makes of a raw value is a generic call from another module.
    @inlinable @inline(__always) package static func == (a: Kind, b: Kind) -> Bool {
      unsafe unsafeBitCast(a, to: UInt8.self) == unsafeBitCast(b, to: UInt8.self)
    }
  }

  package var index: UInt32
  package var name: String
  package var kind: Kind
  /// IFLA_MASTER; 0 where the device is nobody's port.
  package var master: UInt32

  package init(index: UInt32, name: String, kind: Kind, master: UInt32 = 0) {
    self.index = index
    self.name = name
    self.kind = kind
    self.master = master
  }
}
