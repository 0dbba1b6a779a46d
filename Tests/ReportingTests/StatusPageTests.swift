import Flows
import Foundation
import Reporting
import Testing

@Suite struct StatusPageTests {
  private func status() -> StatusSnapshot {
    var status = StatusSnapshot(
      version: "0.1.0", now: WallTime(nanoseconds: 1_795_240_900_000_000_000), started: WallTime(nanoseconds: 1_795_240_800_000_000_000))
    status.nodeName = "n1"
    status.kernelRelease = "6.18.0"
    status.sources = [SourceState(source: "conntrack", state: .up), SourceState(source: "packets", state: .down, reason: "no <right>")]
    let metrics = fullSnapshot()
    status.engine = metrics.engine
    status.counters = metrics.counters
    status.workloads = metrics.workloads
    status.alerts = alerts().filter { $0.state == .firing }
    status.losses = [lostQuery()]
    status.blind = [.packets]
    status.blindNanoseconds = 90_000_000_000
    status.isDeliveredObservable = false
    return status
  }

  private func render(_ status: StatusSnapshot) -> String {
    var bytes: [UInt8] = []
    StatusPage.render(status, into: &bytes)
    return text(bytes)
  }

  @Test func pageIsTheGoldenOne() throws {
    let page = render(status())
    #expect(try page == Oracle.golden("status.html", page))
  }

  /// No script, nothing that loads, no link to another host.
  @Test func nothingIsLoadedAndNothingRuns() {
    let page = render(status()).lowercased()
    for word in ["<script", "javascript:", "src=", "http:", "https:", "//", "url(", "@import", "<link", "<iframe", "onload"] {
      #expect(!page.contains(word), "\(word)")
    }
  }

  @Test func namesCannotBecomeMarkup() {
    var status = status()
    let label = Array("<b>&\"'".utf8)
    status.losses[0].name = [UInt8(label.count)] + label + [0]
    status.nodeName = "</title><script>alert(1)</script>"
    let page = render(status)
    #expect(!page.contains("<b>") && !page.contains("<script") && page.contains("&lt;b&gt;&amp;\\&quot;&#39;"))
  }

  @Test func namesAreHiddenWhereTheyAreInRecords() {
    var status = status()
    status.names = .off
    #expect(!render(status).contains("api."))
    status.names = .hash(key: Array("0123456789abcdef".utf8))
    #expect(!render(status).contains("api."))
    status.names = .full
    #expect(render(status).contains("api.Example"))
  }

  @Test func aHealthyNodeSaysSoAndAnEmptyOneDoesNot() {
    var quiet = StatusSnapshot(version: "0.1.0", now: WallTime(nanoseconds: 0), started: WallTime(nanoseconds: 0))
    #expect(render(quiet).contains("No DNS query of this node&#39;s clients was seen yet."))
    quiet.engine.transmissions[0] = 12
    #expect(render(quiet).contains("None of 12 DNS queries"))
    quiet.blind = [.conntrack]
    #expect(render(quiet).contains("Blind now: conntrack"))
  }

  @Test func aFullPageIsBoundedAndQuick() {
    var status = status()
    status.alerts = (0..<1_024).map { _ in status.alerts[0] }
    status.losses = Array(repeating: lostQuery(), count: 20)
    var bytes: [UInt8] = []
    StatusPage.render(status, into: &bytes)
    let clock = ContinuousClock()
    let elapsed = clock.measure { for _ in 0..<20 { StatusPage.render(status, into: &bytes) } } / 20
    print("page for people with 1,024 alerts: \(bytes.count) bytes in \(elapsed) (this build)")
    #expect(bytes.count < 200_000)
  }
}

@Suite struct RecentRecordsTests {
  @Test func theNewestComeFirstAndTheArrayIsValid() throws {
    var recent = RecentRecords()
    var page: [UInt8] = []
    recent.render(into: &page)
    #expect((try JSONSerialization.jsonObject(with: Data(page)) as? [Any])?.isEmpty == true)
    for index in 0..<2_500 { recent.append(Array("{\"n\":\(index)}\n".utf8)) }
    recent.render(into: &page)
    let array = try #require(try JSONSerialization.jsonObject(with: Data(page)) as? [[String: Int]])
    #expect(array.count == 1_000 && array.first == ["n": 2_499] && array.last == ["n": 1_500])
    #expect(recent.generation == 2_500)
  }

  @Test func bytesAreBounded() throws {
    var recent = RecentRecords()
    let line = Array("{\"n\":\"\(String(repeating: "x", count: 9_990))\"}\n".utf8)
    for _ in 0..<1_000 { recent.append(line) }
    var page: [UInt8] = []
    recent.render(into: &page)
    #expect(page.count <= RecentRecords.byteLimit + 2_000 && page.count > RecentRecords.byteLimit - 11_000)
    recent.append(Array(repeating: UInt8(ascii: " "), count: RecentRecords.byteLimit + 1))
    #expect((try JSONSerialization.jsonObject(with: Data(page)) as? [Any])?.count == 104)
    let elapsed = ContinuousClock().measure { recent.render(into: &page) }
    print("last records, \(page.count) bytes: rendered in \(elapsed) (this build)")
  }
}
