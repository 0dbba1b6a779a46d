import Testing

@testable import LinuxIO

struct FrameOrderTests {
  private func order(_ stamps: [Int64], capacity: Int = 10_000) -> FrameOrder {
    var order = FrameOrder(capacity: capacity)
    for (number, stamp) in stamps.enumerated() { order.append(stamp: stamp, offset: UInt32(number)) }
    return order
  }

  private func contents(_ order: borrowing FrameOrder) -> [Int64] { (0..<order.count).map { order[$0].stamp } }

  @Test func mendsSmallDisorderByInsertion() {
    var order = order([10, 12, 11, 13, 15, 14, 14])
    order.sort()
    #expect(contents(order) == [10, 11, 12, 13, 14, 14, 15])
    // Equal stamps stay as they lay in the ring.
    #expect(order[4].offset == 5 && order[5].offset == 6)
    #expect(order.heapSorts == 0)
  }

  @Test func fallsBackOnLargeDisorder() {
    var generator = SystemRandomNumberGenerator()
    let stamps = (0..<5000).map { _ in Int64.random(in: 0..<100_000, using: &generator) }
    var order = order(stamps)
    order.sort()
    #expect(contents(order) == stamps.sorted())
    #expect(order.heapSorts == 1)
    for index in 1..<order.count where order[index].stamp == order[index - 1].stamp {
      #expect(order[index - 1].offset < order[index].offset)
    }
  }

  @Test func keepsOrderAcrossSweeps() {
    var order = order([1, 2, 5, 9])
    order.sort()
    order.removeFirst(2)
    order.append(stamp: 7, offset: 100)
    order.append(stamp: 3, offset: 101)
    order.sort()
    #expect(contents(order) == [3, 5, 7, 9])
    order.removeFirst(4)
    #expect(order.isEmpty == true)
  }

  @Test func leavesTheRingsOrderWhereTheClockWasSetBack() {
    let hour: Int64 = 3600 * 1_000_000_000
    var order = order([hour, hour + 1, 5, 6])
    order.sort()
    #expect(order.isStepped == true)
    #expect(contents(order) == [hour, hour + 1, 5, 6])
    order.removeFirst(4)
    #expect(order.isStepped == false)
  }
}
