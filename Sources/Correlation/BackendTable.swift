import Flows

/// By which devices answered queries left for each backend, and when the last one did. Two places a backend; of three the newer two are kept.
///
/// What is asked of it speaks against a claim, so what had to be forgotten may be anything: then nothing may be claimed.
struct BackendTable: ~Copyable {
  struct Row: BitwiseCopyable {
    var backend: Endpoint
    var answeredAt: Instant
    /// Devices by which answered queries left, the last one first; 0 is none.
    var devices: InlineArray<4, UInt32>
    var seenAt: InlineArray<4, Instant>
    /// When a query left by a device that had to make room was last answered.
    var forgottenDevice: Instant
    /// When a query to a backend that had to make room in this place was last answered.
    var forgotten: Instant
  }

  private static let size = 1024
  private var rows = FixedArray<Row>(count: size)

  private func place(_ backend: Endpoint) -> Int {
    Int(((backend.address.high ^ backend.address.low &+ UInt64(backend.port)) &* 0x9E37_79B9_7F4A_7C15) >> 54)
  }

  /// Notes that a query which left for `backend` over `interface` was answered.
  mutating func noteAnswered(_ backend: Endpoint, over interface: UInt32, at time: Instant) {
    var place = place(backend)
    if rows[place].backend != backend { place = claim(backend, place) }
    if rows[place].devices[0] == interface {
      rows[place].answeredAt = time
      rows[place].seenAt[0] = time
      return
    }
    rows[place].answeredAt = time
    var at = 0
    while at < 3 && rows[place].devices[at] != interface { at += 1 }
    if rows[place].devices[at] != interface { rows[place].forgottenDevice = max(rows[place].forgottenDevice, rows[place].seenAt[at]) }
    while at > 0 {
      rows[place].devices[at] = rows[place].devices[at - 1]
      rows[place].seenAt[at] = rows[place].seenAt[at - 1]
      at -= 1
    }
    rows[place].devices[0] = interface
    rows[place].seenAt[0] = time
  }

  /// The other of its places if the backend is there; else the one whose backend was answered longer ago, which has to go.
  @inline(never) private mutating func claim(_ backend: Endpoint, _ first: Int) -> Int {
    let other = first ^ 1
    if rows[other].backend == backend { return other }
    let place = rows[first].answeredAt <= rows[other].answeredAt ? first : other
    rows[place] = Row(
      backend: backend, answeredAt: .zero, devices: .init(repeating: 0), seenAt: .init(repeating: .zero), forgottenDevice: .zero,
      forgotten: max(rows[place].forgotten, rows[place].answeredAt))
    return place
  }

  /// Where the backend is kept, or -1.
  private func find(_ backend: Endpoint) -> Int {
    let place = place(backend)
    if rows[place].backend == backend { return place }
    return rows[place ^ 1].backend == backend ? place ^ 1 : -1
  }

  /// When a query to a backend that had to go from this one's places was last answered: perhaps this very one.
  private func forgottenAt(_ backend: Endpoint) -> Instant {
    let place = place(backend)
    return max(rows[place].forgotten, rows[place ^ 1].forgotten)
  }

  /// When a query to the backend was last answered, at the latest; `.zero` where none was.
  func answeredAt(_ backend: Endpoint) -> Instant {
    let row = find(backend)
    return row >= 0 ? rows[row].answeredAt : forgottenAt(backend)
  }

  /// True if queries to the backend were answered since `time`, and none of them left over `interface`.
  func isAnswered(_ backend: Endpoint, otherThanOver interface: UInt32, since time: Instant) -> Bool {
    let row = find(backend)
    guard row >= 0, rows[row].answeredAt >= time, rows[row].forgottenDevice < time, forgottenAt(backend) < time else { return false }
    for at in 0..<4 where rows[row].devices[at] == interface && rows[row].seenAt[at] >= time { return false }
    return true
  }
}
