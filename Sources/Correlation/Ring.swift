/// A queue of plain values that allocates nothing. Of its places only as many are used as were needed at once, so that a short one stays in a few pages.
struct Ring<Element: BitwiseCopyable>: ~Copyable {
  private var items: FixedArray<Element>
  /// Places in use, less one.
  private var mask: Int
  private var head = 0
  private(set) var count = 0

  private static var firstPlaces: Int { 1024 }

  /// - Parameter capacity: the next power of two is taken.
  init(capacity: Int) {
    var places = 1
    while places < capacity { places <<= 1 }
    items = FixedArray(count: places)
    mask = min(places, Self.firstPlaces) - 1
  }

  var first: Element? { mutating get { count > 0 ? self[0] : nil } }

  /// The item that `number` others are before.
  ///
  /// - Precondition: `number` is 0 or more and below `count`.
  @inline(__always) subscript(number: Int) -> Element {
    mutating get { items[(head &+ number) & mask] }
  }

  /// - Returns: false if it is full.
  @inline(__always) mutating func append(_ item: Element) -> Bool {
    if count > mask && !grow() { return false }
    items[(head &+ count) & mask] = item
    count &+= 1
    return true
  }

  /// - Precondition: it is not empty.
  @inline(__always) mutating func removeFirst() {
    head = (head &+ 1) & mask
    count -= 1
  }

  /// Twice the places: what lies before the head goes behind the old end.
  @inline(never) private mutating func grow() -> Bool {
    let places = mask + 1
    guard places < items.count else { return false }
    for index in 0..<head { items[places + index] = items[index] }
    mask = 2 * places - 1
    return true
  }
}
