import Flows
import Foundation
import Glibc
import Testing

@testable import LinuxIO

/// `/api/v1/flows/ID`: a question that the thread of the pipeline answers.
@Suite struct HTTPFlowTests {
  private static let id = "0123456789abcdef"

  /// Asks on a thread of its own while this one answers as the pipeline would.
  private func ask(_ server: borrowing HTTPServer, _ path: String, _ answer: (UInt64, IPAddress?, inout [UInt8]) -> UInt32) -> HTTPTestClient.Answer?
  {
    let port = server.port
    let box = Box()
    let thread = Thread { box.set(HTTPTest.get(port, path)) }
    thread.start()
    let end = HTTPTest.milliseconds() + 5000
    while !box.isSet, HTTPTest.milliseconds() < end {
      var polled = pollfd(fd: server.flowDescriptor, events: Int16(POLLIN), revents: 0)
      if poll(&polled, 1, 5) > 0 { server.answerFlows(answer) }
    }
    return box.value
  }

  @Test func theCallersThreadAnswers() throws {
    let server = try HTTPTest.server(scope: .all)
    var asked: [(UInt64, IPAddress?)] = []
    let answer = ask(server, "/api/v1/flows/\(Self.id)?backend=10.1.2.3") { id, backend, body in
      asked.append((id, backend))
      body = Array("{}\n".utf8)
      return 200
    }
    #expect(answer?.status == 200 && answer?.text == "{}\n" && answer?.headers["content-type"] == "application/json")
    #expect(answer?.headers["cache-control"] == "no-store")
    #expect(asked.count == 1 && asked.first?.0 == 0x0123_4567_89AB_CDEF && asked.first?.1 == IPAddress("10.1.2.3"))
    let unknown = ask(server, "/api/v1/flows/FFFFFFFFFFFFFFFF?backend=fd00::1") { id, backend, body in
      #expect(id == .max && backend == IPAddress("fd00::1"))
      body = Array("{\"error\":\"no\"}".utf8)
      return 404
    }
    #expect(unknown?.status == 404 && unknown?.text == "{\"error\":\"no\"}")
  }

  @Test func whatIsNoNumberIsRefusedWithoutAsking() throws {
    let server = try HTTPTest.server(scope: .all)
    for path in ["", "1", Self.id + "0", "0123456789abcdeg", "0x23456789abcdef", Self.id + "/", Self.id + "?backend=x", Self.id + "?backend="] {
      let answer = HTTPTest.get(server.port, "/api/v1/flows/" + path)
      #expect(answer?.status == 400 && answer?.headers["content-type"] == "application/json", "\(path)")
      #expect(answer.map { (try? JSONSerialization.jsonObject(with: Data($0.body))) != nil } == true)
    }
    server.answerFlows { _, _, _ in
      Issue.record("asked")
      return 200
    }
  }

  @Test func namesAreShownWhereOtherPagesOfTheApiAre() throws {
    let server = try HTTPTest.server(scope: .metrics)
    #expect(HTTPTest.get(server.port, "/api/v1/flows/\(Self.id)")?.status == 404)
    let guarded = try HTTPTest.server(scope: .all)
    #expect(HTTPTestClient(port: guarded.port)?.request("/api/v1/flows/\(Self.id)", host: "evil.example")?.status == 421)
  }

  /// Nobody answers: one request waits a quarter of a second, the next ones not at all, and other pages go on.
  @Test func aPipelineThatDoesNotAnswerHoldsNobody() throws {
    let server = try HTTPTest.server(scope: .all)
    server.publish("/metrics", "up 1\n")
    let start = HTTPTest.milliseconds()
    #expect(HTTPTest.get(server.port, "/api/v1/flows/\(Self.id)")?.status == 503)
    let waited = HTTPTest.milliseconds() - start
    #expect(waited > 200 && waited < 2000)
    let again = HTTPTest.milliseconds()
    for _ in 0..<5 { #expect(HTTPTest.get(server.port, "/api/v1/flows/\(Self.id)")?.status == 503) }
    #expect(HTTPTest.get(server.port, "/metrics")?.status == 200)
    #expect(HTTPTest.milliseconds() - again < 200)
    // What comes too late is nobody's.
    server.answerFlows { _, _, _ in 200 }
  }

  @Test func questionsAreCountedOut() throws {
    let server = try HTTPTest.server(scope: .all)
    let port = server.port
    let box = Box()
    let start = HTTPTest.milliseconds()
    let thread = Thread {
      let client = HTTPTestClient(port: port)
      box.set((0..<60).map { _ in client?.request("/api/v1/flows/\(Self.id)")?.status ?? 0 })
    }
    thread.start()
    var asked = 0
    while !box.isSet, HTTPTest.milliseconds() - start < 10_000 {
      var polled = pollfd(fd: server.flowDescriptor, events: Int16(POLLIN), revents: 0)
      guard poll(&polled, 1, 5) > 0 else { continue }
      server.answerFlows { _, _, body in
        asked += 1
        body = [0x7B, 0x7D]
        return 200
      }
    }
    let seconds = (HTTPTest.milliseconds() - start) / 1000
    #expect(asked >= 20 && asked <= 21 + Int(10 * seconds), "\(asked) in \(seconds) s")
    #expect(box.statuses.count { $0 == 429 } >= 39 - Int(10 * seconds) && box.statuses.count { $0 == 200 } <= asked, "\(box.statuses)")
  }
}

/// What another thread leaves for this one.
private final class Box: @unchecked Sendable {
  private let lock = NSLock()
  private var answer: HTTPTestClient.Answer?
  private var done = false
  private var numbers: [Int] = []

  func set(_ numbers: [Int]) {
    lock.withLock {
      self.numbers = numbers
      done = true
    }
  }
  func set(_ answer: HTTPTestClient.Answer?) {
    lock.withLock {
      self.answer = answer
      done = true
    }
  }
  var statuses: [Int] { lock.withLock { numbers } }
  var isSet: Bool { lock.withLock { done } }
  var value: HTTPTestClient.Answer? { lock.withLock { answer } }
}
