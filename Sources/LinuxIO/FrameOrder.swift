/// The frames that wait for a sweep, in order of their stamps. A preallocated array that never grows.
///
/// The ring's order is nearly that of time, so new entries are inserted from the end; where disorder is large, the whole is heap-sorted instead.
@safe struct FrameOrder: ~Copyable {
  struct Entry: BitwiseCopyable {
    /// Nanoseconds of CLOCK_REALTIME.
    var stamp: Int64
    /// Of the frame's header in the ring.
    var offset: UInt32
    /// Counts frames as they lay in the ring; wraps. Keeps equal stamps in that order.
    var sequence: UInt32

    static func < (a: Entry, b: Entry) -> Bool {
      a.stamp != b.stamp ? a.stamp < b.stamp : Int32(bitPattern: a.sequence &- b.sequence) < 0
    }
  }

  private let entries: UnsafeMutableBufferPointer<Entry>
  private(set) var count = 0
  /// Entries before this one are in order.
  private var sortedCount = 0
  private var sequence: UInt32 = 0
  private var latestStamp = Int64.min
  /// Nothing was appended that belongs before the entry in front of it.
  private var isInOrder = true
  /// The wall clock went back by more than a second between two frames: the ring's order is then the better one.
  private(set) var isStepped = false
  /// How often disorder was too large for insertion.
  private(set) var heapSorts = 0

  private static let step: Int64 = 1_000_000_000

  init(capacity: Int) {
    // Pages are touched only as far as entries are used.
    unsafe entries = .allocate(capacity: max(1, capacity))
  }

  deinit { unsafe entries.deallocate() }

  var capacity: Int { unsafe entries.count }
  var isEmpty: Bool { count == 0 }

  /// The first `number` entries, until something is appended or dropped.
  mutating func first(_ number: Int) -> UnsafePointer<Entry> {
    precondition(number <= count)
    return unsafe UnsafePointer(entries.baseAddress!)
  }

  subscript(index: Int) -> Entry {
    precondition(index >= 0 && index < count)
    return unsafe entries[index]
  }

  mutating func append(stamp: Int64, offset: UInt32) {
    var tail = tail(room: 1)
    tail.append(stamp: stamp, offset: offset)
    take(tail)
  }

  /// What appending needs at hand, for a walk over many frames: kept in registers, where `self` would be written back for each.
  @safe struct Tail {
    fileprivate var next: UnsafeMutablePointer<Entry>
    fileprivate var sequence: UInt32
    fileprivate var latestStamp: Int64
    /// No stamp so far is later.
    fileprivate var top: Int64
    fileprivate var isInOrder = true
    fileprivate var isStepped = false

    /// At most as often as there was room asked for.
    @inline(__always) mutating func append(stamp: Int64, offset: UInt32) {
      if stamp < top {
        isInOrder = false
        if latestStamp != .min, stamp < latestStamp &- FrameOrder.step { isStepped = true }
      } else {
        top = stamp
      }
      latestStamp = stamp
      unsafe next.initialize(to: Entry(stamp: stamp, offset: offset, sequence: sequence))
      unsafe next += 1
      sequence &+= 1
    }
  }

  /// - Precondition: `room <= capacity - count`.
  mutating func tail(room: Int) -> Tail {
    precondition(room <= capacity - count, "the frame order is full")
    // A frame that is older than one already lent may count as out of order though it is the first: `sort` finds that out.
    let top = count > 0 ? max(latestStamp, unsafe entries[count - 1].stamp) : latestStamp
    return unsafe Tail(next: entries.baseAddress! + count, sequence: sequence, latestStamp: latestStamp, top: top)
  }

  /// Takes in what was appended.
  mutating func take(_ tail: Tail) {
    count += Int(tail.sequence &- sequence)
    sequence = tail.sequence
    latestStamp = tail.latestStamp
    if !tail.isInOrder { isInOrder = false }
    if tail.isStepped { isStepped = true }
  }

  /// Brings everything into order. Does nothing while a step of the clock is in it.
  mutating func sort() {
    if isStepped { return }
    if isInOrder {
      sortedCount = count
      return
    }
    var budget = 16 * (count - sortedCount) + 256
    var index = max(sortedCount, 1)
    while index < count {
      let entry = unsafe entries[index]
      var place = index
      while place > 0, unsafe entry < entries[place - 1] {
        unsafe entries[place] = entries[place - 1]
        place -= 1
      }
      unsafe entries[place] = entry
      budget -= index - place
      index += 1
      if budget < 0 {
        heapSort()
        break
      }
    }
    sortedCount = count
    isInOrder = true
  }

  /// Drops the first `number` entries.
  mutating func removeFirst(_ number: Int) {
    precondition(number >= 0 && number <= count)
    let rest = count - number
    if number > 0, rest > 0, let base = unsafe entries.baseAddress {
      unsafe base.update(from: base + number, count: rest)
    }
    count = rest
    sortedCount = max(0, sortedCount - number)
    if rest == 0 {
      isStepped = false
      isInOrder = true
    }
  }

  private mutating func heapSort() {
    heapSorts += 1
    var start = count / 2
    while start > 0 {
      start -= 1
      sink(start, count)
    }
    var end = count
    while end > 1 {
      end -= 1
      unsafe entries.swapAt(0, end)
      sink(0, end)
    }
  }

  private func sink(_ from: Int, _ end: Int) {
    var root = from
    while 2 * root + 1 < end {
      var child = 2 * root + 1
      if child + 1 < end, unsafe entries[child] < entries[child + 1] { child += 1 }
      guard unsafe entries[root] < entries[child] else { return }
      unsafe entries.swapAt(root, child)
      root = child
    }
  }
}
