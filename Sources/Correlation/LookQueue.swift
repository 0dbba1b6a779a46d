import Flows

/// A slot that waits, with what is needed to know one that was given to another since.
struct QueuedSlot: BitwiseCopyable {
  var slot: Int32
  var generation: UInt32
  var asked: Instant
}

/// Transmissions in order of when they were asked, for the looks that each gets at a fixed age: a suspect's at 5 ms, everybody's at a quarter of a second.
///
/// A ring in which nothing is looked for: what is needed next lies behind what is needed now. A timer for each would be two lines of memory elsewhere.
struct LookQueue: ~Copyable {
  private var items: Ring<QueuedSlot>
  /// The newest of them, at which nobody looked yet.
  private var unseen = 0

  /// - Parameter capacity: transmissions that can be open. There is room for as many again that were given up before their first look.
  init(capacity: Int) { items = Ring(capacity: 2 * capacity) }

  var isEmpty: Bool { items.count == 0 }
  var first: QueuedSlot? { mutating get { items.first } }
  var firstUnseen: QueuedSlot? { mutating get { unseen > 0 ? items[items.count &- unseen] : nil } }

  /// The slot of the item that `number` others follow after the first; -1 where there is none.
  @inline(__always) mutating func slot(after number: Int) -> Int32 { number < items.count ? items[number].slot : -1 }

  /// The same among those at which nobody looked.
  @inline(__always) mutating func unseenSlot(after number: Int) -> Int32 {
    number < unseen ? items[items.count &- unseen &+ number].slot : -1
  }

  /// - Parameter isSuspectable: false if it needs no look at 5 ms. It may get one where others wait for theirs.
  /// - Returns: false if the queue is full.
  mutating func append(_ item: QueuedSlot, isSuspectable: Bool) -> Bool {
    guard items.append(item) else { return false }
    if isSuspectable || unseen > 0 { unseen &+= 1 }
    return true
  }

  /// The first unseen one was looked at.
  mutating func see() { unseen -= 1 }

  mutating func removeFirst() {
    items.removeFirst()
    unseen = min(unseen, items.count)
  }
}
