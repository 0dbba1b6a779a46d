import Flows

/// The node's devices and addresses, for vantage. Lookups happen for every packet; changes are rare and may rebuild a table.
struct NodeView: ~Copyable {
  struct Device: BitwiseCopyable {
    /// `sll_ifindex`; 0 is an empty place.
    var index: UInt32
    var kind: NetworkDevice.Kind
    var master: UInt32
    /// Conntrack zone of flows that came in here, learned from entries.
    var zone: UInt16
  }
  struct Place: BitwiseCopyable {
    var address: IPAddress
    var isUsed: Bool
  }

  private static let deviceSlots = 16384
  private static let addressSlots = 16384
  private var devices = FixedArray<Device>(count: deviceSlots)
  private var addresses = FixedArray<Place>(count: addressSlots)
  private var deviceCount = 0
  private var addressCount = 0
  /// Devices and addresses that found no place: more than half of the tables is never filled.
  private(set) var refused: UInt64 = 0

  /// Workloads whose answers were credited to queries; one place an address, the newest wins.
  private var servers = FixedArray<Place>(count: 4096)

  init() {}

  private mutating func slot(of index: UInt32) -> Int {
    var at = Int((UInt64(index) &* 0x9E37_79B9_7F4A_7C15) >> 50)
    while devices[at].index != 0 && devices[at].index != index { at = (at + 1) & (Self.deviceSlots - 1) }
    return at
  }

  mutating func kind(of index: UInt32) -> NetworkDevice.Kind {
    let at = slot(of: index)
    return devices[at].index == index && index != 0 ? devices[at].kind : .other
  }

  mutating func zone(of index: UInt32) -> UInt16 {
    let at = slot(of: index)
    return devices[at].index == index && index != 0 ? devices[at].zone : 0
  }

  mutating func learnZone(of index: UInt32, _ zone: UInt16) {
    let at = slot(of: index)
    if devices[at].index == index && index != 0 { devices[at].zone = zone }
  }

  /// The bridge that the device is a port of; 0 if none is known.
  mutating func master(of index: UInt32) -> UInt32 {
    let at = slot(of: index)
    return devices[at].index == index && index != 0 ? devices[at].master : 0
  }

  mutating func set(_ index: UInt32, _ kind: NetworkDevice.Kind, master: UInt32) {
    guard index != 0 else { return }
    let at = slot(of: index)
    if devices[at].index == 0 {
      guard deviceCount < Self.deviceSlots / 2 else {
        refused &+= 1
        return
      }
      deviceCount += 1
    }
    devices[at] = Device(index: index, kind: kind, master: master, zone: devices[at].zone)
  }

  mutating func removeDevice(_ index: UInt32) {
    guard index != 0, devices[slot(of: index)].index == index else { return }
    var kept: [Device] = []
    for at in 0..<Self.deviceSlots where devices[at].index != 0 {
      if devices[at].index != index { kept.append(devices[at]) }
      devices[at].index = 0
    }
    for device in kept { devices[slot(of: device.index)] = device }
    deviceCount = kept.count
  }

  private mutating func serverSlot(_ address: IPAddress) -> Int { Int(((address.high ^ address.low) &* 0x9E37_79B9_7F4A_7C15) >> 52) }

  mutating func noteServer(_ address: IPAddress) { servers[serverSlot(address)] = Place(address: address, isUsed: true) }

  /// True if the address was seen to answer DNS queries.
  mutating func isServer(_ address: IPAddress) -> Bool {
    let place = servers[serverSlot(address)]
    return place.isUsed && place.address == address
  }

  private mutating func slot(of address: IPAddress) -> Int {
    var at = Int(((address.high ^ address.low) &* 0x9E37_79B9_7F4A_7C15) >> 50)
    while addresses[at].isUsed && addresses[at].address != address { at = (at + 1) & (Self.addressSlots - 1) }
    return at
  }

  /// True for the node's own addresses and for loopback.
  mutating func isLocal(_ address: IPAddress) -> Bool { address.isLoopback || addresses[slot(of: address)].isUsed }

  mutating func add(_ address: IPAddress) {
    let at = slot(of: address)
    guard !addresses[at].isUsed else { return }
    guard addressCount < Self.addressSlots / 2 else {
      refused &+= 1
      return
    }
    addresses[at] = Place(address: address, isUsed: true)
    addressCount += 1
  }

  mutating func remove(_ address: IPAddress) {
    guard addresses[slot(of: address)].isUsed else { return }
    var kept: [IPAddress] = []
    for at in 0..<Self.addressSlots where addresses[at].isUsed {
      if addresses[at].address != address { kept.append(addresses[at].address) }
      addresses[at].isUsed = false
    }
    addressCount = 0
    for address in kept { add(address) }
  }
}
