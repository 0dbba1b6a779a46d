import CLinux
package import Flows
import Glibc

/// What changed on the node.
package enum NetworkDeviceChange: Sendable, Equatable {
  /// A device is new, or its name, kind or master changed.
  case deviceChanged(NetworkDevice)
  case deviceRemoved(index: UInt32)
  /// An address is local now; told once, however many devices have it.
  case addressAdded(IPAddress)
  /// The last device that had it lost it.
  case addressRemoved(IPAddress)
}

/// The network devices and local addresses of this network namespace, from rtnetlink: a dump first, notifications after, a dump again after a loss.
///
/// Needs no capability. The first `drain` reports all there is.
package struct NetworkDevices: ~Copyable {
  private struct Link {
    var name: String
    var driver: String
    var hardwareType: UInt16
    var isLoopback: Bool
    var master: UInt32
    /// As last reported.
    var reported: NetworkDevice?
    var seen = true
  }

  private struct AddressOnDevice: Hashable {
    var address: IPAddress
    var index: UInt32
  }

  private let events: Descriptor
  private let requests: Descriptor
  private var buffer: [UInt8]
  private var sequence: UInt32 = 0
  private var links: [UInt32: Link] = [:]
  private var addresses: [AddressOnDevice: Bool] = [:]
  private var devicesOfAddress: [IPAddress: Int] = [:]
  private var defaultRouteDevices: Set<UInt32> = []
  private var needsDump = true
  private var routesChanged = false
  /// How often notifications were lost and everything was asked for again.
  package private(set) var resynchronisations: UInt64 = 0
  /// Messages whose attributes were too short.
  package private(set) var malformed: UInt64 = 0

  /// A namespace with more devices or addresses is not one whose addresses can all be told apart: a cap against growth without bound.
  private static let maximumEntries = 1 << 18

  package init(eventBuffer: UInt32 = 1 << 20) throws(SetupError) {
    let remedy = "allow AF_NETLINK sockets"
    // Notifications first: what changes during the dump is then told after it.
    let events = try Descriptor(clinux_route_events_open(eventBuffer), "rtnetlink notifications", remedy: remedy)
    requests = try Descriptor(clinux_route_requests_open(), "rtnetlink requests", remedy: remedy)
    self.events = events
    // The kernel fills dumps into pieces of at most 32 KiB (net/netlink/af_netlink.c, netlink_dump).
    buffer = [UInt8](repeating: 0, count: 64 << 10)
  }

  package var descriptor: Int32 { events.number }
  /// False until the first dump is through, and after a loss until the next one is.
  package var isCurrent: Bool { !needsDump }

  /// Reads what is waiting and reports what changed. After a loss reports the difference.
  package mutating func drain(_ change: (NetworkDeviceChange) -> Void) {
    receiveEvents(change)
    // Events that were queued while a failed dump ran are older than the next one.
    if needsDump {
      if dumpAll(change) { needsDump = false }
    } else if routesChanged {
      if dumpDefaultRoutes() { routesChanged = false } else { needsDump = true }
    } else {
      return
    }
    for index in links.keys { report(index, change) }
  }

  private mutating func receiveEvents(_ change: (NetworkDeviceChange) -> Void) {
    while true {
      let length = receive(events.number)
      if length == 0 { return }
      if length < 0 {
        // ENOBUFS, or a socket in an error that only a dump can make good.
        if !needsDump { resynchronisations &+= 1 }
        needsDump = true
        if length != -ENOBUFS { return }
        continue
      }
      if needsDump { continue }
      var offset = 0
      var record = clinux_route_record()
      while next(length, &offset, &record) { apply(record, change) }
    }
  }

  private mutating func receive(_ descriptor: Int32) -> Int {
    let capacity = buffer.count
    return unsafe buffer.withUnsafeMutableBytes { unsafe Int(clinux_route_receive(descriptor, $0.baseAddress, capacity)) }
  }

  private func next(_ length: Int, _ offset: inout Int, _ record: inout clinux_route_record) -> Bool {
    unsafe buffer.withUnsafeBytes { unsafe clinux_route_next($0.baseAddress, length, &offset, &record) != 0 }
  }

  private mutating func apply(_ record: clinux_route_record, _ change: (NetworkDeviceChange) -> Void) {
    switch Int(record.event) {
    case CLINUX_LINK_NEW:
      update(record)
      report(record.interface, change)
      // IPv4 routes that go with a device that is set down, or with an address, go without a message (net/ipv4/fib_frontend.c, fib_disable_ip).
      if record.flags & UInt32(CLINUX_FLAG_UP) == 0, defaultRouteDevices.contains(record.interface) { routesChanged = true }
    case CLINUX_LINK_DELETED: removeLink(record.interface, change)
    case CLINUX_ADDRESS_NEW: addAddress(record, change)
    case CLINUX_ADDRESS_DELETED:
      removeAddress(AddressOnDevice(address: address(record), index: record.interface), change)
      if defaultRouteDevices.contains(record.interface) { routesChanged = true }
    case CLINUX_DEFAULT_ROUTE_NEW, CLINUX_DEFAULT_ROUTE_DELETED: routesChanged = true
    case CLINUX_MALFORMED: malformed &+= 1
    default: break
    }
  }
}

// Devices and addresses.
extension NetworkDevices {
  private mutating func update(_ record: clinux_route_record) {
    guard links[record.interface] != nil || links.count < Self.maximumEntries else { return }
    links[record.interface] = Link(
      name: unsafe withUnsafeBytes(of: record.name) { unsafe Self.text($0) },
      driver: unsafe withUnsafeBytes(of: record.kind) { unsafe Self.text($0) },
      hardwareType: record.hardware_type, isLoopback: record.flags & UInt32(CLINUX_FLAG_LOOPBACK) != 0, master: record.master,
      reported: links[record.interface]?.reported)
  }

  private static func text(_ bytes: UnsafeRawBufferPointer) -> String {
    unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
  }

  private mutating func report(_ index: UInt32, _ change: (NetworkDeviceChange) -> Void) {
    guard let link = links[index] else { return }
    let kind = NetworkDevice.Kind(
      driver: link.driver, isLoopback: link.isLoopback, hardwareType: link.hardwareType, carriesDefaultRoute: defaultRouteDevices.contains(index))
    let device = NetworkDevice(index: index, name: link.name, kind: kind, master: link.master)
    guard device != link.reported else { return }
    links[index]?.reported = device
    change(.deviceChanged(device))
  }

  private mutating func removeLink(_ index: UInt32, _ change: (NetworkDeviceChange) -> Void) {
    guard let link = links.removeValue(forKey: index) else { return }
    // The kernel tells of each address before the device goes; after a lost message this is the last chance.
    for place in addresses.keys where place.index == index { removeAddress(place, change) }
    defaultRouteDevices.remove(index)
    if link.reported != nil { change(.deviceRemoved(index: index)) }
  }

  private func address(_ record: clinux_route_record) -> IPAddress {
    unsafe withUnsafeBytes(of: record.address) { bytes in
      if record.family == 4 { return IPAddress(v4: UInt32(bigEndian: unsafe bytes.loadUnaligned(as: UInt32.self))) }
      return IPAddress(
        high: UInt64(bigEndian: unsafe bytes.loadUnaligned(as: UInt64.self)),
        low: UInt64(bigEndian: unsafe bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
    }
  }

  private mutating func addAddress(_ record: clinux_route_record, _ change: (NetworkDeviceChange) -> Void) {
    let place = AddressOnDevice(address: address(record), index: record.interface)
    guard addresses[place] != nil || addresses.count < Self.maximumEntries else { return }
    guard addresses.updateValue(true, forKey: place) == nil else { return }
    devicesOfAddress[place.address, default: 0] += 1
    if devicesOfAddress[place.address] == 1 { change(.addressAdded(place.address)) }
  }

  private mutating func removeAddress(_ place: AddressOnDevice, _ change: (NetworkDeviceChange) -> Void) {
    guard addresses.removeValue(forKey: place) != nil, let count = devicesOfAddress[place.address] else { return }
    if count > 1 {
      devicesOfAddress[place.address] = count - 1
    } else {
      devicesOfAddress[place.address] = nil
      change(.addressRemoved(place.address))
    }
  }
}

// Dumps.
extension NetworkDevices {
  /// Asks for everything and reports the difference. False where the kernel did not answer; what was known then stays.
  private mutating func dumpAll(_ change: (NetworkDeviceChange) -> Void) -> Bool {
    for index in links.keys { links[index]?.seen = false }
    for place in addresses.keys { addresses[place] = false }
    guard dump(CLINUX_DUMP_LINKS, change), dump(CLINUX_DUMP_ADDRESSES, change), dumpDefaultRoutes() else { return false }
    for (index, link) in links where !link.seen { removeLink(index, change) }
    for (place, seen) in addresses where !seen { removeAddress(place, change) }
    routesChanged = false
    return true
  }

  private mutating func dumpDefaultRoutes() -> Bool {
    let before = defaultRouteDevices
    defaultRouteDevices = []
    if dump(CLINUX_DUMP_ROUTES_V4, { _ in }), dump(CLINUX_DUMP_ROUTES_V6, { _ in }) { return true }
    defaultRouteDevices = before
    return false
  }

  /// One dump, again where it was interrupted by a change; the third is taken as it is, for the change itself was notified.
  private mutating func dump(_ kind: Int, _ change: (NetworkDeviceChange) -> Void) -> Bool {
    for attempt in 1...3 {
      sequence &+= 1
      guard clinux_route_request(requests.number, Int32(kind), sequence) >= 0 else { return false }
      switch readDump(change) {
      case .complete: return true
      case .interrupted: if attempt == 3 { return true }
      case .failed: return false
      }
    }
    return false
  }

  private enum DumpResult { case complete, interrupted, failed }

  private mutating func readDump(_ change: (NetworkDeviceChange) -> Void) -> DumpResult {
    var interrupted = false
    while true {
      let length = receive(requests.number)
      guard length > 0 else { return .failed }
      var offset = 0
      var record = clinux_route_record()
      while next(length, &offset, &record) {
        // What is left of a dump that was given up.
        if record.sequence != sequence { continue }
        if record.interrupted != 0 { interrupted = true }
        switch Int(record.event) {
        case CLINUX_DONE: return record.error != 0 ? .failed : interrupted ? .interrupted : .complete
        case CLINUX_FAILED: return .failed
        case CLINUX_LINK_NEW: update(record)
        case CLINUX_ADDRESS_NEW: addAddress(record, change)
        case CLINUX_DEFAULT_ROUTE_NEW: addDefaultRoutes(record)
        case CLINUX_MALFORMED: malformed &+= 1
        default: break
        }
      }
    }
  }

  private mutating func addDefaultRoutes(_ record: clinux_route_record) {
    unsafe withUnsafeBytes(of: record.outputs) { bytes in
      for number in 0..<min(Int(record.output_count), CLINUX_ROUTE_OUTPUTS) {
        defaultRouteDevices.insert(unsafe bytes.loadUnaligned(fromByteOffset: 4 * number, as: UInt32.self))
      }
    }
  }
}
