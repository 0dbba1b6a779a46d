internal import Flows

extension SeededHash {
  /// Combines a name of 16 bytes or more as `combine(name:)` does, in fewer steps, provided that nothing in it is to be lower-cased.
  ///
  /// - Parameters:
  ///   - bytes: what the name stands in. The caller has checked that it is there: no load reaches outside it.
  ///   - offset: of the name.
  ///   - end: the offset after it.
  /// - Returns: false if there may be an upper-case letter; then the hash means nothing.
  @inline(__always) mutating func combine(lowerCaseName bytes: RawSpan, from offset: Int, to end: Int) -> Bool {
    // Bit 6 of each byte: whether that is set and bit 5 is not, as in every upper-case letter and in no lower-case letter, digit, hyphen or length.
    var suspects: UInt64 = 0
    var next = offset
    let lastPair = end &- 16
    repeat {
      let first = bytes.uncheckedLittleEndian(at: next)
      let second = bytes.uncheckedLittleEndian(at: next &+ 8)
      suspects |= first & ~(first &<< 1) | second & ~(second &<< 1)
      combine(first, second)
      next &+= 16
    } while next <= lastPair
    if next < end {
      // One to fifteen bytes: the last eight, less those already combined, and what is before them.
      var last = bytes.uncheckedLittleEndian(at: end &- 8)
      suspects |= last & ~(last &<< 1)
      var first: UInt64 = 0
      if end &- next >= 8 {
        first = bytes.uncheckedLittleEndian(at: next)
        suspects |= first & ~(first &<< 1)
        next &+= 8
      }
      let rest = end &- next
      last = rest == 0 ? 0 : last &>> UInt64(truncatingIfNeeded: 8 &* (8 &- rest))
      combine(first, last)
    }
    return suspects & 0x4040_4040_4040_4040 == 0
  }

  /// Combines any name.
  @inline(never) mutating func combine(anyName bytes: RawSpan, from offset: Int, to end: Int) {
    combine(name: unsafe bytes.extracting(unchecked: Range(uncheckedBounds: (offset, end))))
  }
}
