/// What one node saw of one transmission, for `/api/v1/flows/ID`: `nil` legs were not seen.
package struct TracedFlow: Sendable, Equatable {
  /// What became of it here.
  package enum State: UInt8, BitwiseCopyable, Sendable {
    /// Nothing was decided yet.
    case open
    case answered
    case lost
    /// It came in over an uplink and was not seen to go on: not delivered to a workload of this node.
    case notForwarded

    package var name: StaticString {
      switch self {
      case .open: "open"
      case .answered: "answered"
      case .lost: "lost"
      case .notForwarded: "not_forwarded"
      }
    }
  }

  /// A copy that was seen.
  package struct Leg: Sendable, Equatable {
    package var time: WallTime
    /// `sll_ifindex`.
    package var interface: UInt32

    package init(time: WallTime, interface: UInt32) {
      self.time = time
      self.interface = interface
    }
  }

  package var vantage = Vantage.client
  package var state = State.open
  /// Meaningful where `state` is `lost`.
  package var verdict = Verdict.unknown
  package var reason = Reason.none
  package var grade = Grade.inferred
  /// 0 where none was made.
  package var incidentID: UInt64 = 0
  package var dnsID: UInt16 = 0
  /// In wire form; nil where it was not kept.
  package var name: [UInt8]?
  package var queryType: UInt16 = 0
  package var client = Endpoint.none
  package var server = Endpoint.none
  /// Where it was sent, and from where, after translation; nil without a leg `sent`.
  package var sentDestination: Endpoint?
  package var sentSource: Endpoint?
  package var attempt: UInt32 = 1
  /// The server is this node itself: there is no leg `sent`.
  package var isLocalServer = false
  /// The leg `sent` goes to a workload of this node.
  package var isHandedOver = false
  package var asked = Leg(time: WallTime(nanoseconds: 0), interface: 0)
  package var sent: Leg?
  package var came: Leg?
  package var delivered: Leg?
  /// The answer left towards the client from another address than the one asked.
  package var untranslated: Leg?

  package init() {}
}
