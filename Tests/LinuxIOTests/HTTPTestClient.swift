import Flows
import Foundation
import Glibc
import LinuxIO

/// A blocking client over a plain socket, from a chosen loopback address, so that a test decides every byte and every pause.
final class HTTPTestClient {
  let fd: Int32
  private var buffered: [UInt8] = []

  struct Answer {
    var status: Int
    var headers: [String: String]
    var body: [UInt8]
    var text: String { String(decoding: body, as: UTF8.self) }
  }

  init?(port: UInt16, from source: UInt32 = 0x7F00_0001, receiveBuffer: Int32? = nil, seconds: Int = 10) {
    fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard fd >= 0 else { return nil }
    var timeout = timeval(tv_sec: seconds, tv_usec: 0)
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
    if var receiveBuffer { setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receiveBuffer, socklen_t(MemoryLayout<Int32>.size)) }
    guard attach(source, 0, bind) == 0, attach(0x7F00_0001, port, connect) == 0 else { return nil }
  }

  deinit { close(fd) }

  private func attach(_ address: UInt32, _ port: UInt16, _ call: (Int32, UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
    var name = sockaddr_in()
    name.sin_family = sa_family_t(AF_INET)
    name.sin_port = port.bigEndian
    name.sin_addr.s_addr = address.bigEndian
    return withUnsafePointer(to: &name) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { call(fd, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
    }
  }

  /// Closes with a reset instead of an orderly end.
  func reset() {
    var linger = linger(l_onoff: 1, l_linger: 0)
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout.size(ofValue: linger)))
    shutdown(fd, Int32(SHUT_RD))
  }

  @discardableResult
  func send(_ text: String) -> Bool {
    let bytes = Array(text.utf8)
    return Glibc.send(fd, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count
  }

  /// True once the server has closed this connection; false if it is still open when the receive time-out ends.
  func reachesEnd() -> Bool {
    var scratch = [UInt8](repeating: 0, count: 65536)
    while true {
      let count = recv(fd, &scratch, scratch.count, 0)
      if count > 0 { continue }
      return count == 0 || errno == ECONNRESET
    }
  }

  func request(_ path: String, method: String = "GET", host: String = "127.0.0.1", headers: [String] = []) -> Answer? {
    send(([method + " " + path + " HTTP/1.1", "Host: " + host] + headers).joined(separator: "\r\n") + "\r\n\r\n")
    return answer(hasBody: method != "HEAD")
  }

  func answer(hasBody: Bool = true) -> Answer? {
    while true {
      if let end = find([13, 10, 13, 10]) {
        let lines = String(decoding: buffered[..<end], as: UTF8.self).components(separatedBy: "\r\n")
        buffered.removeFirst(end + 4)
        let words = lines[0].split(separator: " ")
        guard words.count >= 2, let status = Int(words[1]) else { return nil }
        var headers: [String: String] = [:]
        for line in lines.dropFirst() {
          let parts = line.split(separator: ":", maxSplits: 1)
          if parts.count == 2 { headers[parts[0].lowercased()] = parts[1].trimmingCharacters(in: .whitespaces) }
        }
        let length = hasBody ? Int(headers["content-length"] ?? "") ?? 0 : 0
        while buffered.count < length { guard fill() else { return nil } }
        let body = Array(buffered[..<length])
        buffered.removeFirst(length)
        return Answer(status: status, headers: headers, body: body)
      }
      guard fill() else { return nil }
    }
  }

  private func find(_ needle: [UInt8]) -> Int? {
    guard buffered.count >= needle.count else { return nil }
    return (0...(buffered.count - needle.count)).first { Array(buffered[$0..<$0 + needle.count]) == needle }
  }

  private func fill() -> Bool {
    var scratch = [UInt8](repeating: 0, count: 65536)
    let count = recv(fd, &scratch, scratch.count, 0)
    guard count > 0 else { return false }
    buffered.append(contentsOf: scratch[..<count])
    return true
  }
}

enum HTTPTest {
  static func loopback(_ port: UInt16 = 0) -> HTTPListenAddress { HTTPListenAddress(address: IPAddress(v4: 0x7F00_0001), port: port) }

  static func server(
    security: HTTPSecurity = .open, scope: HTTPListener.Scope = .metrics, limits: HTTPLimits = HTTPLimits()
  ) throws -> HTTPServer {
    try HTTPServer(
      configuration: HTTPServerConfiguration(listeners: [HTTPListener(loopback(), scope: scope)], security: security, limits: limits))
  }

  static func get(_ port: UInt16, _ path: String, method: String = "GET", headers: [String] = []) -> HTTPTestClient.Answer? {
    HTTPTestClient(port: port)?.request(path, method: method, headers: headers)
  }

  static func milliseconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) * 1e3 + Double(time.tv_nsec) / 1e6
  }

  /// Waits for a condition that another thread brings about.
  static func eventually(_ seconds: Double = 5, _ condition: () -> Bool) -> Bool {
    let end = milliseconds() + seconds * 1e3
    while milliseconds() < end {
      if condition() { return true }
      usleep(2000)
    }
    return condition()
  }

  /// Runs a program and returns its exit status and standard output with standard error.
  static func run(_ path: String, _ arguments: [String]) throws -> (status: Int32, output: String) {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: path)
    process.arguments = arguments
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = pipe
    process.standardInput = FileHandle.nullDevice
    try process.run()
    let data = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return (process.terminationStatus, String(decoding: data, as: UTF8.self))
  }
}

extension HTTPServer {
  borrowing func publish(_ path: StaticString, _ body: String, variant: Variant = .standard) {
    let bytes = Array(body.utf8)
    publish(
      path: path, variant: variant, contentType: variant == .openMetrics ? HTTPServer.openMetricsFormat : HTTPServer.textFormat, body: bytes.span)
  }

  var port: UInt16 { addresses[0].port }
}
