import Flows
import Glibc
import Testing

@testable import Agent

/// A log into a pipe, on a clock that stands until it is moved.
private final class LogPipe {
  var now = Instant(nanoseconds: 0)
  private(set) var reader: Int32
  let writer: Int32
  private(set) lazy var log = Log(
    level: .debug, format: .logfmt, descriptor: writer, monotonicTime: { [unowned self] in now },
    wallTime: { WallTime(nanoseconds: 1_795_240_800_123_456_789) })

  init() {
    var ends: [Int32] = [0, 0]
    #expect(pipe(&ends) == 0)
    (reader, writer) = (ends[0], ends[1])
    #expect(fcntl(reader, F_SETFL, O_NONBLOCK) == 0)
  }

  deinit {
    if reader >= 0 { close(reader) }
    close(writer)
  }

  func closeReader() {
    close(reader)
    reader = -1
  }

  func bytes() -> [UInt8] {
    var all: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = read(reader, &chunk, chunk.count)
      if count <= 0 { return all }
      all += chunk[..<count]
    }
  }

  func text() -> String { String(decoding: bytes(), as: UTF8.self) }
}

private let time = "2026-11-21T06:00:00.123Z"

@Suite struct LogTests {
  @Test func logfmt() {
    let pipe = LogPipe()
    pipe.log.info("started", ["version": "0.1.0", "ports": 2, "probe": false, "lost": .unsigned(.max), "path": "/a b", "empty": ""])
    #expect(
      pipe.text() == "time=\(time) level=info msg=started version=0.1.0 ports=2 probe=false lost=18446744073709551615 path=\"/a b\" empty=\"\"\n")
    pipe.log.error("two words")
    #expect(pipe.text() == "time=\(time) level=error msg=\"two words\"\n")
  }

  @Test func json() {
    let pipe = LogPipe()
    pipe.log.format = .json
    pipe.log.warn("two words", ["a": "x", "n": -3, "b": true])
    #expect(pipe.text() == "{\"time\":\"\(time)\",\"level\":\"warn\",\"msg\":\"two words\",\"a\":\"x\",\"n\":-3,\"b\":true}\n")
  }

  static let escapes: [(value: LogValue, shown: String)] = [
    ("a\r\nlevel=error", "\"a\\r\\nlevel=error\""),
    ("\n", "\"\\n\""),
    ("say \"hi\"", "\"say \\\"hi\\\"\""),
    ("back\\slash", "\"back\\\\slash\""),
    ("a=b", "\"a=b\""),
    ("\u{0}\u{1B}[2J\u{7F}\u{9B}", "\"\\u0000\\u001b[2J\\u007f\\u009b\""),
    ("\u{2028}\u{202E}\u{FEFF}", "\"\\u2028\\u202e\\ufeff\""),
    ("é漢😀", "\"é漢😀\""),
    (.bytes([0x61, 0xFF, 0x0A, 0xC3]), "\"a\u{FFFD}\\n\u{FFFD}\""),
  ]

  @Test(arguments: escapes)
  func escapesValues(_ row: (value: LogValue, shown: String)) {
    let pipe = LogPipe()
    pipe.log.info("m", ["v": row.value])
    #expect(pipe.text() == "time=\(time) level=info msg=m v=\(row.shown)\n")
    pipe.log.format = .json
    pipe.log.info("m", ["v": row.value])
    #expect(pipe.text() == "{\"time\":\"\(time)\",\"level\":\"info\",\"msg\":\"m\",\"v\":\(row.shown)}\n")
  }

  @Test func longValuesAndLongLinesAreCut() {
    let pipe = LogPipe()
    let long = LogValue.text(String(repeating: "é", count: 5000))
    pipe.log.info("m", ["v": long])
    #expect(pipe.text() == "time=\(time) level=info msg=m v=\"\(String(repeating: "é", count: 256))...\"\n")
    let worst = LogValue.bytes([UInt8](repeating: 0, count: 1 << 20))
    for format in LogFormat.allCases {
      pipe.log.format = format
      pipe.log.info("worst", ["a": worst, "b": worst, "c": "short"])
      let bytes = pipe.bytes()
      #expect(bytes.count <= LogLine.maximumBytes)
      #expect(bytes.filter { $0 == 0x0A }.count == 1)
      #expect(String(decoding: bytes, as: UTF8.self).hasSuffix(format == .json ? ",\"truncated\":true}\n" : " truncated=true\n"))
    }
  }

  @Test func combiningMarksDoNotDefeatTheCut() {
    let pipe = LogPipe()
    pipe.log.info("m", ["v": .text("a" + String(repeating: "\u{301}", count: 100_000))])
    #expect(pipe.bytes().count < 700)
  }

  @Test func levelsAreHeldAndCounted() {
    let pipe = LogPipe()
    pipe.log.level = .warn
    var evaluated = false
    func fields() -> LogFields {
      evaluated = true
      return ["k": "v"]
    }
    pipe.log.debug("d", fields())
    pipe.log.info("i", fields())
    #expect(!evaluated && pipe.text() == "")
    pipe.log.warn("w", fields())
    pipe.log.error("e")
    pipe.log.error("e")
    #expect(evaluated && pipe.log.isEnabled(.error) && !pipe.log.isEnabled(.info))
    #expect(pipe.log.counters == LogCounters(debug: 0, info: 0, warn: 1, error: 2, suppressed: 0, undelivered: 0))
  }

  @Test func tenASecondPerMessageAndTheRestCounted() {
    let pipe = LogPipe()
    for _ in 0..<25 { pipe.log.warn("storm") }
    pipe.log.info("calm")
    #expect(pipe.text().utf8.filter { $0 == 0x0A }.count == 11)
    #expect(pipe.log.counters.suppressed == 15)
    pipe.now = Instant(nanoseconds: 999_999_999)
    pipe.log.warn("storm")
    pipe.log.flushSuppressed()
    #expect(pipe.text() == "")
    pipe.now = Instant(nanoseconds: 1_000_000_000)
    pipe.log.warn("storm", ["n": 1])
    #expect(pipe.text() == "time=\(time) level=warn msg=storm suppressed=16 n=1\n")
    for _ in 0..<12 { pipe.log.warn("storm") }
    _ = pipe.bytes()
    pipe.now = Instant(nanoseconds: 2_000_000_000)
    pipe.log.flushSuppressed()
    #expect(pipe.text() == "time=\(time) level=warn msg=storm suppressed=3\n")
    pipe.log.flushSuppressed()
    #expect(pipe.text() == "")
  }

  @Test func aReaderThatStandsStillCostsLinesNotTime() {
    let pipe = LogPipe()
    for second in 0..<400 {
      pipe.now = Instant(nanoseconds: Int64(second) * 1_000_000_000)
      for _ in 0..<10 { pipe.log.info("fill", ["v": .text(String(repeating: "x", count: 500))]) }
    }
    let counters = pipe.log.counters
    #expect(counters.info > 0 && counters.undelivered > 0)
    #expect(counters.info + counters.undelivered == 4000)
    let lines = pipe.text()
    #expect(lines.utf8.filter { $0 == 0x0A }.count == Int(counters.info))
    #expect(lines.hasSuffix("\n"))
  }

  @Test func aReaderThatIsGoneIsCounted() {
    let pipe = LogPipe()
    pipe.closeReader()
    pipe.log.error("into nothing")
    #expect(pipe.log.counters.undelivered == 1 && pipe.log.counters.error == 0)
  }

  static let times: [(nanoseconds: Int64, shown: String)] = [
    (0, "1970-01-01T00:00:00.000Z"),
    (951_782_399_999_999_999, "2000-02-28T23:59:59.999Z"),
    (951_782_400_000_000_000, "2000-02-29T00:00:00.000Z"),
    (1_709_251_199_000_000_000, "2024-02-29T23:59:59.000Z"),
    (4_107_542_400_000_000_000, "2100-03-01T00:00:00.000Z"),
    (-1, "1969-12-31T23:59:59.999Z"),
    (.max, "2262-04-11T23:47:16.854Z"),
    (.min, "1677-09-21T00:12:43.145Z"),
  ]

  @Test(arguments: times)
  func timestamps(_ row: (nanoseconds: Int64, shown: String)) {
    var out: [UInt8] = []
    appendTimestamp(WallTime(nanoseconds: row.nanoseconds), to: &out)
    #expect(String(decoding: out, as: UTF8.self) == row.shown)
  }
}
