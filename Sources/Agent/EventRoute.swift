import LinuxIO

/// How conntrack events come: by an event ring where one may run, through the socket's queue elsewhere. Either way they are the same events.
enum EventRoute {
  /// Once, while the rights for it are there. A ring is no source: without it the socket brings everything.
  static func openRing(isWanted: Bool, ports: [UInt16], in loop: inout EventLoop, as token: EventToken, _ log: Log) -> ConntrackEventRing? {
    guard isWanted else { return nil }
    do throws(SetupError) {
      let ring = try ConntrackEventRing(ports: ports)
      try loop.add(ring.descriptor, as: token, .swept)
      return ring
    } catch {
      say(error, log)
      return nil
    }
  }

  static func choose(for socket: inout ConntrackEventSocket, _ ring: borrowing ConntrackEventRing?, _ log: Log) {
    do throws(SetupError) {
      try ring?.serve(&socket)
      if socket.usesRing { log.info("conntrack events come through a ring") }
    } catch {
      say(error, log)
    }
  }

  private static func say(_ error: SetupError, _ log: Log) {
    log.info("conntrack events come through the socket", ["reason": .text(error.description)])
  }
}
