import Flows

/// A frame between the decoder and the engine. It is written where it stands: to build one elsewhere and copy it costs more than to decode it.
struct FrameInHand: BitwiseCopyable {
  enum State: UInt8, BitwiseCopyable {
    /// Excluded, or refused by the decoder.
    case nothing
    /// The name stands in the frame in one piece.
    case plain
    /// What the decoder said of it beside the packet is needed: it decodes it once more.
    case again
  }

  /// How many frames the decoder is ahead, and places for them: a power of two above that.
  static let lead = 4
  static let places = 8

  var packet = PacketObservation(
    time: .zero, wallTime: WallTime(nanoseconds: 0), interface: 0, isOutgoing: false, source: .none, destination: .none, dns: DNSMessage())
  var state = State.nothing
  var etherType: UInt16 = 0
  /// The packet's length before it was cut.
  var wireLength = 0
  /// Of the name in the frame.
  var nameStart = 0
  var nameEnd = 0
}
