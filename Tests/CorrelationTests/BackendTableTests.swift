import Flows
import Testing

@testable import Correlation

/// What speaks against a claim is kept; or where it had to go nothing is claimed.
@Suite struct BackendTableTests {
  private static let backends = (0..<4096).map { endpoint("10.1.\($0 / 250).\($0 % 250 + 1)") }
  private static func time(_ seconds: Int64) -> Instant { Instant(nanoseconds: seconds * second) }

  // The table is not copyable, which #expect would need.
  private func answeredAt(_ table: borrowing BackendTable, _ backend: Endpoint) -> Instant { table.answeredAt(backend) }
  private func isAnswered(_ table: borrowing BackendTable, _ backend: Endpoint, over device: UInt32, since seconds: Int64) -> Bool {
    table.isAnswered(backend, otherThanOver: device, since: Self.time(seconds))
  }

  @Test func manyBackendsAreKept() {
    var table = BackendTable()
    let some = Self.backends.prefix(200)
    for (index, backend) in some.enumerated() { table.noteAnswered(backend, over: 7, at: Self.time(Int64(1000 + index))) }
    let kept = some.enumerated().count { answeredAt(table, $0.element) == Self.time(Int64(1000 + $0.offset)) }
    #expect(kept >= 195)
  }

  /// Four times as many as there is room for: of none it is said that it was answered longer ago than it was.
  @Test func noAnswerIsForgotten() {
    var table = BackendTable()
    for (index, backend) in Self.backends.enumerated() { table.noteAnswered(backend, over: 7, at: Self.time(Int64(1000 + index))) }
    let early = Self.backends.enumerated().count { answeredAt(table, $0.element) < Self.time(Int64(1000 + $0.offset)) }
    #expect(early == 0)
  }

  /// Each was answered over both devices, and then once more over the second, when others had taken its place.
  @Test func noDeviceIsForgotten() {
    var table = BackendTable()
    for (index, backend) in Self.backends.enumerated() {
      for device in [UInt32(8), 7] { table.noteAnswered(backend, over: device, at: Self.time(Int64(1000 + index / 100))) }
    }
    for backend in Self.backends { table.noteAnswered(backend, over: 7, at: Self.time(1050)) }
    let wrong = Self.backends.count { isAnswered(table, $0, over: 8, since: 1000) }
    #expect(wrong == 0)
    // When all that is long ago it may be claimed again.
    for backend in Self.backends.prefix(10) { table.noteAnswered(backend, over: 7, at: Self.time(1400)) }
    let claimed = Self.backends.prefix(10).count { isAnswered(table, $0, over: 8, since: 1100) }
    #expect(claimed > 5)
  }

  @Test func fiveDevicesOfOneBackend() {
    var table = BackendTable()
    for device in 1...5 { table.noteAnswered(Self.backends[0], over: UInt32(device), at: Self.time(1000)) }
    let claims = (1...5).count { isAnswered(table, Self.backends[0], over: UInt32($0), since: 1000) }
    #expect(claims == 0)
    for device in 2...5 { table.noteAnswered(Self.backends[0], over: UInt32(device), at: Self.time(1400)) }
    let isClaimed = isAnswered(table, Self.backends[0], over: 1, since: 1100)
    #expect(isClaimed)
  }
}
