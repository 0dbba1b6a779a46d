/// What the engine has to say, in the order in which it became true. Text is made of it later, and only here does anything allocate.
package enum Record: Sendable {
  case lost(LostQuery)
  case closed(ClosedQuery)
  case clashResolved(ResolvedClash)
  case blind(BlindWindow)
}

/// One lost transmission: `dns_query_lost`.
package struct LostQuery: Sendable {
  package var incidentID: UInt64 = 0
  /// Unkeyed hash of the tuple after NAT, the ID and the lower-cased question: the same on every node.
  package var flowID: UInt64 = 0
  package var verdict: Verdict = .unknown
  package var reason: Reason = .none
  package var grade: Grade = .inferred
  package var vantage: Vantage = .client
  package var evidence: Evidence = []
  /// When the transmission was sent.
  package var time = WallTime(nanoseconds: 0)
  /// When its verdict fell.
  package var observedTime = WallTime(nanoseconds: 0)
  package var dnsID: UInt16 = 0
  /// The question's name as sent, in wire form.
  package var name: [UInt8] = []
  package var queryType: UInt16 = 0
  package var client = Endpoint.none
  package var server = Endpoint.none
  /// The client's own processes share the node's network.
  package var clientIsHost = false
  /// The client also answers on a DNS port (CoreDNS, NodeLocal): `client.role`.
  package var clientIsServer = false
  package var backend: Endpoint?
  /// The server that the winner of the clash had asked, and its client where that is another.
  package var winnerServer: Endpoint?
  package var winnerClient: Endpoint?
  package var siblingID: UInt16?
  package var siblingType: UInt16 = 0
  /// 1 for the first transmission of its query.
  package var attempt: UInt32 = 1
  /// How far insert_failed and drop moved in the window around.
  package var insertFailedDelta: UInt64 = 0
  package var dropDelta: UInt64 = 0
  /// How far clash_resolve and invalid moved there, where the verdict rests on them.
  package var clashResolveDelta: UInt64 = 0
  package var invalidDelta: UInt64 = 0
  /// The ICMP error about it, and who sent that.
  package var icmpType: UInt8?
  package var icmpCode: UInt8 = 0
  package var icmpSender = IPAddress.unspecified
  /// Whose resolver its query looks like, as far as it was known by then.
  package var libc: CLibrary = .unknown
  /// The blind source that made the verdict `unknown`.
  package var blindSource: BlindSource?
  package var zone: UInt16 = 0
  /// Where the kernel probe saw it dropped.
  package var cpu: UInt32?

  package init() {}
}

/// The end of a query that lost at least one transmission: `dns_query_closed`.
package struct ClosedQuery: Sendable {
  package var incidentID: UInt64 = 0
  /// The lookup that the query is part of, together with `lookupTime`: a hash of the client's socket and the name, upper and lower case alike.
  /// Attempts from another port that were joined carry those of the query that they retry.
  package var lookupID: UInt64 = 0
  /// When this query, or the one that it retries from another port, was sent. Queries of one `lookupID` within 100 ms are one lookup.
  package var lookupTime = WallTime(nanoseconds: 0)
  package var time = WallTime(nanoseconds: 0)
  package var observedTime = WallTime(nanoseconds: 0)
  /// Verdict, reason, grade and evidence of the first transmission that was lost.
  package var verdict: Verdict = .unknown
  package var reason: Reason = .none
  package var evidence: Evidence = []
  package var grade: Grade = .inferred
  package var impact: Impact = .none
  /// False where attempts from another port were joined: then the impact is inferred.
  package var impactObserved = true
  /// Nanoseconds from the first transmission to the accepted answer; for a failed query to its last attempt.
  package var delay: Int64 = 0
  package var attempts: UInt32 = 1
  package var dnsID: UInt16 = 0
  package var name: [UInt8] = []
  package var queryType: UInt16 = 0
  package var client = Endpoint.none
  package var server = Endpoint.none
  package var clientIsServer = false
  package var libc: CLibrary = .unknown

  package init() {}
}

/// A clash that the kernel resolved: `clash_resolved`. Either its answer was delivered, or the kernel probe saw it merged into the winner's entry.
package struct ResolvedClash: Sendable {
  package var observedTime = WallTime(nanoseconds: 0)
  package var client = Endpoint.none
  package var server = Endpoint.none
  package var backend = Endpoint.none
  package var zone: UInt16 = 0
  /// The query that lost the clash, where its copies or the kernel probe told of it; nil where the entry alone tells.
  package var query: ResolvedQuery?
  /// Where the kernel probe saw it.
  package var cpu: UInt32?

  package init() {}
}

/// The query of a resolved clash.
package struct ResolvedQuery: Sendable {
  /// When it was sent.
  package var time = WallTime(nanoseconds: 0)
  package var dnsID: UInt16 = 0
  /// The question's name as sent, in wire form.
  package var name: [UInt8] = []
  package var queryType: UInt16 = 0

  package init() {}
}

/// A span of time in which a source did not see everything: `blind_window`.
package struct BlindWindow: Sendable {
  package var source: BlindSource
  package var start: WallTime
  package var end: WallTime
  /// Observations known to be lost; 0 where the number cannot be known.
  package var lost: UInt64

  package init(source: BlindSource, start: WallTime, end: WallTime, lost: UInt64) {
    self.source = source
    self.start = start
    self.end = end
    self.lost = lost
  }
}
