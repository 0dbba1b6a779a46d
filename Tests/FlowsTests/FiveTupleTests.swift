import Flows
import Testing

@Suite struct FiveTupleTests {
  private let client = Endpoint(IPAddress(v4: 0x0A28_0011), 36882)
  private let server = Endpoint(IPAddress(v4: 0x0A60_000A), 53)

  @Test func inverse() {
    let tuple = FiveTuple(udp: client, server)
    #expect(tuple.protocolNumber == TransportProtocol.udp.rawValue)
    #expect(tuple.inverse.source == server && tuple.inverse.destination == client && tuple.inverse.protocolNumber == 17)
    #expect(tuple.inverse.inverse == tuple)
    #expect(tuple.inverse != tuple)
  }

  @Test func equalityNeedsEveryField() {
    let tuple = FiveTuple(udp: client, server)
    #expect(tuple == FiveTuple(source: client, destination: server, protocolNumber: 17))
    #expect(tuple != FiveTuple(source: client, destination: server, protocolNumber: 6))
    #expect(tuple != FiveTuple(udp: Endpoint(client.address, 1), server))
    #expect(tuple != FiveTuple(udp: client, Endpoint(server.address, 54)))
    #expect(tuple != FiveTuple(udp: Endpoint(server.address, 36882), server))
    #expect(tuple.hashValue == FiveTuple(udp: client, server).hashValue)
  }

  @Test func text() throws {
    #expect(FiveTuple(udp: client, server).description == "10.40.0.17:36882>10.96.0.10:53/17")
    #expect(Endpoint(try #require(IPAddress("fd00::1")), 53).description == "[fd00::1]:53")
    #expect(Endpoint.none.description == "[::]:0")
  }
}
