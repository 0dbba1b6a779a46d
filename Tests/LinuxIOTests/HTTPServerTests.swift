import Flows
import Foundation
import Glibc
import Testing

@testable import LinuxIO

@Suite struct HTTPServerTests {
  @Test func answersAsPrometheusExpects() throws {
    let server = try HTTPTest.server()
    #expect(HTTPTest.get(server.port, "/metrics")?.status == 503)
    server.publish("/metrics", "up 1\n")
    server.publish("/metrics", "up 1\n# EOF\n", variant: .openMetrics)
    server.publish("/api/v1/incidents", "[]")
    let client = try #require(HTTPTestClient(port: server.port))
    let text = try #require(client.request("/metrics"))
    #expect(text.status == 200 && text.text == "up 1\n")
    #expect(text.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8")
    #expect(text.headers["cache-control"] == "no-store" && text.headers["x-content-type-options"] == "nosniff")
    // The same connection: keep-alive.
    let accept =
      "Accept: application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    let open = try #require(client.request("/metrics?x=1", headers: [accept]))
    #expect(open.text == "up 1\n# EOF\n" && open.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8")
    let head = try #require(client.request("/metrics", method: "HEAD"))
    #expect(head.status == 200 && head.headers["content-length"] == "5")
    #expect(client.request("/metricsx")?.status == 404)
    #expect(client.request("/api/v1/incidents")?.status == 404)
    #expect(client.request("/metrics", headers: ["Accept: image/png"])?.status == 200)
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
      let refused = try #require(HTTPTest.get(server.port, "/metrics", method: method))
      #expect(refused.status == 405 && refused.headers["allow"] == "GET, HEAD")
    }
    #expect(server.counters.accepted == 7)
  }

  @Test func aBodyIsIgnoredOrRefusedButNeverKept() throws {
    let server = try HTTPTest.server()
    server.publish("/metrics", "up 1\n")
    let small = try #require(HTTPTestClient(port: server.port))
    small.send("GET /metrics HTTP/1.1\r\nHost: n\r\nContent-Length: 4\r\n\r\nbody")
    #expect(small.answer()?.text == "up 1\n")
    #expect(small.request("/metrics")?.status == 200)
    let large = try #require(HTTPTestClient(port: server.port))
    large.send("GET /metrics HTTP/1.1\r\nHost: n\r\nContent-Length: 1000000\r\n\r\n")
    for _ in 0..<100 { large.send(String(repeating: "x", count: 10_000)) }
    #expect(large.reachesEnd())
    let header = try #require(HTTPTestClient(port: server.port))
    header.send("GET /metrics HTTP/1.1\r\nHost: n\r\nX: " + String(repeating: "x", count: 20_000) + "\r\n\r\n")
    #expect(header.answer()?.status == 431)
    #expect(HTTPTest.get(server.port, "/metrics")?.status == 200)
  }

  @Test func probesFollowThePipeline() throws {
    var limits = HTTPLimits()
    limits.heartbeatMilliseconds = 200
    let server = try HTTPTest.server(limits: limits)
    let port = server.port
    #expect(HTTPTest.get(port, "/-/ready")?.status == 503)
    server.setReady(true)
    #expect(HTTPTest.get(port, "/-/ready")?.status == 200)
    #expect(HTTPTest.eventually { HTTPTest.get(port, "/-/healthy")?.status == 503 })
    server.heartbeat()
    #expect(HTTPTest.get(port, "/-/healthy")?.status == 200)
  }

  @Test func anOldPageIsRenderedForWhoAsks() throws {
    var limits = HTTPLimits()
    limits.pageMilliseconds = 20
    let server = try HTTPTest.server(limits: limits)
    server.publish("/metrics", "old")
    let published = Clocks.monotonic()
    #expect(HTTPTest.eventually { Clocks.monotonic() - published > 40 * Nanoseconds.perMillisecond })
    let client = try #require(HTTPTestClient(port: server.port))
    client.send("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    #expect(HTTPTest.eventually { server.wasAsked() })
    server.publish("/metrics", "new")
    #expect(client.answer()?.text == "new")
    // Where nobody renders, what there is is served, and the next request neither asks nor waits.
    let renewed = Clocks.monotonic()
    #expect(HTTPTest.eventually { Clocks.monotonic() - renewed > 40 * Nanoseconds.perMillisecond })
    #expect(HTTPTest.get(server.port, "/metrics")?.text == "new")
    let askedAgain = server.wasAsked()
    #expect(askedAgain)
    #expect(HTTPTest.get(server.port, "/metrics")?.text == "new")
    let askedOnceMore = server.wasAsked()
    #expect(!askedOnceMore)
  }

  @Test func theApiAddressServesEverything() throws {
    let server = try HTTPServer(
      configuration: HTTPServerConfiguration(listeners: [
        HTTPListener(try HTTPListenAddress(parsing: ":0"), scope: .metrics), HTTPListener(HTTPTest.loopback(), scope: .all),
      ]))
    server.publish("/", "<html>")
    server.publish("/metrics", "up 1\n")
    #expect(HTTPTest.get(server.addresses[0].port, "/")?.status == 404)
    #expect(HTTPTest.get(server.addresses[1].port, "/")?.text == "<html>")
    #expect(HTTPTest.get(server.addresses[0].port, "/metrics")?.status == 200)
    #expect(HTTPTest.get(server.addresses[1].port, "/metrics")?.status == 200)
  }

  /// DNS rebinding: a site's name that now resolves to 127.0.0.1 must read nothing. The page for scrapers shows no names and is not held back.
  @Test func theLoopbackApiAddressAnswersToNoForeignName() throws {
    let server = try HTTPServer(
      configuration: HTTPServerConfiguration(listeners: [
        HTTPListener(HTTPTest.loopback(), scope: .all), HTTPListener(HTTPTest.loopback(), scope: .metrics),
      ]))
    server.publish("/", "<html>")
    server.publish("/metrics", "up 1\n")
    let client = try #require(HTTPTestClient(port: server.addresses[0].port))
    for host in ["127.0.0.1:10554", "127.0.0.1", "localhost", "LocalHost:1", "[::1]:10554", "[::1]", "10.0.0.7:80"] {
      #expect(client.request("/", host: host)?.status == 200, "\(host)")
    }
    let refused = [
      "evil.example", "evil.example:10554", "localhost.evil.example", "127.0.0.1.evil.example", "[::1", "[::1]evil", "[evil]", "::1", "",
      "2130706433", String(repeating: "1", count: 60),
    ]
    for host in refused { #expect(client.request("/", host: host)?.status == 421, "\(host)") }
    #expect(client.request("/metrics", host: "evil.example")?.status == 421)
    #expect(client.request("/-/healthy", host: "evil.example")?.status == 200)
    #expect(HTTPTestClient(port: server.addresses[1].port)?.request("/metrics", host: "node-1.example")?.status == 200)
    #expect(server.counters.misdirected == UInt64(refused.count + 1))
    let policy = try #require(client.request("/", host: "localhost")?.headers["content-security-policy"])
    #expect(policy.hasPrefix("default-src 'none'"))
  }

  @Test func aTakenPortIsNamed() throws {
    let server = try HTTPTest.server()
    let port = server.port
    do {
      _ = try HTTPServer(configuration: HTTPServerConfiguration(listeners: [HTTPListener(HTTPTest.loopback(port), scope: .metrics)]))
      Issue.record("the port was given twice")
    } catch {
      #expect("\(error)" == "cannot listen on 127.0.0.1:\(port): address already in use; choose another with --web.listen-address")
    }
  }

  @Test func withoutIPv6TheWildcardFallsBack() throws {
    let any = try HTTPListenAddress(parsing: ":10553")
    #expect(HTTPServer.listenFallback(any, code: EAFNOSUPPORT)?.description == "0.0.0.0:10553")
    #expect(HTTPServer.listenFallback(any, code: EADDRINUSE) == nil)
    #expect(HTTPServer.listenFallback(try HTTPListenAddress(parsing: "[::1]:1"), code: EADDRNOTAVAIL) == nil)
  }

  @Test func aSlowReaderGetsThePageItAskedFor() throws {
    let server = try HTTPTest.server()
    let size = 4_000_000
    server.publish("/metrics", String(repeating: "a", count: size))
    let slow = try #require(HTTPTestClient(port: server.port, receiveBuffer: 4096))
    slow.send("GET /metrics HTTP/1.1\r\nHost: n\r\n\r\n")
    let port = server.port
    var counted: UInt64 = 0
    #expect(
      HTTPTest.eventually {
        counted = server.counters.requests
        return counted == 1
      })
    for letter in ["b", "c", "d"] { server.publish("/metrics", String(repeating: letter, count: size)) }
    #expect(HTTPTest.get(port, "/metrics")?.body.first == UInt8(ascii: "d"))
    let answer = try #require(slow.answer())
    #expect(answer.body.count == size && answer.body.allSatisfy { $0 == UInt8(ascii: "a") })
  }

  @Test func pathsAreBounded() throws {
    let server = try HTTPTest.server()
    let body: [UInt8] = []
    let long: StaticString =
      "/0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
    let tooLong = server.publish(path: long, contentType: "text/plain", body: body.span)
    let empty = server.publish(path: "/metrics", contentType: "text/plain", body: body.span)
    #expect(!tooLong && empty)
    #expect(HTTPTest.get(server.port, "/metrics")?.headers["content-length"] == "0")
  }

  @Test func theThreadIsNamedAndTakesNoSignal() throws {
    let server = try HTTPTest.server()
    var found = false
    for task in try FileManager.default.contentsOfDirectory(atPath: "/proc/self/task") {
      guard let status = try? String(contentsOfFile: "/proc/self/task/\(task)/status", encoding: .utf8), status.hasPrefix("Name:\thttp\n") else {
        continue
      }
      let line = status.split(separator: "\n").first { $0.hasPrefix("SigBlk:") } ?? ""
      let blocked = UInt64(line.split(separator: "\t").last ?? "", radix: 16) ?? 0
      for signal in [SIGHUP, SIGINT, SIGPIPE, SIGTERM, SIGCHLD, SIGUSR1] { #expect(blocked >> UInt64(signal - 1) & 1 == 1) }
      found = true
    }
    #expect(found)
    #expect(server.counters.connections == 0)
  }

  @Test func aResetInTheMiddleOfAnAnswerKillsNothing() throws {
    let server = try HTTPTest.server()
    server.publish("/metrics", String(repeating: "a", count: 4_000_000))
    for _ in 0..<50 {
      let client = try #require(HTTPTestClient(port: server.port, receiveBuffer: 4096))
      client.send("GET /metrics HTTP/1.1\r\nHost: n\r\n\r\n")
      client.reset()
    }
    #expect(HTTPTest.get(server.port, "/metrics")?.body.count == 4_000_000)
  }

  @Test func scrapeLatency() throws {
    let server = try HTTPTest.server()
    server.publish("/metrics", String(repeating: "racetrack_dns_transmissions_total{qtype=\"A\"} 1\n", count: 1064))
    let client = try #require(HTTPTestClient(port: server.port))
    var kept: [Double] = []
    var fresh: [Double] = []
    for _ in 0..<300 {
      var began = HTTPTest.milliseconds()
      #expect(client.request("/metrics")?.status == 200)
      kept.append(HTTPTest.milliseconds() - began)
      began = HTTPTest.milliseconds()
      #expect(HTTPTest.get(server.port, "/metrics")?.status == 200)
      fresh.append(HTTPTest.milliseconds() - began)
    }
    kept.sort()
    fresh.sort()
    print("scrape of 50 kB, ms, kept/new connection: median \(kept[150])/\(fresh[150]), p99 \(kept[297])/\(fresh[297])")
    #expect(fresh[150] < 50)
  }
}
