package import Flows

extension Engine {
  /// Takes a conntrack event, or an entry of a dump. Only UDP is judged.
  package mutating func observe(_ event: ConntrackEvent) {
    guard event.original.protocolNumber == TransportProtocol.udp.rawValue else { return }
    let isClash = event.status.contains(.natClash)
    switch event.kind {
    case .new, .dumped:
      _ = entries.insert(event, isNATClash: false)
      learn(event)
    case .update:
      guard isClash else { return }
      let slot = clashEntry(event)
      if event.status.contains(.seenReply) { noteResolved(slot, event) }
    case .destroy:
      if isClash {
        let slot = clashEntry(event)
        if event.status.contains(.seenReply) { noteResolved(slot, event) }
        entries.markDestroyed(slot, at: event.readAt, status: event.status)
      } else {
        let slot = entries.find(original: event.original, zone: event.zone)
        if slot >= 0 && entries.entries[slot].reply == event.reply { entries.markDestroyed(slot, at: event.readAt, status: event.status) }
      }
    }
  }

  /// The entry of a clash's loser, which stands in the reply direction only and had no NEW.
  private mutating func clashEntry(_ event: ConntrackEvent) -> Int32 {
    let known = entries.find(reply: event.reply, zone: event.zone, natClash: true)
    if known >= 0 && !entries.entries[known].isDestroyed { return known }
    learn(event)
    return entries.insert(event, isNATClash: true)
  }

  private mutating func learn(_ event: ConntrackEvent) {
    guard configuration.ports.contains(event.original.destination.port) else { return }
    services.learn(event)
    if event.reply.source.port != event.original.destination.port { learnPort(event.reply.source.port) }
  }

  private mutating func noteResolved(_ slot: Int32, _ event: ConntrackEvent) {
    guard !entries.entries[slot].isReported else { return }
    entries.markReported(slot)
    var record = ResolvedClash()
    record.observedTime = wallNow
    record.client = event.original.source
    record.server = event.original.destination
    record.backend = event.reply.source
    record.zone = event.zone
    tellResolved(record, at: event.readAt)
  }

  /// Counts a resolved clash, and tells it where fewer than ten were told this second: a sample is enough.
  mutating func tellResolved(_ record: ResolvedClash, at time: Instant, name: RawSpan? = nil) {
    count { $0.clashesResolvedNamed &+= 1 }
    let second = time.nanoseconds / Nanoseconds.perSecond
    if second != resolvedSecond {
      resolvedSecond = second
      resolvedTold = 0
    }
    guard resolvedTold < 10 else { return }
    resolvedTold += 1
    var record = record
    if let name { record.name = unsafe name.withUnsafeBytes { unsafe Array($0) } }
    records.append(.clashResolved(record))
  }
}
