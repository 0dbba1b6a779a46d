import Flows

/// Wire-form names in chunks of one fixed arena. A name of n bytes takes ceil(n / 60) chunks.
struct NameArena: ~Copyable {
  struct Chunk: BitwiseCopyable {
    var next: Int32
    var bytes: InlineArray<60, UInt8>
  }

  private var chunks: FixedArray<Chunk>
  private var pool: SlotPool

  /// - Parameter bytes: size of the arena.
  init(bytes: Int) {
    let count = max(8, bytes / MemoryLayout<Chunk>.stride)
    chunks = FixedArray(count: count)
    pool = SlotPool(capacity: count)
  }

  var used: Int { pool.used }
  var capacity: Int { pool.capacity }

  /// Asks for the chunk that a name gets which is stored soon.
  @inline(__always) mutating func prefetchUpcoming() { chunks.prefetch(pool.upcoming(Self.storedAhead)) }
  private static var storedAhead: Int { 2 }

  /// Stores a copy; the first chunk's number plus one, or 0 for an empty name or a full arena.
  mutating func store(_ name: RawSpan) -> Int32 {
    let length = min(name.byteCount, 255)
    var first: Int32 = 0
    var last: Int32 = -1
    var offset = 0
    while offset < length {
      guard let slot = pool.take() else {
        release(first, length: offset)
        return 0
      }
      let part = min(60, length - offset)
      chunks[slot].next = 0
      unsafe name.extracting(offset..<(offset + part)).withUnsafeBytes { source in
        unsafe withUnsafeMutableBytes(of: &chunks[slot].bytes) { unsafe $0.copyMemory(from: source) }
      }
      if last >= 0 { chunks[last].next = slot + 1 } else { first = slot + 1 }
      last = slot
      offset += part
    }
    return first
  }

  /// - Parameter length: of the stored name; where one chunk holds it, the chunk need not be looked at.
  mutating func release(_ reference: Int32, length: Int) {
    var at = reference
    var left = length
    while at != 0 {
      left -= 60
      let next = left > 0 ? chunks[at - 1].next : 0
      pool.give(back: at - 1)
      at = next
    }
  }

  /// Lends the name's bytes for the call.
  func withName(_ reference: Int32, length: Int, _ body: (RawSpan) -> Void) {
    guard reference != 0 else { return body(RawSpan()) }
    if length <= 60 {
      unsafe withUnsafeBytes(of: chunks[reference - 1].bytes) { unsafe body(RawSpan(_unsafeBytes: $0).extracting(first: length)) }
      return
    }
    var name = InlineArray<255, UInt8>(repeating: 0)
    var at = reference
    var offset = 0
    while at != 0, offset < length {
      for index in 0..<min(60, length - offset) { name[offset + index] = chunks[at - 1].bytes[index] }
      offset += min(60, length - offset)
      at = chunks[at - 1].next
    }
    unsafe withUnsafeBytes(of: name) { unsafe body(RawSpan(_unsafeBytes: $0).extracting(first: length)) }
  }

  /// The name's bytes, for a record.
  func bytes(_ reference: Int32, length: Int) -> [UInt8] {
    var out: [UInt8] = []
    out.reserveCapacity(length)
    var at = reference
    while at != 0, out.count < length {
      for index in 0..<min(60, length - out.count) { out.append(chunks[at - 1].bytes[index]) }
      at = chunks[at - 1].next
    }
    return out
  }
}
