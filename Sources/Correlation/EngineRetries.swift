import Flows

/// Attempts from another port with another ID (Go, single-request-reopen): nothing but client, question and time says whose they are.
extension Engine {
  /// Resolver time-outs, `options timeout:`: 5 s is the default of all of them (resolv.conf(5)). Others are common enough to be looked for.
  private static let defaultPeriod = 5 * Nanoseconds.perSecond
  private static let otherPeriods = [Nanoseconds.perSecond, 2 * Nanoseconds.perSecond]

  /// Joins a transmission to the query of the same client and question that it retries: not answered, and 0.9 to 1.1 time-outs old. At another
  /// time-out than the default one more is asked: see `settleRetry`.
  mutating func joinStalled(_ slot: Int32) {
    let key = transmissions.stalledKey(transmissions.slots[slot].client.address, transmissions.slots[slot].nameHash)
    var other = transmissions.first(stalled: key)
    guard other >= 0 else { return }
    let mine = transmissions.slots[slot]
    var predecessor: Int32 = -1
    var steps = 0
    while other >= 0, steps < TransmissionTable.longestWalk {
      let waiting = transmissions.slots[other]
      if waiting.questionHash == mine.questionHash && waiting.client.address == mine.client.address && waiting.client.port != mine.client.port {
        let gap = mine.asked - waiting.lastAsked
        let mayBeRetried = waiting.accepted == .zero && !waiting.isJoined && !waiting.isJoinedByPeriod
        if mayBeRetried && Self.isPeriod(gap, of: Self.defaultPeriod) {
          noteFreshSocket(slot, repeating: other)
          joinFromAnotherPort(slot, other)
          return
        }
        if Self.otherPeriods.contains(where: { Self.isPeriod(gap, of: $0) }) {
          if mayBeRetried { predecessor = other } else if waiting.isJoinedByPeriod { separate(other) }
        }
      }
      other = transmissions.after(stalled: other)
      steps += 1
    }
    noteFreshLookup(mine, key, predecessor)
    guard predecessor >= 0, !mine.isHostClient, transmissions.slots[predecessor].attempts == 1 else { return }
    transmissions.slots[slot].mayBeRetry = true
    transmissions.slots[slot].mayRetry = predecessor
    transmissions.slots[slot].mayRetryGeneration = transmissions.slots[predecessor].generation
  }

  /// At the first look: a retry comes alone. Who asks for the name's other type as well, which was answered, looks it up afresh.
  mutating func settleRetry(_ slot: Int32) {
    let mine = transmissions.slots[slot]
    transmissions.slots[slot].mayBeRetry = false
    let waiting = transmissions.slots[mine.mayRetry]
    guard waiting.generation == mine.mayRetryGeneration, waiting.state != .free, waiting.accepted == .zero, !waiting.isJoined else { return }
    guard waiting.freshAt == .zero || abs(waiting.freshAt - mine.asked) > Self.lookupTime else { return }
    noteFreshSocket(slot, repeating: mine.mayRetry)
    joinFromAnotherPort(slot, mine.mayRetry)
    transmissions.slots[mine.mayRetry].isJoinedByPeriod = true
    if mine.state == .answered { transmissions.slots[mine.mayRetry].accepted = mine.delivered }
  }

  private static func isPeriod(_ gap: Int64, of timeout: Int64) -> Bool { gap >= timeout * 9 / 10 && gap <= timeout * 11 / 10 }

  /// Tells the queries for other types of this name that wait that their client asks anew; not those whose own retry this one's predecessor's is.
  private mutating func noteFreshLookup(_ mine: Transmission, _ key: UInt64, _ predecessor: Int32) {
    var other = transmissions.first(stalled: key)
    var steps = 0
    while other >= 0, steps < TransmissionTable.longestWalk {
      let waiting = transmissions.slots[other]
      if waiting.nameHash == mine.nameHash && waiting.questionHash != mine.questionHash && waiting.client.address == mine.client.address
        && waiting.client.port != mine.client.port
        && (predecessor < 0 || abs(transmissions.slots[predecessor].asked - waiting.asked) > Self.lookupTime)
      {
        transmissions.slots[other].freshAt = mine.asked
      }
      other = transmissions.after(stalled: other)
      steps += 1
    }
  }

  /// After its supposed retry was answered the client asks on in the same rhythm: it is a rhythm, and no retry.
  private mutating func separate(_ head: Int32) {
    guard transmissions.slots[head].accepted != .zero, transmissions.slots[head].isJoined else { return }
    transmissions.slots[head].accepted = .zero
    transmissions.slots[head].isJoined = false
    transmissions.slots[head].signs.libc = .unknown
    transmissions.slots[head].attempts = 1
    transmissions.slots[head].lastAsked = transmissions.slots[head].asked
  }
}
