import Flows

/// By which devices answered queries left for each backend, and when the last one did. One place a backend; the newest wins.
struct BackendTable: ~Copyable {
  struct Row: BitwiseCopyable {
    var backend: Endpoint
    var answeredAt: Instant
    /// Devices by which answered queries left, the last one first; 0 is none.
    var devices: InlineArray<4, UInt32>
    var seenAt: InlineArray<4, Instant>
  }

  private static let size = 1024
  private var rows = FixedArray<Row>(count: size)

  private func place(_ backend: Endpoint) -> Int {
    Int(((backend.address.high ^ backend.address.low &+ UInt64(backend.port)) &* 0x9E37_79B9_7F4A_7C15) >> 54)
  }

  /// Notes that a query which left for `backend` over `interface` was answered.
  mutating func noteAnswered(_ backend: Endpoint, over interface: UInt32, at time: Instant) {
    let place = place(backend)
    if rows[place].devices[0] == interface && rows[place].backend == backend {
      rows[place].answeredAt = time
      rows[place].seenAt[0] = time
      return
    }
    if rows[place].backend != backend {
      rows[place] = Row(backend: backend, answeredAt: time, devices: .init(repeating: 0), seenAt: .init(repeating: .zero))
    }
    rows[place].answeredAt = time
    var at = 0
    while at < 3 && rows[place].devices[at] != interface { at += 1 }
    while at > 0 {
      rows[place].devices[at] = rows[place].devices[at - 1]
      rows[place].seenAt[at] = rows[place].seenAt[at - 1]
      at -= 1
    }
    rows[place].devices[0] = interface
    rows[place].seenAt[0] = time
  }

  /// When a query to the backend was last answered; `.zero` where that is not known.
  func answeredAt(_ backend: Endpoint) -> Instant {
    let place = place(backend)
    return rows[place].backend == backend ? rows[place].answeredAt : .zero
  }

  /// True if queries to the backend were answered since `time`, and none of them left over `interface`.
  func isAnswered(_ backend: Endpoint, otherThanOver interface: UInt32, since time: Instant) -> Bool {
    let place = place(backend)
    guard rows[place].backend == backend, rows[place].answeredAt >= time else { return false }
    for at in 0..<4 where rows[place].devices[at] == interface && rows[place].seenAt[at] >= time { return false }
    return true
  }
}
