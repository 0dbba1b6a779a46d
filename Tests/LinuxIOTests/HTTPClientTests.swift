import Flows
import Glibc
import Testing

@testable import LinuxIO

@Suite struct HTTPClientTests {
  @Test(arguments: [
    ("http://127.0.0.1:10554", "127.0.0.1", 10554, ""), ("http://node-a", "node-a", 99, ""), ("http://[::1]:7/", "::1", 7, ""),
    ("http://[fd00::1]", "fd00::1", 99, ""), ("http://proxy:80/api/v1/ns/", "proxy", 80, "/api/v1/ns"),
  ])
  func urls(_ row: (String, String, Int, String)) throws {
    let url = try HTTPBaseURL(row.0, defaultPort: 99)
    #expect(url.host == row.1 && Int(url.port) == row.2 && url.prefix == row.3)
  }

  @Test(arguments: [
    "", "127.0.0.1", "https://x", "ftp://x", "http://", "http://:80", "http://x:", "http://x:0", "http://x:65536", "http://x:8x", "http://::1",
    "http://[::1", "http://[x]", "http://u:p@x", "http://x/?a", "http://x/#a", "http://x y", "http://x\r\nHost: y",
  ])
  func whatIsNoURLIsRefused(_ text: String) { #expect(throws: HTTPBaseURL.Invalid.self) { try HTTPBaseURL(text, defaultPort: 99) } }

  @Test func asksAServer() throws {
    let server = try HTTPTest.server()
    server.publish("/metrics", "up 1\n")
    let answer = try HTTPClient.get(HTTPBaseURL("http://127.0.0.1:\(server.port)", defaultPort: 1), "/metrics")
    #expect(answer.status == 200 && answer.body == Array("up 1\n".utf8) && answer.answered.nanoseconds >= answer.asked.nanoseconds)
    #expect(try HTTPClient.get(HTTPBaseURL("http://localhost:\(server.port)/x", defaultPort: 1), "/metrics").status == 404)
    #expect(throws: HTTPClient.Failure.self) {
      try HTTPClient.get(HTTPBaseURL("http://127.0.0.1:\(server.port)", defaultPort: 1), "/metrics", limit: 100)
    }
  }

  @Test func aSilentServerCostsTheTimeOut() throws {
    let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    defer { close(listener) }
    var name = sockaddr_in()
    name.sin_family = sa_family_t(AF_INET)
    name.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let port =
      withUnsafeMutablePointer(to: &name) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          bind(listener, $0, length) == 0 && listen(listener, 1) == 0 && getsockname(listener, $0, &length) == 0
        }
      } ? UInt16(bigEndian: name.sin_port) : 0
    let start = HTTPTest.milliseconds()
    #expect(throws: HTTPClient.Failure(problem: "no answer in time")) {
      try HTTPClient.get(HTTPBaseURL("http://127.0.0.1:\(port)", defaultPort: 1), "/", milliseconds: 150)
    }
    #expect(HTTPTest.milliseconds() - start < 1500)
    #expect(throws: HTTPClient.Failure(problem: "cannot connect: Connection refused")) {
      try HTTPClient.get(HTTPBaseURL("http://127.0.0.1:1", defaultPort: 1), "/")
    }
  }

  @Test(arguments: [
    "", "HTTP/1.1 200", "SSH-2.0-x\r\n\r\n", "HTTP/1.1 xxx OK\r\n\r\n", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
    "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
  ])
  func whatIsNoAnswerIsRefused(_ text: String) { #expect(HTTPClient.parse(Array(text.utf8)) == nil) }
}
