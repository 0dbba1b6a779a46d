/// A keyed 64-bit hash for table slots and names. The key is random per start, so that nobody on the network can choose collisions.
/// Folds 64x64 to 128-bit products (the construction of wyhash and of rapidhash); not for secrets.
@usableFromInline
package struct SeededHash: BitwiseCopyable, Sendable {
  @usableFromInline package var state: UInt64
  @usableFromInline let key: UInt64

  @inlinable package init(seed: UInt64) {
    state = seed ^ 0x9E37_79B9_7F4A_7C15
    key = (seed &* 0xD6E8_FEB8_6659_FD93) | 1
  }

  @inlinable package mutating func combine(_ value: UInt64) {
    let product = (state ^ value).multipliedFullWidth(by: key ^ 0xA076_1D64_78BD_642F)
    state = product.high ^ product.low ^ (value &+ 0xE703_7ED1_A0B4_28DB)
  }

  /// Both values in one step.
  @inlinable package mutating func combine(_ first: UInt64, _ second: UInt64) {
    let product = (state ^ first).multipliedFullWidth(by: key ^ second)
    state = product.high ^ product.low ^ (first &+ 0xE703_7ED1_A0B4_28DB)
  }

  @inlinable package mutating func combine(_ address: IPAddress) {
    combine(address.high)
    combine(address.low)
  }

  @inlinable package mutating func combine(_ endpoint: Endpoint) {
    combine(endpoint.address)
    combine(UInt64(endpoint.port))
  }

  @inlinable package mutating func combine(_ tuple: FiveTuple) {
    combine(tuple.source)
    combine(tuple.destination)
    combine(UInt64(tuple.protocolNumber))
  }

  @inlinable package func finish() -> UInt64 {
    let product = state.multipliedFullWidth(by: key ^ 0x8EBC_6AF0_9C88_C6E3)
    return product.high ^ product.low
  }
}
