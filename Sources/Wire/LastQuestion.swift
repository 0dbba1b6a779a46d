/// The last question whose name stood in one piece. A packet's copies on its way through the node come one after the other, and an answer repeats its
/// question: equal bytes need not be read and hashed again.
struct LastQuestion: BitwiseCopyable, Sendable {
  /// Bytes of the name, the type and the class; 0 where none is kept.
  private(set) var length = 0
  private(set) var typeAndClass: UInt32 = 0
  private(set) var nameHash: UInt64 = 0
  private(set) var questionHash: UInt64 = 0
  private var words = InlineArray<8, UInt64>(repeating: 0)
  /// The last eight bytes; they overlap with the last of the words.
  private var tail: UInt64 = 0

  /// Longer ones are read again: few names are.
  private static let longest = 64

  /// True if the message, of at least a header's length, goes on with the same bytes.
  @inline(__always) func isRepeated(by message: RawSpan) -> Bool {
    guard length > 0, message.byteCount &- DNSHeader.length >= length else { return false }
    var differs = tail ^ message.uint64(at: DNSHeader.length &+ length &- 8)
    for index in 0..<(length &>> 3) { differs |= words[index] ^ message.uint64(at: DNSHeader.length &+ index &* 8) }
    return differs == 0
  }

  /// Keeps the question that `length` bytes of the message are.
  @inline(__always)
  mutating func note(_ message: RawSpan, length: Int, _ typeAndClass: UInt32, nameHash: UInt64, questionHash: UInt64) {
    guard length >= 8, length <= Self.longest else { return }
    self.length = length
    self.typeAndClass = typeAndClass
    self.nameHash = nameHash
    self.questionHash = questionHash
    tail = message.uint64(at: DNSHeader.length &+ length &- 8)
    for index in 0..<(length &>> 3) { words[index] = message.uint64(at: DNSHeader.length &+ index &* 8) }
  }
}
