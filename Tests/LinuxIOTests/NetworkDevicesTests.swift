import Flows
import Glibc
import Testing

@testable import LinuxIO

/// What the changes add up to.
private struct Picture {
  var devices: [String: NetworkDevice] = [:]
  var addresses: Set<IPAddress> = []
  /// Changes that do not fit what was there: an unknown device removed, an address twice.
  var misfits: [String] = []

  mutating func apply(_ change: NetworkDeviceChange) {
    switch change {
    case .deviceChanged(let device):
      for (name, known) in devices where known.index == device.index { devices[name] = nil }
      devices[device.name] = device
    case .deviceRemoved(let index):
      guard let name = devices.first(where: { $0.value.index == index })?.key else {
        misfits.append("removed \(index)")
        return
      }
      devices[name] = nil
    case .addressAdded(let address): if !addresses.insert(address).inserted { misfits.append("added \(address)") }
    case .addressRemoved(let address): if addresses.remove(address) == nil { misfits.append("removed \(address)") }
    }
  }
}

private func has(_ picture: Picture, _ address: String) -> Bool { IPAddress(address).map(picture.addresses.contains) ?? false }

struct NetworkDeviceKindTests {
  @Test(arguments: [
    ("", false, 1, false, NetworkDevice.Kind.uplink), ("", true, 772, true, .loopback), ("veth", false, 1, false, .workload),
    ("veth", false, 1, true, .uplink), ("netkit", false, 1, false, .workload), ("tun", false, 1, false, .workload),
    ("tun", false, 65534, false, .tunnel), ("bridge", false, 1, false, .bridge), ("bridge", false, 1, true, .bridge),
    ("vxlan", false, 1, false, .tunnel), ("geneve", false, 1, false, .tunnel), ("gre", false, 778, false, .tunnel),
    ("ipip", false, 768, false, .tunnel), ("sit", false, 776, false, .tunnel), ("wireguard", false, 65534, false, .tunnel),
    ("wireguard", false, 65534, true, .uplink), ("vlan", false, 1, false, .uplink), ("bond", false, 1, false, .uplink),
    ("team", false, 1, false, .uplink), ("ipvlan", false, 1, false, .other), ("macvlan", false, 1, false, .other),
    ("dummy", false, 1, false, .other), ("ifb", false, 1, false, .other), ("something", false, 1, false, .other),
    ("macvlan", false, 1, true, .uplink),
  ])
  func classifies(driver: String, loopback: Bool, hardware: UInt16, route: Bool, kind: NetworkDevice.Kind) {
    #expect(NetworkDevice.Kind(driver: driver, isLoopback: loopback, hardwareType: hardware, carriesDefaultRoute: route) == kind)
  }
}

@Suite(.enabled(if: Sandbox.isAvailable, Sandbox.reason))
struct NetworkDevicesTests {
  private static let specifications: [(String, String, NetworkDevice.Kind)] = [
    ("k0", "link add name k0 type veth peer name k1", .workload), ("k2", "link add name k2 type bridge", .bridge),
    ("k3", "link add name k3 type vxlan id 5 dstport 4789", .tunnel), ("k4", "tuntap add dev k4 mode tun", .tunnel),
    ("k5", "tuntap add dev k5 mode tap", .workload), ("k6", "link add name k6 type ifb", .other),
    ("k7", "link add name k7 type dummy", .other), ("k8", "link add link k0 name k8 type vlan id 9", .uplink),
    ("k9", "link add name k9 type wireguard", .tunnel), ("k10", "link add name k10 type geneve id 3 remote 192.0.2.1", .tunnel),
    ("k11", "link add name k11 type ipip local 192.0.2.2 remote 192.0.2.3", .tunnel), ("k12", "link add name k12 type bond", .uplink),
    ("k13", "link add link k0 name k13 type macvlan", .other), ("k14", "link add name k14 type netkit", .workload),
  ]

  /// Each kind that this kernel can make, both by the first dump and by notification.
  @Test func classifiesEachKindThatTheKernelHas() throws {
    var dumped = Picture()
    var notified = Picture()
    var made: [(String, NetworkDevice.Kind)] = []
    try Sandbox.run {
      var early = try NetworkDevices()
      early.drain { notified.apply($0) }
      for (name, command, kind) in Self.specifications {
        let (status, output) = Sandbox.attempt(command)
        if status == 0 { made.append((name, kind)) } else { print("skipped \(command): \(output)", terminator: "") }
      }
      early.drain { notified.apply($0) }
      var late = try NetworkDevices()
      late.drain { dumped.apply($0) }
    }
    #expect(made.count >= 4)
    for (name, kind) in made {
      #expect(dumped.devices[name]?.kind == kind, "\(name), dumped")
      #expect(notified.devices[name]?.kind == kind, "\(name), notified")
    }
    #expect(dumped.devices == notified.devices)
    #expect(dumped.devices["lo"]?.kind == .loopback)
    #expect(dumped.misfits.isEmpty && notified.misfits.isEmpty)
  }

  /// Runs each step's commands and returns the picture after it, when it has the addresses that the step added.
  private func after(_ commands: [[String]], eventBuffer: UInt32 = 1 << 20) throws -> (pictures: [Picture], resynchronisations: UInt64, current: Bool)
  {
    var pictures: [Picture] = []
    var counts: (UInt64, Bool) = (0, false)
    try Sandbox.run {
      var devices = try NetworkDevices(eventBuffer: eventBuffer)
      var picture = Picture()
      devices.drain { picture.apply($0) }
      for step in commands {
        for command in step { try Sandbox.ip(command) }
        devices.drain { picture.apply($0) }
        // The kernel tells of an IPv6 address from a work queue, nodad or not (net/ipv6/addrconf.c, addrconf_dad_work): maybe after `ip` ended.
        let added = step.filter { $0.hasPrefix("addr add ") }.compactMap { IPAddress(String($0.split(separator: " ")[2].prefix { $0 != "/" })) }
        let deadline = Clocks.monotonic() + 30 * Nanoseconds.perSecond
        while !added.allSatisfy(picture.addresses.contains), Clocks.monotonic() < deadline {
          usleep(1000)
          devices.drain { picture.apply($0) }
        }
        pictures.append(picture)
      }
      counts = (devices.resynchronisations, devices.isCurrent)
    }
    return (pictures, counts.0, counts.1)
  }

  @Test func followsRenamesPortsRemovalAndReturn() throws {
    let pictures = try after([
      ["link add name p0 type veth peer name p1", "link add name br type bridge", "link set dev p0 master br"],
      ["link set dev p0 name pod"],
      ["link set dev pod nomaster"],
      ["link del dev pod"],
      ["link add name pod type bridge"],
    ]).pictures
    let bridge = pictures[0].devices["br"]?.index
    #expect(pictures[0].devices["p0"]?.master == bridge && bridge != nil)
    #expect(pictures[0].devices["p0"]?.kind == .workload)
    #expect(pictures[1].devices["p0"] == nil && pictures[1].devices["pod"]?.index == pictures[0].devices["p0"]?.index)
    // A port that leaves its bridge is told as a RTM_DELLINK of AF_BRIDGE; the device stays.
    #expect(pictures[2].devices["pod"]?.master == 0)
    #expect(pictures[3].devices["pod"] == nil && pictures[3].devices["p1"] == nil)
    #expect(pictures[4].devices["pod"]?.kind == .bridge)
    #expect(pictures.allSatisfy { $0.misfits.isEmpty })
  }

  @Test func followsAddressesOnEveryDevice() throws {
    let pictures = try after([
      [
        "link add name u0 type veth peer name u1", "link set dev u0 up", "link set dev u1 up", "addr add 10.1.2.3/32 dev u0",
        "addr add 10.1.2.3/32 dev u1",
        "addr add fd00::7/64 dev u0 nodad", "addr add fe80::77/64 dev u0 nodad", "addr add 10.9.9.1 peer 10.9.9.2 dev u1",
      ],
      ["addr del 10.1.2.3/32 dev u0"],
      ["addr del 10.1.2.3/32 dev u1"],
      ["link del dev u0"],
    ]).pictures
    for address in ["10.1.2.3", "fd00::7", "127.0.0.1", "::1", "10.9.9.1", "fe80::77"] {
      #expect(has(pictures[0], address), "\(address) is not among \(pictures[0].addresses)")
    }
    #expect(!has(pictures[0], "10.9.9.2"))
    #expect(has(pictures[1], "10.1.2.3"))
    #expect(!has(pictures[2], "10.1.2.3"))
    #expect(!has(pictures[3], "fd00::7") && !has(pictures[3], "10.9.9.1"))
    #expect(!pictures[3].addresses.contains { $0.high >> 48 == 0xFE80 })
    #expect(pictures.allSatisfy { $0.misfits.isEmpty })
  }

  @Test func theWayOutIsAnUplinkWhateverItIsMadeOf() throws {
    let pictures = try after([
      [
        "link add name w0 type veth peer name w1", "link add name x0 type veth peer name x1", "link add name br type bridge", "link set dev br up",
        "link set dev w0 up", "link set dev w1 up", "link set dev x0 up", "link set dev x1 up", "addr add 10.5.0.1/24 dev w0",
        "addr add 10.6.0.1/24 dev x0",
        "addr add 10.7.0.1/24 dev br",
      ],
      ["route add default via 10.5.0.2", "route add 192.0.2.0/24 via 10.6.0.2"],
      ["route replace default nexthop via 10.5.0.2 nexthop via 10.6.0.2"],
      ["route replace default via 10.7.0.2"],
      ["-6 route add default dev x0"],
      ["-6 route del default dev x0", "route replace default via 10.5.0.2", "route add default via 10.6.0.2 table 77"],
      ["link set dev w0 down"],
    ]).pictures
    func kinds(_ picture: Picture) -> [NetworkDevice.Kind?] { ["w0", "x0", "br"].map { picture.devices[$0]?.kind } }
    #expect(kinds(pictures[0]) == [.workload, .workload, .bridge])
    #expect(kinds(pictures[1]) == [.uplink, .workload, .bridge])
    #expect(kinds(pictures[2]) == [.uplink, .uplink, .bridge])
    #expect(kinds(pictures[3]) == [.workload, .workload, .bridge])
    #expect(kinds(pictures[4]) == [.workload, .uplink, .bridge])
    #expect(kinds(pictures[5]) == [.uplink, .workload, .bridge])
    // Set down, its default route went without a message.
    #expect(kinds(pictures[6]) == [.workload, .workload, .bridge])
  }

  @Test func asksAgainAfterNotificationsWereLost() throws {
    let batch = (0..<40).map { "addr add 10.200.0.\($0 + 1)/32 dev lo" }
    let result = try after(
      [
        ["link add name old type veth peer name old1", "addr add 10.3.3.3/32 dev lo"],
        ["link del dev old", "addr del 10.3.3.3/32 dev lo", "link add name new type veth peer name new1"] + batch,
        ["addr add 10.4.4.4/32 dev lo"],
      ], eventBuffer: 2048)
    #expect(result.resynchronisations > 0)
    #expect(result.current)
    let last = result.pictures[2]
    #expect(last.devices["old"] == nil && last.devices["new"]?.kind == .workload)
    #expect(!has(last, "10.3.3.3") && has(last, "10.4.4.4"))
    for number in 1...40 { #expect(has(last, "10.200.0.\(number)")) }
    #expect(last.misfits.isEmpty)
  }
}
