/// Brings what the probe's ring held into the order of time: CPUs enter events when they have them, nearly in order.
struct ProbeOrder {
  /// Numbers of the events, the oldest first.
  private(set) var places: [Int] = []

  init(capacity: Int) { places.reserveCapacity(capacity) }

  /// - Parameter time: of event number n; equal times stay as they lay in the ring.
  mutating func arrange(_ count: Int, time: (Int) -> UInt64) {
    places.removeAll(keepingCapacity: true)
    for number in 0..<count {
      let stamp = time(number)
      var place = places.count
      while place > 0, time(places[place - 1]) > stamp { place -= 1 }
      places.insert(number, at: place)
    }
  }
}
