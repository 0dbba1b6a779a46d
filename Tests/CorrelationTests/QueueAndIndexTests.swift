import Flows
import Testing

@testable import Correlation

/// The engine's own containers against plain arrays, with random operations.
@Suite struct QueueAndIndexTests {
  private struct Dice: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return state ^ (state >> 29)
    }
  }

  private static func item(_ number: Int) -> QueuedSlot {
    QueuedSlot(slot: Int32(number), generation: UInt32(number), asked: Instant(nanoseconds: Int64(number)))
  }

  /// Grows while it is wrapped, refuses when it is full, and both looks go through in order of asking.
  @Test(arguments: [1, 1000, 1024, 3000, 5000]) func looksComeInOrder(capacity: Int) {
    var queue = LookQueue(capacity: capacity)
    var items: [Int] = []
    var unseen: [Int] = []
    var dice = Dice(state: UInt64(capacity))
    var next = 0
    var refused = 0
    for step in 0..<60_000 {
      // Long runs of more, then of less, so that it fills and empties.
      let isFilling = step / 7_000 % 2 == 0
      switch Int.random(in: 0..<10, using: &dice) {
      case 0..<(isFilling ? 7 : 2):
        let isSuspectable = Int.random(in: 0..<4, using: &dice) != 0
        let isKept = queue.append(Self.item(next), isSuspectable: isSuspectable)
        if items.count < 2 * capacity { #expect(isKept) }
        if isKept {
          items.append(next)
          if isSuspectable || !unseen.isEmpty { unseen.append(next) }
        } else {
          refused += 1
        }
        next += 1
      case 7:
        if !unseen.isEmpty {
          unseen.removeFirst()
          queue.see()
        }
      default:
        if !items.isEmpty {
          if unseen.first == items.first && unseen.count == items.count { unseen.removeFirst() }
          items.removeFirst()
          queue.removeFirst()
        }
      }
      let first = queue.first?.slot
      let firstUnseen = queue.firstUnseen?.slot
      let third = queue.slot(after: 2)
      let secondUnseen = queue.unseenSlot(after: 1)
      let isEmpty = queue.isEmpty
      #expect(first == items.first.map { Int32($0) })
      #expect(firstUnseen == unseen.first.map { Int32($0) })
      #expect(third == (items.count > 2 ? Int32(items[2]) : -1))
      #expect(secondUnseen == (unseen.count > 1 ? Int32(unseen[1]) : -1))
      #expect(isEmpty == items.isEmpty)
    }
    if capacity <= 1024 { #expect(refused > 0) }
  }

  /// First returned, first taken, but for those that only a rush needed: these come last, and none is taken that was never used before them.
  @Test func slotsComeBackInTheirOrder() {
    let capacity = 3_000
    var pool = SlotPool(capacity: capacity)
    var held: [Int32] = []
    var free: [Int32] = []
    var spare: [Int32] = []
    var touched = 0
    var refused = 0
    var spared = 0
    var dice = Dice(state: 7)
    for step in 0..<60_000 {
      if Int.random(in: 0..<10, using: &dice) < (step / 12_000 % 2 == 0 ? 7 : 3) {
        let upcoming = pool.upcoming(0)
        let slot = pool.take()
        #expect(upcoming == free.first ?? -1)
        if !free.isEmpty {
          #expect(slot == free.removeFirst())
        } else if let last = spare.popLast() {
          #expect(slot == last)
        } else if touched < capacity {
          #expect(slot == Int32(touched))
          touched += 1
        } else {
          #expect(slot == nil)
          refused += 1
        }
        if let slot { held.append(slot) }
      } else if !held.isEmpty {
        let slot = held.remove(at: Int.random(in: 0..<held.count, using: &dice))
        pool.give(back: slot)
        if free.count < held.count + 512 {
          free.append(slot)
        } else {
          spare.append(slot)
          spared += 1
        }
      }
      let used = pool.used
      #expect(used == held.count)
    }
    #expect(refused > 0)
    #expect(spared > 0)
  }

  /// Two indexes in one: each chain holds what was entered under its hash, the newest first, and nothing of the other index.
  @Test func twoIndexesDoNotMix() {
    var index = ChainIndex(capacity: 300, buckets: 16, isDouble: true)
    var keys: [Int32: (UInt64, UInt64)] = [:]
    var order: [Int32] = []
    var dice = Dice(state: 3)
    // Few hashes, so that chains are long: alike in the bucket, and some alike in the tag as well.
    func hash() -> UInt64 { UInt64.random(in: 0..<5, using: &dice) << 32 | UInt64.random(in: 0..<24, using: &dice) }
    for _ in 0..<20_000 {
      let slot = Int32.random(in: 0..<300, using: &dice)
      if let key = keys.removeValue(forKey: slot) {
        index.remove(slot, hash: key.0, .first)
        index.remove(slot, hash: key.1, .second)
        order.removeAll { $0 == slot }
      } else {
        let key = (hash(), hash())
        keys[slot] = key
        order.insert(slot, at: 0)
        index.insert(slot, hash: key.0, .first)
        index.insert(slot, hash: key.1, .second)
      }
      let wanted = hash()
      for which in [ChainIndex.Which.first, .second] {
        var found: [Int32] = []
        var at = index.match(index.first(wanted, which), wanted, which)
        while at >= 0 && found.count <= 300 {
          found.append(at)
          at = index.nextAlike(at, which)
        }
        let alike = order.filter { slot in
          let key = which == .first ? keys[slot]?.0 : keys[slot]?.1
          guard let key else { return false }
          return key & 15 == wanted & 15 && key >> 32 == wanted >> 32
        }
        #expect(found == alike)
      }
    }
  }

  /// Each timer fires once, in the tick for which it was set last, whatever jumps the clock makes.
  @Test func timersFireInTheirTick() {
    var now = Instant(nanoseconds: 1_000_000_000_000)
    var wheel = TimerWheel(capacity: 200, now: now)
    var due: [Int32: Int64] = [:]
    var order: [Int32: Int] = [:]
    var sets = 0
    var dice = Dice(state: 11)
    var fired = 0
    for _ in 0..<4_000 {
      let slot = Int32.random(in: 0..<200, using: &dice)
      let time = now + Int64.random(in: -50_000_000..<12_000_000_000, using: &dice)
      wheel.set(slot, at: time)
      sets += 1
      order[slot] = sets
      due[slot] = max(time.nanoseconds / TimerWheel.tick + 1, now.nanoseconds / TimerWheel.tick + 1)
      if Int.random(in: 0..<8, using: &dice) == 0 {
        let cleared = Int32.random(in: 0..<200, using: &dice)
        wheel.clear(cleared)
        due[cleared] = nil
      }
      now = now + Int64.random(in: 0..<(Int.random(in: 0..<50, using: &dice) == 0 ? 20_000_000_000 : 40_000_000), using: &dice)
      repeat {
        var last = 0
        while true {
          let slot = wheel.popCurrent()
          if slot < 0 { break }
          // In the order in which they were set.
          #expect(order[slot] ?? 0 > last)
          last = order[slot] ?? 0
          let tick = wheel.time.nanoseconds / TimerWheel.tick
          #expect(due.removeValue(forKey: slot) == tick)
          fired += 1
        }
      } while wheel.turn(towards: now, mayJump: true)
      let late = due.values.count { $0 <= now.nanoseconds / TimerWheel.tick }
      #expect(late == 0)
      let next = wheel.nextDue()
      #expect(next == due.values.min().map { Instant(nanoseconds: $0 * TimerWheel.tick) })
    }
    #expect(fired > 2_000)
  }
}
