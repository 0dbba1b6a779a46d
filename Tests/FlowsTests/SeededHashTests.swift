import Flows
import Testing

@Suite struct SeededHashTests {
  private func hash(seed: UInt64, port: UInt16) -> UInt64 {
    var hash = SeededHash(seed: seed)
    hash.combine(FiveTuple(udp: Endpoint(IPAddress(v4: 0x0A28_0011), port), Endpoint(IPAddress(v4: 0x0A60_000A), 53)))
    return hash.finish()
  }

  @Test func seedsDiffer() {
    let hashes = (0..<1_000).map { hash(seed: UInt64($0), port: 36882) }
    #expect(Set(hashes).count == 1_000)
    #expect(hash(seed: 7, port: 1) == hash(seed: 7, port: 1))
  }

  @Test func orderAndNumberOfValuesMatter() {
    func of(_ values: [UInt64]) -> UInt64 {
      var hash = SeededHash(seed: 9)
      for value in values { hash.combine(value) }
      return hash.finish()
    }
    #expect(Set([of([]), of([0]), of([0, 0]), of([1, 2]), of([2, 1]), of([1]), of([2])]).count == 7)
  }

  /// 10,000 neighbouring ports of one client over 4,096 slots, by the low bits and by the high: as even as chance.
  @Test(arguments: [0, 1, 42, 0x9E37_79B9_7F4A_7C15, UInt64.max, 0x0123_4567_89AB_CDEF]) func sequentialPortsSpread(_ seed: UInt64) {
    for shift in [UInt64(0), 20, 52] {
      var slots = [Int](repeating: 0, count: 4096)
      for port in 0..<10_000 { slots[Int(hash(seed: seed, port: UInt16(20_000 + port)) >> shift & 4095)] += 1 }
      // Poisson with a mean of 2.44: e^-2.44 of the slots, 357, are empty; more than 14 in one has a chance below 1 in 10,000 for the whole table.
      let empty = slots.count { $0 == 0 }
      #expect((250...470).contains(empty), "\(empty) empty slots at shift \(shift)")
      #expect(slots.max()! <= 14, "\(slots.max()!) in one slot at shift \(shift)")
      let mean = 10_000.0 / 4096
      let chiSquared = slots.reduce(0.0) { $0 + (Double($1) - mean) * (Double($1) - mean) / mean }
      // 4,095 degrees of freedom: standard deviation 90.5, five of them on either side.
      #expect((3_640...4_550).contains(chiSquared), "chi-squared \(chiSquared) at shift \(shift)")
    }
  }

  /// A changed input bit changes about half of the output bits.
  @Test func avalanche() {
    var flips = 0
    for port in UInt16(0)..<1024 {
      for bit in 0..<16 { flips += (hash(seed: 5, port: port) ^ hash(seed: 5, port: port ^ 1 << UInt16(bit))).nonzeroBitCount }
    }
    let mean = Double(flips) / (1024 * 16)
    #expect((31.0...33.0).contains(mean), "\(mean) of 64 bits")
  }

  @Test func namesHashWithoutCase() {
    func of(_ name: [UInt8]) -> UInt64 {
      var hash = SeededHash(seed: 11)
      hash.combine(name: name.span.bytes)
      return hash.finish()
    }
    // Every byte value at every place of a word and of its tail: only letters have a second case.
    for length in [1, 7, 8, 9, 13, 16] {
      for place in 0..<length {
        for byte in 0...UInt8.max {
          var name = [UInt8](repeating: 0x2D, count: length)
          name[place] = byte
          var other = name
          other[place] = byte ^ 0x20
          let isLetter = (0x61...0x7A).contains(byte | 0x20)
          #expect((of(name) == of(other)) == isLetter, "byte \(byte) at \(place) of \(length)")
        }
      }
    }
  }
}
