import Flows

/// Transmissions in order of when they were asked, for the looks that each gets at a fixed age: a suspect's at 5 ms, everybody's at a quarter of a second.
///
/// A ring in which nothing is looked for: what is needed next lies behind what is needed now. A timer for each would be two lines of memory elsewhere.
struct LookQueue: ~Copyable {
  typealias Item = SlotQueue.Item

  private var items: FixedArray<Item>
  /// Places in use, less one: only as many as were needed at once, so that the ring stays short.
  private var mask: Int
  private var head = 0
  private var count = 0
  /// The newest of them, at which nobody looked yet.
  private var unseen = 0

  private static let firstPlaces = 1024

  /// - Parameter capacity: a power of two of at least that many places is made.
  init(capacity: Int) {
    var places = 1
    while places < capacity { places <<= 1 }
    items = FixedArray(count: places)
    mask = min(places, Self.firstPlaces) - 1
  }

  var isEmpty: Bool { count == 0 }
  var first: Item? { count > 0 ? items[head] : nil }
  var firstUnseen: Item? { unseen > 0 ? items[(head &+ count &- unseen) & mask] : nil }

  /// The slot of the item that `number` others follow after the first; -1 where there is none.
  @inline(__always) mutating func slot(after number: Int) -> Int32 { number < count ? items[(head &+ number) & mask].slot : -1 }

  /// The same among those at which nobody looked.
  @inline(__always) mutating func unseenSlot(after number: Int) -> Int32 {
    number < unseen ? items[(head &+ count &- unseen &+ number) & mask].slot : -1
  }

  /// - Parameter isSuspectable: false if it needs no look at 5 ms. It may get one where others wait for theirs.
  /// - Returns: false if the queue is full.
  mutating func append(_ item: Item, isSuspectable: Bool) -> Bool {
    if count > mask && !grow() { return false }
    items[(head &+ count) & mask] = item
    count &+= 1
    if isSuspectable || unseen > 0 { unseen &+= 1 }
    return true
  }

  /// The first unseen one was looked at.
  mutating func see() { unseen -= 1 }

  mutating func removeFirst() {
    head = (head &+ 1) & mask
    count -= 1
    unseen = min(unseen, count)
  }

  /// Twice the places: what lay before the head goes behind the old end.
  private mutating func grow() -> Bool {
    let places = mask + 1
    guard places < items.count else { return false }
    for index in 0..<head { items[places + index] = items[index] }
    mask = 2 * places - 1
    return true
  }
}
