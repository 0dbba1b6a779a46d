import Flows
import Testing
import Wire

/// Prints what one packet costs; machines differ too much to assert it.
@Suite struct DecodeSpeedTests {
  @Test func nanosecondsPerPacket() throws {
    #if DEBUG
      let rounds = 10_000
    #else
      let rounds = 1_000_000
    #endif
    for (title, packet) in [
      ("query, 75 bytes", Golden.queryA), ("query with EDNS", Golden.queryAAAAWithEDNS), ("answer with EDNS", Golden.answerA),
      ("IPv6 query", Golden.queryIPv6),
    ] {
      var decoder = PacketDecoder(hashSeed: 5)
      var hash: UInt64 = 0
      var best = Duration.seconds(1_000)
      for _ in 0..<5 {
        let elapsed = try ContinuousClock().measure {
          for _ in 0..<rounds { hash &+= try decoder.decode(packet.bytes.span.bytes, etherType: packet.family.rawValue).dns.questionHash }
        }
        best = min(best, elapsed)
      }
      #expect(hash != 0)
      print("decode \(title) (\(packet.bytes.count) bytes): \(Int(best / .nanoseconds(1)) / rounds) ns, best of 5 x \(rounds)")
    }
  }
}
