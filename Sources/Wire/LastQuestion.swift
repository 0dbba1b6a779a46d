/// The last question whose name stood in one piece. A packet's copies on its way through the node come one after the other, and an answer repeats its
/// question: equal bytes need not be read and hashed again.
@usableFromInline
struct LastQuestion: BitwiseCopyable, Sendable {
  /// Bytes of the name, the type and the class; more than any packet has where none is kept.
  @usableFromInline private(set) var length = Int.max
  @usableFromInline private(set) var queryType: UInt16 = 0
  @usableFromInline private(set) var queryClass: UInt16 = 0
  @usableFromInline private(set) var nameHash: UInt64 = 0
  @usableFromInline private(set) var questionHash: UInt64 = 0
  /// Its first 32 bytes and its last 32, which overlap unless it has 64. Of one that is shorter than 32 the inner two say nothing.
  @usableFromInline var first = SIMD2<UInt64>()
  @usableFromInline var second = SIMD2<UInt64>()
  @usableFromInline var lastButOne = SIMD2<UInt64>()
  @usableFromInline var last = SIMD2<UInt64>()

  /// Longer ones are read again, as few are, and shorter ones, as that is soon done.
  private static var longest: Int { 64 }

  init() {}

  /// True if the same bytes stand at an offset.
  ///
  /// - Parameter count: how many bytes there are from the offset on. The caller has checked it: here it is the only bound.
  @inlinable @inline(__always) func isRepeated(by bytes: RawSpan, at offset: Int, count: Int) -> Bool {
    // No load reaches beyond the length, which is 16 at least.
    guard length <= count else { return false }
    let end = offset &+ length
    var differs = (bytes.uncheckedVector(at: offset) ^ first) | (bytes.uncheckedVector(at: end &- 16) ^ last)
    if length >= 32 {
      differs |= (bytes.uncheckedVector(at: offset &+ 16) ^ second) | (bytes.uncheckedVector(at: end &- 32) ^ lastButOne)
    }
    return differs[0] | differs[1] == 0
  }

  /// Keeps the question that `length` bytes are, if they are few enough. The caller has checked that they are there.
  @inline(__always)
  mutating func note(
    _ bytes: RawSpan, at offset: Int, length: Int, queryType: UInt16, queryClass: UInt16, nameHash: UInt64, questionHash: UInt64
  ) {
    guard length >= 16, length <= Self.longest else { return }
    let end = offset &+ length
    let isLong = length >= 32
    self.length = length
    self.queryType = queryType
    self.queryClass = queryClass
    self.nameHash = nameHash
    self.questionHash = questionHash
    first = bytes.uncheckedVector(at: offset)
    second = bytes.uncheckedVector(at: isLong ? offset &+ 16 : offset)
    lastButOne = bytes.uncheckedVector(at: isLong ? end &- 32 : offset)
    last = bytes.uncheckedVector(at: end &- 16)
  }
}
