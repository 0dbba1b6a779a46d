import Flows
import Testing

@testable import Correlation

@Suite struct ServiceTableTests {
  private func entry(_ service: Endpoint, _ backend: UInt32) -> ConntrackEvent {
    let client = endpoint("10.0.1.2", 40000)
    return ConntrackEvent(
      kind: .new, original: FiveTuple(udp: client, service), reply: FiveTuple(udp: Endpoint(IPAddress(v4: 0x0A01_0000 + backend), 53), client),
      readAt: Instant(nanoseconds: 1))
  }

  @Test func aServiceWhoseBackendsComeAndGoKeepsItsNewest() {
    var table = ServiceTable(capacity: 8192, seed: 1)
    let service = endpoint("10.96.0.10")
    let other = endpoint("10.96.0.11")
    var first = entry(other, 9)
    table.learn(&first)
    for backend in 0..<5000 {
      var event = entry(service, UInt32(backend))
      table.learn(&event)
    }
    let used = table.count
    #expect(used == ServiceTable.widest + 1)
    for backend in 4950..<5000 {
      let isKnown = table.find(service, backend: Endpoint(IPAddress(v4: 0x0A01_0000 + UInt32(backend)), 53)) >= 0
      #expect(isKnown)
    }
    let isOtherKnown = table.isTranslated(other)
    #expect(isOtherKnown)
  }
}
