/// The engine's counters, as `/metrics` shows them. All count from the agent's start.
package struct EngineTotals: Sendable {
  /// Transmissions by vantage (index: `Vantage.rawValue`).
  package var transmissions: InlineArray<3, UInt64> = .init(repeating: 0)
  /// Client transmissions by query type: A, AAAA, other.
  package var clientTransmissionsA: UInt64 = 0
  package var clientTransmissionsAAAA: UInt64 = 0
  package var clientTransmissionsOther: UInt64 = 0
  /// Fates of client transmissions. transmissions[client] = answered + lost + unknown + evicted + open.
  package var answered: UInt64 = 0
  package var lost: UInt64 = 0
  package var unknown: UInt64 = 0
  package var evicted: UInt64 = 0
  package var open: UInt64 = 0
  /// Lost client transmissions by verdict and grade (index: verdict * 3 + grade).
  package var lostByVerdict: InlineArray<36, UInt64> = .init(repeating: 0)
  package var serverLost: UInt64 = 0
  package var retries: UInt64 = 0
  package var duplicateAnswers: UInt64 = 0
  /// Answers whose query was not seen.
  package var unmatchedAnswers: UInt64 = 0
  /// Copies of queries or answers that fitted no transmission and opened none.
  package var unmatchedCopies: UInt64 = 0
  /// Answers delivered to clients: NOERROR, FORMERR, SERVFAIL, NXDOMAIN, REFUSED, other.
  package var answersByCode: InlineArray<6, UInt64> = .init(repeating: 0)
  /// First attempt to accepted answer.
  package var durations = DurationHistogram()
  package var tcpMessages: UInt64 = 0
  package var clashesResolvedNamed: UInt64 = 0
  /// Drops that the kernel probe saw and of which no first copy was seen.
  package var probeUnmatched: UInt64 = 0

  package init() {}

  package func lost(_ verdict: Verdict, _ grade: Grade) -> UInt64 {
    lostByVerdict[Int(verdict.rawValue) * 3 + Int(grade.rawValue)]
  }
}
