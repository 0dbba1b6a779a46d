internal import CMicroHTTPD
package import Flows
internal import Glibc

/// How much one client, and all together, may take. The defaults are the agent's; tests shorten them.
package struct HTTPLimits: Sendable {
  /// Open at once; one more closes the slowest of the peer that has most. Where every peer has one, the newcomer waits until the oldest was there for
  /// 50 ms, so that nobody is closed before he could ask.
  package var connections: UInt32 = 64
  /// Open at once from one IPv4 address or one IPv6 /64; one more closes the slowest of them.
  package var connectionsPerPeer: UInt32 = 16
  package var inactivitySeconds: UInt32 = 10
  /// For one request, from accept or the answer before it to the end of the answer.
  package var requestMilliseconds: UInt32 = 30_000
  /// Without a heartbeat, until /-/healthy answers 503.
  package var heartbeatMilliseconds: UInt32 = 10_000
  /// Age of `/metrics` and `/` beyond which a request asks for new ones (`askDescriptor`) and waits, 250 ms at most; 0 to serve what there is.
  package var pageMilliseconds: UInt32 = 0

  package init() {}
}

/// One address to listen on and what is served there.
package struct HTTPListener: Sendable {
  package enum Scope: Int32, Sendable {
    /// /metrics and /-/ only.
    case metrics
    case all
  }

  package let address: HTTPListenAddress
  package let scope: Scope
  /// The option that a person changes when the address cannot be had.
  package let option: StaticString

  package init(_ address: HTTPListenAddress, scope: Scope) {
    self.address = address
    self.scope = scope
    option = scope == .metrics ? "--web.listen-address" : "--web.api-address"
  }
}

package struct HTTPServerConfiguration: Sendable {
  package var listeners: [HTTPListener]
  package var security: HTTPSecurity
  package var limits: HTTPLimits

  package init(listeners: [HTTPListener], security: HTTPSecurity = .open, limits: HTTPLimits = HTTPLimits()) {
    self.listeners = listeners
    self.security = security
    self.limits = limits
  }
}

/// Counted since the start by the server's thread.
package struct HTTPCounters: BitwiseCopyable, Sendable {
  /// Open now.
  package let connections: UInt64
  package let accepted: UInt64
  /// Closed early for a newer connection.
  package let evicted: UInt64
  /// Closed because one request took too long.
  package let expired: UInt64
  /// Accepted and closed at once.
  package let refused: UInt64
  /// Answered, whatever the status.
  package let requests: UInt64
  /// Answered 401 or 429.
  package let unauthorized: UInt64
  /// Answered 421: asked under a host name on the loopback address that shows names.
  package let misdirected: UInt64
}

/// Serves rendered pages from a thread of its own, named `http`, with every signal blocked.
///
/// Nothing of Swift's is shared with that thread: a page is copied when it is published, and a slow reader of the page before still gets all of it.
/// It renders nothing itself: where `/metrics` or `/` is too old it asks, and the pipeline's thread renders between two sweeps.
/// A loopback listener that serves everything answers without users only to requests by address or as localhost (421 otherwise), so that no site can
/// point a name of its own at it and let a browser read it.
/// GET and HEAD only. Until `/metrics` is published it answers 503; every other unpublished path, or one outside the listener's scope, 404.
/// `deinit` stops the thread and closes every connection.
@safe
package struct HTTPServer: ~Copyable {
  package static var textFormat: StaticString { "text/plain; version=0.0.4; charset=utf-8" }
  package static var openMetricsFormat: StaticString { "application/openmetrics-text; version=1.0.0; charset=utf-8" }

  /// Two pages may stand behind one path; the request's Accept header chooses.
  package enum Variant: Int32, Sendable {
    case standard
    case openMetrics
  }

  private let server: OpaquePointer
  /// As bound, in the order of the configuration: port 0 is replaced by the kernel's choice.
  package let addresses: [HTTPListenAddress]
  /// What a person should know about how it was set up, one line each.
  package let notes: [String]

  /// Binds, listens and starts the thread.
  ///
  /// - Throws: `SetupError` for the first address, certificate or user that cannot be had.
  package init(configuration: HTTPServerConfiguration) throws(SetupError) {
    try configuration.security.check()
    var limits = configuration.limits.lowered
    guard
      let server = unsafe http_server_create(
        &limits,
        { accept, length in
          guard let accept = unsafe accept else { return false }
          let bytes = unsafe UnsafeBufferPointer(start: accept, count: length)
          return HTTPNegotiation.prefersOpenMetrics(unsafe bytes.span)
        })
    else { throw SetupError("cannot start the web server", code: errno, cause: reason(errno), remedy: "") }
    var addresses: [HTTPListenAddress] = []
    var notes: [String] = []
    do throws(SetupError) {
      for listener in configuration.listeners {
        addresses.append(try unsafe Self.listen(server, listener, &notes))
      }
      try unsafe Self.secure(server, configuration.security)
      let code = unsafe http_server_start(server)
      guard code == 0 else { throw SetupError("cannot start the web server's thread", code: code, cause: reason(code), remedy: "") }
    } catch {
      unsafe http_server_destroy(server)
      throw error
    }
    unsafe self.server = server
    self.addresses = addresses
    self.notes = notes
  }

  deinit { unsafe http_server_destroy(server) }

  /// Replaces what `path` answers. Costs one copy of `body`.
  ///
  /// - Parameter path: at most 127 bytes; at most 64 different ones in a server's life.
  /// - Returns: false if the path or memory is refused; the page before then stays.
  @discardableResult
  package borrowing func publish(
    path: StaticString, variant: Variant = .standard, status: UInt32 = 200, contentType: StaticString, body: Span<UInt8>
  ) -> Bool {
    unsafe body.withUnsafeBufferPointer { bytes in
      unsafe http_server_publish(
        server, UnsafeRawPointer(path.utf8Start).assumingMemoryBound(to: CChar.self), variant.rawValue, status,
        UnsafeRawPointer(contentType.utf8Start).assumingMemoryBound(to: CChar.self), bytes.baseAddress, bytes.count) == 0
    }
  }

  /// Readable while a request waits for a new `/metrics` or `/`: for the pipeline's loop.
  package var askDescriptor: Int32 { unsafe http_server_ask_descriptor(server) }
  /// True once for what was asked: publish both, in every variant, now.
  package borrowing func wasAsked() -> Bool { unsafe http_server_was_asked(server) }

  /// What /-/ready says: 200 or 503. False at the start.
  package borrowing func setReady(_ ready: Bool) { unsafe http_server_set_ready(server, ready) }

  /// Says that the pipeline turns: /-/healthy answers 200 for the next 10 s.
  package borrowing func heartbeat() { unsafe http_server_heartbeat(server) }

  /// Replaces certificates and users; open connections are closed by the server's thread. The pipeline waits only for the certificates to be read.
  ///
  /// - Throws: `SetupError`; everything then stays as it was.
  package borrowing func reload(_ security: HTTPSecurity) throws(SetupError) {
    try security.check()
    try unsafe Self.secure(server, security)
  }

  package var counters: HTTPCounters {
    var raw = http_counters()
    unsafe http_server_read_counters(server, &raw)
    return HTTPCounters(
      connections: raw.connections, accepted: raw.accepted, evicted: raw.evicted, expired: raw.expired, refused: raw.refused,
      requests: raw.requests, unauthorized: raw.unauthorized, misdirected: raw.misdirected)
  }

  /// Becomes readable when somebody asks for a flow: then call `answerFlows`.
  package var flowDescriptor: Int32 { unsafe http_server_lookup_descriptor(server) }

  /// Answers the request for a flow that waits, if one does. The server's thread waits for it, a quarter of a second at most; the number of requests a
  /// second is bounded.
  ///
  /// - Parameter answer: takes the flow's number and the backend that was named, appends JSON to the buffer, and returns the status.
  package borrowing func answerFlows(_ answer: (UInt64, IPAddress?, inout [UInt8]) -> UInt32) {
    var lookup = http_lookup()
    while unsafe http_server_take_lookup(server, &lookup) {
      var backend: IPAddress?
      if lookup.has_backend {
        backend = unsafe withUnsafeBytes(of: lookup.backend) { bytes in
          let high = UInt64(bigEndian: unsafe bytes.loadUnaligned(fromByteOffset: 0, as: UInt64.self))
          let low = UInt64(bigEndian: unsafe bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
          return lookup.backend_is_v4 ? IPAddress(v4: UInt32(truncatingIfNeeded: low)) : IPAddress(high: high, low: low)
        }
      }
      var body: [UInt8] = []
      let status = answer(lookup.id, backend, &body)
      _ = unsafe body.withUnsafeBufferPointer {
        unsafe http_server_answer_lookup(server, lookup.ticket, status, $0.baseAddress, $0.count)
      }
    }
  }

  private static func listen(_ server: OpaquePointer, _ listener: HTTPListener, _ notes: inout [String]) throws(SetupError) -> HTTPListenAddress {
    var address = listener.address
    var port: UInt16 = 0
    var code = unsafe http_server_listen(server, address.bytes, address.address.isV4, address.port, listener.scope.rawValue, &port)
    if let fallback = listenFallback(address, code: code) {
      notes.append("no IPv6 here: listening on \(fallback) instead of \(address)")
      address = fallback
      code = unsafe http_server_listen(server, address.bytes, true, address.port, listener.scope.rawValue, &port)
    }
    guard code == 0 else {
      let remedy =
        switch code {
        case EACCES: "choose a port above 1023 with \(listener.option), or grant CAP_NET_BIND_SERVICE"
        case ENOSPC: "give fewer addresses"
        default: "choose another with \(listener.option)"
        }
      throw SetupError("cannot listen on \(address)", code: code, cause: reason(code), remedy: remedy)
    }
    return HTTPListenAddress(address: address.address, port: port)
  }

  /// Where to listen when the kernel refused `address` with `code` because it has no IPv6; nil where that is not why.
  static func listenFallback(_ address: HTTPListenAddress, code: Int32) -> HTTPListenAddress? {
    code == EAFNOSUPPORT || code == EADDRNOTAVAIL ? address.withoutIPv6 : nil
  }
}

extension HTTPServer {
  private static func secure(_ server: OpaquePointer, _ security: HTTPSecurity) throws(SetupError) {
    var text = [CChar](repeating: 0, count: 256)
    var code: Int32 = 0
    unsafe withCStrings(security.users.flatMap { [$0.name, $0.hash] }) { strings in
      var users: [http_user] = unsafe []
      for index in 0..<security.users.count {
        unsafe users.append(http_user(name: strings[2 * index], hash: strings[2 * index + 1]))
      }
      let tls = security.tls.map { [$0.certificate, $0.key] + ($0.clientCA.map { [$0] } ?? []) } ?? []
      unsafe withCStrings(tls) { pem in
        unsafe users.withUnsafeBufferPointer { users in
          var raw = unsafe http_security()
          unsafe raw.certificate = pem.isEmpty ? nil : pem[0]
          unsafe raw.key = pem.isEmpty ? nil : pem[1]
          unsafe raw.client_ca = pem.count < 3 ? nil : pem[2]
          unsafe raw.tls13_only = security.tls?.minimum == .tls13
          unsafe raw.users = users.baseAddress
          unsafe raw.user_count = users.count
          code = unsafe http_server_secure(server, &raw, &text, text.count)
        }
      }
    }
    guard code != 0 else { return }
    let cause = String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    guard security.tls != nil || !security.users.isEmpty else {
      throw SetupError("cannot start the web server", code: code, cause: cause.isEmpty ? reason(code) : cause, remedy: "")
    }
    throw HTTPSecurity.error(cause.isEmpty ? reason(code) : cause, code: code)
  }
}

extension HTTPLimits {
  fileprivate var lowered: http_limits {
    http_limits(
      connections: connections, connections_per_peer: connectionsPerPeer, inactivity_seconds: inactivitySeconds,
      request_milliseconds: requestMilliseconds, heartbeat_milliseconds: heartbeatMilliseconds, page_milliseconds: pageMilliseconds)
  }
}

/// Lends C copies of the texts, one after the other, ended by zero bytes.
private func withCStrings(_ texts: [String], _ body: ([UnsafePointer<CChar>]) -> Void) {
  var bytes: [CChar] = []
  var offsets: [Int] = []
  for text in texts {
    offsets.append(bytes.count)
    bytes.append(contentsOf: text.utf8.lazy.filter { $0 != 0 }.map(CChar.init(bitPattern:)))
    bytes.append(0)
  }
  unsafe bytes.withUnsafeBufferPointer { buffer in
    guard let base = buffer.baseAddress else { return unsafe body([]) }
    unsafe body(offsets.map { unsafe base + $0 })
  }
}

/// The kernel's words for an errno, as the middle of a sentence.
private func reason(_ code: Int32) -> String {
  guard let text = unsafe strerror(code) else { return "error \(code)" }
  let words = unsafe String(cString: text)
  return words.prefix(1).lowercased() + words.dropFirst()
}
