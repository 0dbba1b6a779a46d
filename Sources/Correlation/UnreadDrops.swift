import Flows

/// The sockets of which the probe saw a packet dropped that it could not read: it may have been a query, so its silence about one of theirs says nothing.
/// The latest 512 drops are remembered, those of one socket in the same moment as one: each until its query was looked at, half a second on.
struct UnreadDrops: ~Copyable {
  struct Item: BitwiseCopyable {
    var socketKey: UInt64
    var first: Instant
    var last: Instant
  }

  private static let kept = 512
  private static var moment: Int64 { Nanoseconds.perSecond / 10 }
  private var items = FixedArray<Item>(count: kept)
  private var next = 0
  private var latest = Instant.zero
  /// Places that were ever taken: what lies in them may be older than anybody asks for.
  private(set) var count = 0
  /// Drops that had to go before their query was looked at.
  private(set) var evictions: UInt64 = 0

  init() {}

  mutating func add(socketKey: UInt64, at time: Instant) {
    latest = max(latest, time)
    for index in 0..<Self.kept where items[index].socketKey == socketKey && (time - items[index].last).magnitude <= UInt64(Self.moment) {
      items[index].first = min(items[index].first, time)
      items[index].last = max(items[index].last, time)
      return
    }
    if count < Self.kept {
      count += 1
    } else if time - items[next].last < Engine.assessAge {
      evictions &+= 1
    }
    items[next] = Item(socketKey: socketKey, first: time, last: time)
    next = (next + 1) % Self.kept
  }

  /// True if a packet of the socket was dropped unread at any time from `from` to `to`.
  func overlaps(socketKey: UInt64, from: Instant, to: Instant) -> Bool {
    // Nearly always: nothing was dropped unread for a while, or ever.
    guard count > 0, latest >= from else { return false }
    for index in 0..<Self.kept where items[index].socketKey == socketKey {
      if items[index].last > .zero && items[index].first <= to && items[index].last >= from { return true }
    }
    return false
  }
}
