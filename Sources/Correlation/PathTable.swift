import Flows

/// Which legs answered queries showed lately, by the device on which the client's queries come in and by whether their server is translated.
///
/// Absence is evidence only where presence was seen: an eBPF redirect, hardware offload or a flow table may hide a leg of healthy queries.
struct PathTable: ~Copyable {
  enum Leg {
    case sent
    case delivered
  }

  /// Stands for a device where the client is a process of the node: whether answers to those are seen to come is one path.
  static var host: UInt32 { .max }

  /// How long a leg that was seen vouches for the path.
  static var memory: Int64 { 300 * Nanoseconds.perSecond }

  struct Path: BitwiseCopyable {
    var interface: UInt32
    var isTranslated: Bool
    var isUsed: Bool
    var sentSeen: Instant
    var deliveredSeen: Instant
    /// Answered queries that did not show the leg; halved with `shown` to forget.
    var sentShown: UInt32
    var sentMissing: UInt32
    var deliveredShown: UInt32
    var deliveredMissing: UInt32
    /// When a verdict had to be given without knowing whether the path shows its legs.
    var doubted: Instant
  }

  private static let size = 4096
  private var paths = FixedArray<Path>(count: size)

  init() {}

  private func slot(_ interface: UInt32, _ isTranslated: Bool) -> Int {
    Int(((UInt64(interface) &* 2 &+ (isTranslated ? 1 : 0)) &* 0x9E37_79B9_7F4A_7C15) >> 52)
  }

  private mutating func claim(_ interface: UInt32, _ isTranslated: Bool) -> Int {
    let slot = slot(interface, isTranslated)
    if !paths[slot].isUsed || paths[slot].interface != interface || paths[slot].isTranslated != isTranslated {
      paths[slot] = Path(
        interface: interface, isTranslated: isTranslated, isUsed: true, sentSeen: .zero, deliveredSeen: .zero, sentShown: 0, sentMissing: 0,
        deliveredShown: 0, deliveredMissing: 0, doubted: .zero)
    }
    return slot
  }

  /// Notes an answered query and which of its legs were seen.
  mutating func noteAnswered(interface: UInt32, isTranslated: Bool, sawSent: Bool, sawDelivered: Bool, at time: Instant) {
    let slot = claim(interface, isTranslated)
    if sawSent {
      paths[slot].sentSeen = time
      paths[slot].sentShown &+= 1
    } else {
      paths[slot].sentMissing &+= 1
    }
    if sawDelivered {
      paths[slot].deliveredSeen = time
      paths[slot].deliveredShown &+= 1
    } else {
      paths[slot].deliveredMissing &+= 1
    }
    if paths[slot].sentShown &+ paths[slot].sentMissing >= 4096 {
      paths[slot].sentShown /= 2
      paths[slot].sentMissing /= 2
      paths[slot].deliveredShown /= 2
      paths[slot].deliveredMissing /= 2
    }
  }

  /// Notes that a query of this path was judged and that nothing is known of the path's legs.
  mutating func noteDoubt(interface: UInt32, isTranslated: Bool, at time: Instant) {
    let slot = claim(interface, isTranslated)
    paths[slot].doubted = time
  }

  /// True if answered queries on this path showed the leg in the last five minutes, and at most one in fifty did not.
  mutating func isObservable(_ leg: Leg, interface: UInt32, isTranslated: Bool, at time: Instant) -> Bool {
    let path = paths[slot(interface, isTranslated)]
    guard path.isUsed, path.interface == interface, path.isTranslated == isTranslated else { return false }
    return Self.isObservable(path, leg, at: time)
  }

  private static func isObservable(_ path: Path, _ leg: Leg, at time: Instant) -> Bool {
    let (seen, shown, missing) =
      leg == .sent ? (path.sentSeen, path.sentShown, path.sentMissing) : (path.deliveredSeen, path.deliveredShown, path.deliveredMissing)
    return seen > .zero && time - seen <= memory && UInt64(missing) * 50 <= UInt64(shown)
  }

  /// True unless some path that answered queries lately does not show the leg.
  mutating func isObservableEverywhere(_ leg: Leg, at time: Instant) -> Bool {
    for index in 0..<Self.size where paths[index].isUsed {
      let lately = max(paths[index].sentSeen, paths[index].deliveredSeen, paths[index].doubted)
      if time - lately <= Self.memory && !Self.isObservable(paths[index], leg, at: time) { return false }
    }
    return true
  }

  /// The device's number may be given to another device: forget what it showed.
  mutating func forget(interface: UInt32) {
    for isTranslated in [false, true] {
      let slot = slot(interface, isTranslated)
      if paths[slot].interface == interface { paths[slot].isUsed = false }
    }
  }
}
