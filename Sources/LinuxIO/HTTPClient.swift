package import Flows
import Glibc

/// `http://HOST[:PORT][/PREFIX]`, where HOST is a name, an IPv4 address or an IPv6 address in brackets.
package struct HTTPBaseURL: Equatable, Sendable {
  package var host: String
  package var port: UInt16
  /// Without a slash at the end.
  package var prefix: String
  /// As given, for messages.
  package var text: String

  /// Why a text is no such URL, as the words behind it.
  package struct Invalid: Error, Equatable, Sendable {
    package var problem: String
  }

  package init(_ text: String, defaultPort: UInt16) throws(Invalid) {
    guard text.utf8.count <= 1024, text.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else { throw Invalid(problem: "is not a URL") }
    if text.hasPrefix("https://") { throw Invalid(problem: "asks for TLS, which is not spoken here: forward the port, or use http on loopback") }
    guard text.hasPrefix("http://") else { throw Invalid(problem: "does not begin with http://") }
    let rest = text.dropFirst("http://".count)
    let authority = rest.prefix { $0 != "/" }
    let path = rest.dropFirst(authority.count)
    if authority.contains("@") { throw Invalid(problem: "holds a password: put user:password into a file and name it with --web.user-file") }
    if path.contains("?") || path.contains("#") { throw Invalid(problem: "has more than a path") }
    var host = authority
    port = defaultPort
    if let colon = authority.lastIndex(of: ":"), !authority.hasSuffix("]") {
      let digits = authority[authority.index(after: colon)...]
      guard (1...5).contains(digits.count), digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let number = UInt16(digits), number > 0 else {
        throw Invalid(problem: "has no port from 1 to 65535 behind its colon")
      }
      port = number
      host = authority[..<colon]
    }
    if host.hasPrefix("[") {
      guard host.hasSuffix("]"), host.contains(":") else { throw Invalid(problem: "has no IPv6 address in its brackets") }
      host = host.dropFirst().dropLast()
    } else if host.contains(":") {
      throw Invalid(problem: "needs brackets around its IPv6 address")
    }
    guard !host.isEmpty else { throw Invalid(problem: "names no host") }
    self.host = String(host)
    self.prefix = path.hasSuffix("/") ? String(path.dropLast()) : String(path)
    self.text = text
  }
}

/// One HTTP/1.0 GET at a time over a blocking socket: plain TCP, bounded in time and size. For the subcommands that ask agents, not for the agent.
package enum HTTPClient {
  package struct Answer: Sendable {
    package var status: Int
    package var body: [UInt8]
    /// CLOCK_REALTIME before the request was written and after the answer's first byte was there.
    package var asked: WallTime
    package var answered: WallTime
  }

  package struct Failure: Error, Equatable, Sendable {
    package var problem: String

    package init(problem: String) { self.problem = problem }
  }

  /// - Parameters:
  ///   - target: path and query.
  ///   - authorization: value of the Authorization header.
  ///   - milliseconds: for everything but the lookup of a name, whose time is the resolver's.
  ///   - limit: bytes of the whole answer.
  package static func get(
    _ base: HTTPBaseURL, _ target: String, authorization: String? = nil, milliseconds: Int = 5_000, limit: Int = 4 << 20
  ) throws(Failure) -> Answer {
    let end = Clocks.monotonic() + Int64(milliseconds) * Nanoseconds.perMillisecond
    let descriptor = try connect(base, until: end)
    defer { close(descriptor) }
    let host = base.host.contains(":") ? "[\(base.host)]" : base.host
    var request = "GET \(base.prefix)\(target) HTTP/1.0\r\nHost: \(host):\(base.port)\r\nAccept: application/json\r\n"
    if let authorization { request += "Authorization: \(authorization)\r\n" }
    request += "\r\n"
    let asked = Clocks.wall()
    try write(Array(request.utf8), to: descriptor, until: end)
    var bytes: [UInt8] = []
    var answered: WallTime?
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      try wait(descriptor, Int16(POLLIN), until: end)
      let count = unsafe recv(descriptor, &chunk, chunk.count, 0)
      if count < 0 && (errno == EINTR || errno == EAGAIN) { continue }
      guard count >= 0 else { throw failure("no answer", errno) }
      if answered == nil { answered = Clocks.wall() }
      if count == 0 { break }
      guard bytes.count + count <= limit else { throw Failure(problem: "an answer of more than \(limit) bytes") }
      bytes += chunk[..<count]
    }
    guard let (status, body) = parse(bytes), let answered else { throw Failure(problem: "not an HTTP answer") }
    return Answer(status: status, body: body, asked: asked, answered: answered)
  }

  /// Status and body of a whole answer; nil if it is none, or shorter than it says.
  static func parse(_ bytes: [UInt8]) -> (status: Int, body: [UInt8])? {
    guard bytes.starts(with: Array("HTTP/1.".utf8)), bytes.count >= 12, bytes[8] == UInt8(ascii: " ") else { return nil }
    guard let status = Int(String(decoding: bytes[9..<12], as: UTF8.self)), (100...599).contains(status) else { return nil }
    var end = 0
    while end + 4 <= bytes.count, !(bytes[end] == 13 && bytes[end + 1] == 10 && bytes[end + 2] == 13 && bytes[end + 3] == 10) { end += 1 }
    guard end + 4 <= bytes.count else { return nil }
    let body = Array(bytes[(end + 4)...])
    for line in String(decoding: bytes[..<end], as: UTF8.self).split(separator: "\r\n").dropFirst() {
      let parts = line.split(separator: ":", maxSplits: 1)
      guard parts.count == 2, parts[0].lowercased() == "content-length" else { continue }
      guard let length = Int(parts[1].drop { $0 == " " }), length == body.count else { return nil }
    }
    return (status, body)
  }

  private static func connect(_ base: HTTPBaseURL, until end: Instant) throws(Failure) -> Int32 {
    var hints = unsafe addrinfo()
    unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    unsafe hints.ai_flags = AI_NUMERICSERV
    var list: UnsafeMutablePointer<addrinfo>?
    let code = unsafe getaddrinfo(base.host, String(base.port), &hints, &list)
    guard code == 0 else { throw Failure(problem: "the name \(base.host): \(unsafe String(cString: gai_strerror(code)))") }
    defer { unsafe freeaddrinfo(list) }
    var last = Failure(problem: "no address")
    var next = unsafe list
    while let info = unsafe next {
      do throws(Failure) {
        return try unsafe connect(info.pointee, until: end)
      } catch {
        last = error
      }
      unsafe next = info.pointee.ai_next
    }
    throw last
  }

  private static func connect(_ info: addrinfo, until end: Instant) throws(Failure) -> Int32 {
    let kind = unsafe info.ai_socktype | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
    let descriptor = unsafe socket(info.ai_family, kind, 0)
    guard descriptor >= 0 else { throw failure("no socket", errno) }
    if unsafe Glibc.connect(descriptor, info.ai_addr, info.ai_addrlen) == 0 { return descriptor }
    var error = errno
    if error == EINPROGRESS {
      do throws(Failure) {
        try wait(descriptor, Int16(POLLOUT), until: end)
      } catch {
        close(descriptor)
        throw error
      }
      var length = socklen_t(MemoryLayout<Int32>.size)
      error = 0
      _ = unsafe getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &length)
      if error == 0 { return descriptor }
    }
    close(descriptor)
    throw failure("cannot connect", error)
  }

  private static func write(_ bytes: [UInt8], to descriptor: Int32, until end: Instant) throws(Failure) {
    var offset = 0
    while offset < bytes.count {
      try wait(descriptor, Int16(POLLOUT), until: end)
      let count = unsafe bytes.withUnsafeBytes {
        unsafe send(descriptor, $0.baseAddress?.advanced(by: offset), $0.count - offset, Int32(MSG_NOSIGNAL))
      }
      if count < 0 && (errno == EINTR || errno == EAGAIN) { continue }
      guard count > 0 else { throw failure("cannot ask", errno) }
      offset += count
    }
  }

  private static func wait(_ descriptor: Int32, _ events: Int16, until end: Instant) throws(Failure) {
    while true {
      let left = end - Clocks.monotonic()
      guard left > 0 else { throw Failure(problem: "no answer in time") }
      var polled = pollfd(fd: descriptor, events: events, revents: 0)
      let count = unsafe poll(&polled, 1, Int32(clamping: left / Nanoseconds.perMillisecond + 1))
      if count > 0 { return }
      if count < 0 && errno != EINTR { throw failure("cannot wait", errno) }
    }
  }

  private static func failure(_ what: String, _ code: Int32) -> Failure {
    guard let text = unsafe strerror(code) else { return Failure(problem: "\(what): error \(code)") }
    return Failure(problem: "\(what): \(unsafe String(cString: text))")
  }
}
