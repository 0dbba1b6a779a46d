import CPrefetch
import Glibc

/// A fixed number of plain values in one zero-filled allocation. Pages that are never touched cost nothing, so tables can be sized for their caps.
///
/// All-zero bytes must be a valid `Element`. Every index is checked.
@safe struct FixedArray<Element: BitwiseCopyable>: ~Copyable {
  let count: Int
  private let base: UnsafeMutablePointer<Element>
  private let allocation: UnsafeMutableRawPointer

  /// Elements start on a cache line.
  init(count: Int) {
    precondition(count > 0)
    guard let memory = unsafe calloc(count * MemoryLayout<Element>.stride + 63, 1) else { preconditionFailure("out of memory at start") }
    self.count = count
    unsafe allocation = memory
    unsafe base = memory.alignedUp(toMultipleOf: 64).bindMemory(to: Element.self, capacity: count)
  }

  deinit { unsafe free(allocation) }

  // Addressors and no coroutines: a field is read where it lies, and a wide element is not copied for it.

  subscript(index: Int) -> Element {
    @inline(__always) unsafeAddress { unsafe UnsafePointer(place(index)) }
    @inline(__always) unsafeMutableAddress { unsafe place(index) }
  }

  subscript(index: Int32) -> Element {
    @inline(__always) unsafeAddress { unsafe UnsafePointer(place(Int(index))) }
    @inline(__always) unsafeMutableAddress { unsafe place(Int(index)) }
  }

  /// Asks for the first `lines` cache lines of an element that is needed soon; any index will do.
  @inline(__always) func prefetch(_ index: Int32, lines: Int = 1) {
    guard UInt(bitPattern: Int(index)) < UInt(bitPattern: count) else { return }
    for line in 0..<lines { unsafe prefetch_line(UnsafeRawPointer(base + Int(index)) + 64 * line) }
  }

  @inline(__always) private func place(_ index: Int) -> UnsafeMutablePointer<Element> {
    precondition(UInt(bitPattern: index) < UInt(bitPattern: count))
    return unsafe base + index
  }
}

/// Hands out the slots of a table and takes them back, the one returned first first: what is asked in a row lies in a row, and is so again when it comes
/// round.
///
/// Slots that were never used are taken only where no other is free, and those that only a rush needed are kept apart until the next one: a quiet
/// node touches few pages, and a node after a flood no more than before it.
struct SlotPool: ~Copyable {
  let capacity: Int
  private(set) var used = 0
  private var neverUsed: Int32 = 0
  /// Slots at and above this one were never handed out.
  var touched: Int { Int(neverUsed) }
  private var freed: Ring<Int32>
  /// Those of a rush, the last one returned first.
  private var spare: FixedArray<Int32>
  private var spareCount = 0

  /// So many more than are used take their turn.
  private static var slack: Int { 512 }

  init(capacity: Int) {
    self.capacity = capacity
    freed = Ring(capacity: capacity)
    spare = FixedArray(count: capacity)
  }

  /// A free slot, or nil at the cap.
  mutating func take() -> Int32? {
    if freed.count > 0 {
      let slot = freed[0]
      freed.removeFirst()
      used &+= 1
      return slot
    }
    return takeSpare()
  }

  @inline(never) private mutating func takeSpare() -> Int32? {
    if spareCount > 0 {
      spareCount -= 1
      used += 1
      return spare[spareCount]
    }
    guard Int(neverUsed) < capacity else { return nil }
    used += 1
    neverUsed += 1
    return neverUsed - 1
  }

  /// The slot that is taken after `number` others, as far as it was used before; -1 if it was not.
  @inline(__always) mutating func upcoming(_ number: Int) -> Int32 { freed.count > number ? freed[number] : -1 }

  mutating func give(back slot: Int32) {
    used &-= 1
    if freed.count < used &+ Self.slack && freed.append(slot) { return }
    spare[spareCount] = slot
    spareCount += 1
  }
}

/// Hash indexes over the slots of a table: buckets of doubly linked chains, the newest first. A slot's links of all indexes lie side by side.
struct ChainIndex: ~Copyable {
  /// A slot's neighbours in its bucket. Links are stored plus one, so that zero-filled memory means "none".
  struct Link: BitwiseCopyable {
    var next: Int32
    var previous: Int32
    /// The upper half of the slot's hash: what is not it need not be looked at in the table itself, which is far larger than this.
    var tag: UInt32
    /// Up to 16 bytes, so that no slot's links cross the end of a cache line.
    private var unused: UInt32 = 0

    init(next: Int32, previous: Int32, tag: UInt32) {
      self.next = next
      self.previous = previous
      self.tag = tag
    }
  }
  private var heads: FixedArray<Int32>
  private var links: FixedArray<Link>
  private let mask: UInt64
  private let bucketCount: Int
  private let shift: Int

  /// - Parameters:
  ///   - capacity: number of slots.
  ///   - wanted: number of buckets of each index, as many as slots where it is nil; the next power of two is taken.
  ///   - isDouble: two indexes in one, `.first` and `.second`.
  init(capacity: Int, buckets wanted: Int? = nil, isDouble: Bool = false) {
    var buckets = 1
    while buckets < wanted ?? capacity { buckets <<= 1 }
    mask = UInt64(buckets - 1)
    bucketCount = buckets
    shift = isDouble ? 1 : 0
    heads = FixedArray(count: buckets << shift)
    links = FixedArray(count: capacity << shift)
  }

  enum Which: Int {
    case first = 0
    case second = 1
  }

  @inline(__always) private func bucket(_ hash: UInt64, _ which: Which) -> Int {
    Int(truncatingIfNeeded: hash & mask) | (which == .first ? 0 : bucketCount)
  }
  @inline(__always) private func place(_ slot: Int32, _ which: Which) -> Int { Int(slot) &<< shift | which.rawValue }

  @inline(__always) func prefetch(_ hash: UInt64, _ which: Which = .first) { heads.prefetch(Int32(truncatingIfNeeded: bucket(hash, which))) }

  /// Asks for a slot's links, of both indexes.
  @inline(__always) func prefetch(link slot: Int32) { links.prefetch(slot &<< Int32(truncatingIfNeeded: shift)) }

  /// The newest slot of the bucket, or -1.
  @inline(__always) func first(_ hash: UInt64, _ which: Which = .first) -> Int32 { heads[bucket(hash, which)] &- 1 }
  /// The slot after `slot` in its bucket, or -1.
  @inline(__always) func after(_ slot: Int32, _ which: Which = .first) -> Int32 { links[place(slot, which)].next &- 1 }

  /// The next slot from `slot` on, itself included, that can have this hash, or -1.
  @inline(__always) func match(_ slot: Int32, _ hash: UInt64, _ which: Which = .first) -> Int32 {
    match(slot, tag: UInt32(truncatingIfNeeded: hash >> 32), which)
  }

  /// The next slot after `slot` that can have the same hash, or -1.
  @inline(__always) func nextAlike(_ slot: Int32, _ which: Which = .first) -> Int32 {
    let link = links[place(slot, which)]
    return match(link.next &- 1, tag: link.tag, which)
  }

  @inline(__always) private func match(_ slot: Int32, tag: UInt32, _ which: Which) -> Int32 {
    var at = slot
    while at >= 0 {
      let link = links[place(at, which)]
      if link.tag == tag { break }
      at = link.next &- 1
    }
    return at
  }

  @inline(__always) mutating func insert(_ slot: Int32, hash: UInt64, _ which: Which = .first) {
    let bucket = bucket(hash, which)
    let old = heads[bucket]
    links[place(slot, which)] = Link(next: old, previous: 0, tag: UInt32(truncatingIfNeeded: hash >> 32))
    if old != 0 { links[place(old &- 1, which)].previous = slot &+ 1 }
    heads[bucket] = slot &+ 1
  }

  @inline(__always) mutating func remove(_ slot: Int32, hash: UInt64, _ which: Which = .first) {
    let link = links[place(slot, which)]
    if link.previous != 0 { links[place(link.previous &- 1, which)].next = link.next } else { heads[bucket(hash, which)] = link.next }
    if link.next != 0 { links[place(link.next &- 1, which)].previous = link.previous }
    links[place(slot, which)] = Link(next: 0, previous: 0, tag: 0)
  }
}
