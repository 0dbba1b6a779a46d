import Flows

extension Engine {
  /// Go asks each question from a socket of its own, and each time with another ID. A pair from one socket that is asked again from another is an
  /// application's doing.
  mutating func noteFreshSocket(_ slot: Int32, repeating head: Int32) {
    guard transmissions.slots[head].dnsID != transmissions.slots[slot].dnsID, !transmissions.slots[head].hasSibling,
      !transmissions.slots[slot].hasSibling
    else { return }
    transmissions.slots[head].signs.libc = .go
  }

  /// musl's half of 5 s, give or take what its timer and a busy node do (src/network/res_msend.c in musl 1.2.3: timeout / attempts).
  private static let muslRetry = (24 * Nanoseconds.perSecond / 10)...(27 * Nanoseconds.perSecond / 10)
  /// Less is no resolver's time-out: a datagram that came twice.
  private static let shortestRetry = 9 * Nanoseconds.perSecond / 10

  /// Concludes from a retry of the same socket and ID whose resolver this is, and tells its siblings.
  ///
  /// glibc repeats the answered query of a pair before the lost one; nobody else repeats what was answered. musl repeats what was lost, and only
  /// that, after 2.5 s; glibc's time-outs are whole seconds. Where both queries were lost and both repeated after 5 s, c-ares looks like glibc,
  /// and nothing is said.
  mutating func noteLibrary(_ slot: Int32, repeating head: Int32) {
    let gap = transmissions.slots[slot].asked - transmissions.slots[head].lastAsked
    guard gap >= Self.shortestRetry else { return }
    let library: CLibrary
    if transmissions.slots[head].accepted != .zero {
      library = .glibc
    } else if Self.muslRetry.contains(gap) {
      library = .musl
    } else {
      return
    }
    transmissions.slots[head].signs.libc = library
    guard transmissions.slots[head].hasSibling else { return }
    var other = transmissions.first(socket: transmissions.slots[head].socketKey)
    var steps = 0
    while other >= 0, steps < 16 {
      if transmissions.slots[other].client == transmissions.slots[head].client
        && transmissions.slots[other].nameHash == transmissions.slots[head].nameHash
      {
        transmissions.slots[transmissions.slots[other].head].signs.libc = library
      }
      other = transmissions.after(socket: other)
      steps += 1
    }
  }
}
