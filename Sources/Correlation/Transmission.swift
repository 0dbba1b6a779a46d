import Flows

/// What was seen of a transmission beside its legs.
struct Signs: BitwiseCopyable {
  struct Marks: OptionSet, BitwiseCopyable {
    let rawValue: UInt16
    /// Its first copy had a wrong UDP checksum.
    static let badChecksum = Marks(rawValue: 1)
    /// A copy left for the service's own address although that is translated.
    static let leftUntranslated = Marks(rawValue: 2)
    /// The ICMP error came from where the transmission had gone, and can have meant no other.
    static let refusalIsSure = Marks(rawValue: 4)
    /// It left for the backend of a sibling that raced with it, by another device than that sibling.
    static let otherDevice = Marks(rawValue: 8)
    /// The kernel resolved a clash that this one had lost.
    static let clashLoser = Marks(rawValue: 16)
    /// A copy of its answer left for its client in the name of an address that it had not asked and that is not its backend's.
    static let otherName = Marks(rawValue: 32)
    /// And no other transmission can have been what that copy answered.
    static let otherNameIsSure = Marks(rawValue: 64)
    /// And that address is a service's, or one that this client asks.
    static let otherNameIsService = Marks(rawValue: 128)
    /// Of a query's head: an attempt's answer left in another name, and who takes an answer from anybody has it.
    static let mayBeTaken = Marks(rawValue: 256)
    /// The probe saw a packet of its socket dropped that it could not read: it may have been this one.
    static let unreadDrop = Marks(rawValue: 512)
  }

  /// Who sent an ICMP error about it; unspecified if nobody did.
  var refusedBy = IPAddress.unspecified
  /// Type and code of that error.
  var refusal: UInt16 = 0
  var marks: Marks = []
  /// Of a query's head.
  var libc = CLibrary.unknown

  var isRefused: Bool { refusal != 0 }
}

/// One datagram that a client sent, from its first copy to its end, and, in the first of a query's attempts, the query itself.
///
/// In order of use: what every answered query touches fills the first four cache lines of 64 bytes, and `story` behind them is touched by the
/// others only.
struct Transmission: BitwiseCopyable {
  enum State: UInt8, BitwiseCopyable {
    case free
    /// Its fate is open.
    case open
    case answered
    case lost
  }

  /// What brings it up again.
  enum Watch: UInt8, BitwiseCopyable {
    case none
    /// Its place in the queue of first looks.
    case firstLook
    /// Its timer.
    case timer
  }

  // First line: what a copy is told by, and all that is looked at when an answered one goes.
  var questionHash: UInt64
  var asked: Instant
  /// Hash of the client's endpoint, by which its socket is found.
  var socketKey: UInt64
  var generation: UInt32
  /// Links from every attempt of a query to the first, which holds the query's state.
  var head: Int32
  var name: Int32
  /// Attempts beside the head that still have a slot.
  var openAttempts: UInt32
  var lostAttempts: UInt32
  var dnsID: UInt16
  var queryType: UInt16
  var state: State
  var vantage: Vantage
  var watch: Watch
  var nameLength: UInt8
  /// False for a query that came in over an uplink and was not yet seen to go to a local backend: neither counted nor judged.
  var isVantageSettled: Bool
  /// No ingress copy: the client is a process of the node itself.
  var isHostClient: Bool
  /// The kernel probe saw it dropped.
  var isProbed: Bool
  var hasSibling: Bool
  /// The head's own time is over; it stays for its attempts.
  var isRetired: Bool
  /// `mayRetry` names a query.
  var mayBeRetry: Bool
  var isStalled: Bool
  /// Something was written into `story`.
  private var hasStory: Bool

  // Second line: between whom. A leg at `.zero` is "not seen".
  var client: Endpoint
  /// More than one transmission could have been the one that was sent: what is concluded from "not sent" is a guess.
  var isSentAmbiguous: Bool
  /// Another server or copy answered the same question of this socket.
  var isAnsweredElsewhere: Bool
  var askedInterface: UInt32
  var server: Endpoint
  /// The (translated) server is an address of this node: there is no sent leg.
  var isLocalServer: Bool
  /// Another transmission of this socket asks the same question of another server.
  var hasTwin: Bool
  var sentInterface: UInt32
  var sent: Instant
  var came: Instant

  // Third line: its way.
  /// The tuple of the sent leg.
  var sentSource: Endpoint
  /// An attempt from another port was joined.
  var isJoined: Bool
  /// The retry that was joined is known by its time alone. Without `isJoined`: it was none, this client asks in that rhythm.
  var isJoinedByPeriod: Bool
  var cameInterface: UInt32
  var sentDestination: Endpoint
  var deliveredInterface: UInt32
  var delivered: Instant
  /// When an attempt's answer was delivered; `.zero` if none was.
  var accepted: Instant

  // Fourth line: the query.
  var lastAsked: Instant
  var nameHash: UInt64
  var askedWall: WallTime
  var attempt: UInt32
  var attempts: UInt32
  /// The stalled query that this one retries from another port, and its generation.
  var joins: Int32
  /// Number in the counter history, or -1: evidence for a failed insertion, found half a second after it was asked.
  var candidate: Int32
  /// The entry that its sent leg went by, as far as that is still there, or -1.
  var entry: Int32
  private var story: Story

  /// What only transmissions have that are lost, stall, are repeated or have company.
  private struct Story: BitwiseCopyable {
    /// An outgoing copy of the answer from another address than the one asked.
    var untranslated = Instant.zero
    var furtherCame: UInt8 = 0
    var joinsGeneration: UInt32 = 0
    var siblingID: UInt16 = 0
    var siblingType: UInt16 = 0
    var stalledKey: UInt64 = 0
    var mayRetry: Int32 = -1
    var mayRetryGeneration: UInt32 = 0
    var freshAt = Instant.zero
    var incidentID: UInt64 = 0
    /// Of the query that this one retries from another port; 0 where it retries none.
    var lookupSocket: UInt64 = 0
    var lookupTime = WallTime(nanoseconds: 0)
    var firstEvidence = Evidence(rawValue: 0)
    var firstVerdict = Verdict.unknown
    var firstReason = Reason.none
    var firstGrade = Grade.inferred
    var verdict = Verdict.unknown
    var reason = Reason.none
    var grade = Grade.inferred
    var signs = Signs()
    var probe: Int32 = -1
  }

  /// Makes the slot one of a new transmission: everything holds "nothing" but what is given, and the generation, which goes on.
  mutating func begin(client: Endpoint, dns: DNSMessage, socketKey: UInt64, slot: Int32) {
    questionHash = dns.questionHash
    asked = .zero
    self.socketKey = socketKey
    generation &+= 1
    head = slot
    name = 0
    openAttempts = 0
    lostAttempts = 0
    dnsID = dns.id
    queryType = dns.queryType
    state = .open
    vantage = .client
    watch = .none
    nameLength = 0
    isVantageSettled = true
    isHostClient = false
    isProbed = false
    hasSibling = false
    isRetired = false
    mayBeRetry = false
    isStalled = false
    if hasStory { story = Story() }
    hasStory = false
    self.client = client
    isSentAmbiguous = false
    isAnsweredElsewhere = false
    askedInterface = 0
    server = .none
    isLocalServer = false
    hasTwin = false
    sentInterface = 0
    sent = .zero
    came = .zero
    sentSource = .none
    isJoined = false
    isJoinedByPeriod = false
    cameInterface = 0
    sentDestination = .none
    deliveredInterface = 0
    delivered = .zero
    accepted = .zero
    lastAsked = .zero
    nameHash = dns.nameHash
    askedWall = WallTime(nanoseconds: 0)
    attempt = 1
    attempts = 1
    joins = -1
    candidate = -1
    entry = -1
  }

  var originalTuple: FiveTuple { FiveTuple(udp: client, server) }
  var sentTuple: FiveTuple { FiveTuple(udp: sentSource, sentDestination) }
  /// What the path table knows its path by.
  var pathInterface: UInt32 { isHostClient ? PathTable.host : askedInterface }
  var wasSent: Bool { sent != .zero }
  var hasCome: Bool { came != .zero }
  var wasDelivered: Bool { delivered != .zero }
}

extension Transmission {
  // Every write of `story` goes through here, so that the slot's next holder finds it blank.

  private mutating func tell(_ change: (inout Story) -> Void) {
    if !hasStory { story = Story() }
    hasStory = true
    change(&story)
  }

  /// An outgoing copy of the answer from another address than the one asked.
  var untranslated: Instant {
    get { hasStory ? story.untranslated : .zero }
    set { tell { $0.untranslated = newValue } }
  }
  /// Copies of further answers that came and were not seen to leave yet.
  var furtherCame: UInt8 {
    get { hasStory ? story.furtherCame : 0 }
    set { tell { $0.furtherCame = newValue } }
  }
  var joinsGeneration: UInt32 {
    get { hasStory ? story.joinsGeneration : 0 }
    set { tell { $0.joinsGeneration = newValue } }
  }
  /// Number of its drop in the probe table, and kept when that is forgotten; -1 if the probe did not see it go.
  var probe: Int32 {
    get { hasStory ? story.probe : -1 }
    set { tell { $0.probe = newValue } }
  }
  var siblingID: UInt16 {
    get { hasStory ? story.siblingID : 0 }
    set { tell { $0.siblingID = newValue } }
  }
  var siblingType: UInt16 {
    get { hasStory ? story.siblingType : 0 }
    set { tell { $0.siblingType = newValue } }
  }
  var stalledKey: UInt64 {
    get { hasStory ? story.stalledKey : 0 }
    set { tell { $0.stalledKey = newValue } }
  }
  /// The stalled query that this one may retry, if nothing speaks against it until its first look.
  var mayRetry: Int32 {
    get { hasStory ? story.mayRetry : -1 }
    set { tell { $0.mayRetry = newValue } }
  }
  var mayRetryGeneration: UInt32 {
    get { hasStory ? story.mayRetryGeneration : 0 }
    set { tell { $0.mayRetryGeneration = newValue } }
  }
  /// When this client asked for the name afresh, from another socket, while this query waited; `.zero` if it did not.
  var freshAt: Instant {
    get { hasStory ? story.freshAt : .zero }
    set { tell { $0.freshAt = newValue } }
  }
  var incidentID: UInt64 {
    get { hasStory ? story.incidentID : 0 }
    set { tell { $0.incidentID = newValue } }
  }
  var signs: Signs {
    get { hasStory ? story.signs : Signs() }
    set { tell { $0.signs = newValue } }
  }
  var firstVerdict: Verdict {
    get { hasStory ? story.firstVerdict : .unknown }
    set { tell { $0.firstVerdict = newValue } }
  }
  var firstReason: Reason {
    get { hasStory ? story.firstReason : .none }
    set { tell { $0.firstReason = newValue } }
  }
  var firstGrade: Grade {
    get { hasStory ? story.firstGrade : .inferred }
    set { tell { $0.firstGrade = newValue } }
  }
  var firstEvidence: Evidence {
    get { hasStory ? story.firstEvidence : Evidence(rawValue: 0) }
    set { tell { $0.firstEvidence = newValue } }
  }
  /// Of a lost one: what was said of it.
  var verdict: Verdict {
    get { hasStory ? story.verdict : .unknown }
    set { tell { $0.verdict = newValue } }
  }
  var reason: Reason {
    get { hasStory ? story.reason : .none }
    set { tell { $0.reason = newValue } }
  }
  var grade: Grade {
    get { hasStory ? story.grade : .inferred }
    set { tell { $0.grade = newValue } }
  }
  /// `socketKey` and `askedWall`, or those of the query that this one retries from another port: what the lookup is known by.
  var lookupSocket: UInt64 {
    get { joins >= 0 && hasStory ? story.lookupSocket : socketKey }
    set { tell { $0.lookupSocket = newValue } }
  }
  var lookupTime: WallTime {
    get { joins >= 0 && hasStory ? story.lookupTime : askedWall }
    set { tell { $0.lookupTime = newValue } }
  }
}
