/// The last records as they were written, for `/api/v1/incidents`. Bounded in number and in bytes: each slow reader of the page holds the version that
/// it asked for.
package struct RecentRecords: Sendable {
  package static let countLimit = 1_000
  package static let byteLimit = 1 << 20

  /// A ring of lines without their newline, made with the first.
  private var lines: [[UInt8]] = []
  private var oldest = 0
  private var count = 0
  private(set) var bytes = 0
  /// Grows with every record: what was rendered for another value is out of date.
  package private(set) var generation: UInt64 = 0

  package init() {}

  /// Keeps one line, with or without its newline; the oldest go where it finds no room.
  package mutating func append(_ line: [UInt8]) {
    let text = line.last == UInt8(ascii: "\n") ? Array(line.dropLast()) : line
    generation &+= 1
    guard text.count <= Self.byteLimit else { return }
    while count > 0 && (count == Self.countLimit || bytes + text.count > Self.byteLimit) { removeOldest() }
    if lines.isEmpty { lines = Array(repeating: [], count: Self.countLimit) }
    lines[(oldest + count) % Self.countLimit] = text
    count += 1
    bytes += text.count
  }

  private mutating func removeOldest() {
    bytes -= lines[oldest].count
    lines[oldest] = []
    oldest = (oldest + 1) % Self.countLimit
    count -= 1
  }

  /// Replaces the contents of `page` with a JSON array of the records, the newest first.
  package func render(into page: inout [UInt8]) {
    page.removeAll(keepingCapacity: true)
    page.append(UInt8(ascii: "["))
    for index in stride(from: count - 1, through: 0, by: -1) {
      page.append(UInt8(ascii: "\n"))
      page.append(contentsOf: lines[(oldest + index) % Self.countLimit])
      if index > 0 { page.append(UInt8(ascii: ",")) }
    }
    appendLiteral("\n]\n", to: &page)
  }
}
