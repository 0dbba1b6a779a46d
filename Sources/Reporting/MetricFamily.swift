/// Every family of the page, in the order in which it is written. The page goes through this list once, so no family can be opened twice or be
/// torn apart.
package enum MetricFamily: UInt8, CaseIterable, Sendable {
  case conntrackInsertFailed
  case conntrackDrop
  case conntrackEarlyDrop
  case conntrackClashResolve
  case conntrackSearchRestart
  case conntrackChainTooLong
  case conntrackInvalid
  case conntrackEntries
  case conntrackEntriesLimit
  case conntrackEvents
  case conntrackEventsLost
  case packets
  case packetsLost
  case probeEvents
  case probeEventsLost
  case transmissions
  case fates
  case open
  case answers
  case duplicateAnswers
  case unmatched
  case tcpMessages
  case retries
  case queryDuration
  case clashes
  case lostQueries
  case serverLostQueries
  case clientQueries
  case clientLostQueries
  case clientStalledLookups
  case clientLostSeconds
  case clientLastLoss
  case alertsFiring
  case blind
  case blindSeconds
  case sourceUp
  case pathObservable
  case tableEntries
  case tableEvictions
  case decodeErrors
  case records
  case recordsSuppressed
  case recordsUndelivered
  case logMessages
  case logMessagesDropped
  case httpConnections
  case httpConnectionsAccepted
  case httpConnectionsClosed
  case httpRequests
  case httpRequestsRefused
  case longestTurn
  case buildInfo
  case processCPU
  case processResidentMemory
  case processVirtualMemory
  case processOpenDescriptors
  case processMaxDescriptors
  case processStartTime

  package var descriptor: MetricDescriptor {
    switch self {
    case .conntrackInsertFailed:
      MetricDescriptor(
        "racetrack_conntrack_insert_failed", .counter, labels: ["cpu"],
        help: "Entries that could not be inserted, of every protocol. Before Linux 5.10 resolved clashes are among them.")
    case .conntrackDrop:
      MetricDescriptor(
        "racetrack_conntrack_drop", .counter, labels: ["cpu"],
        help: "Packets that connection tracking dropped: unresolved clashes, a full table, failed allocations.")
    case .conntrackEarlyDrop:
      MetricDescriptor("racetrack_conntrack_early_drop", .counter, labels: ["cpu"], help: "Entries evicted to make room in a full table.")
    case .conntrackClashResolve:
      MetricDescriptor(
        "racetrack_conntrack_clash_resolve", .counter, labels: ["cpu"],
        help: "Clashes that the kernel resolved without a loss at that moment (Linux 5.10 and later).")
    case .conntrackSearchRestart:
      MetricDescriptor(
        "racetrack_conntrack_search_restart", .counter, labels: ["cpu"], help: "Lookups that started again because the table was resized.")
    case .conntrackChainTooLong:
      MetricDescriptor(
        "racetrack_conntrack_chain_too_long", .counter, labels: ["cpu"],
        help: "Entries not inserted because their hash chain was too long (Linux 5.15 and later).")
    case .conntrackInvalid:
      MetricDescriptor("racetrack_conntrack_invalid", .counter, labels: ["cpu"], help: "Packets that could not be tracked.")
    case .conntrackEntries:
      MetricDescriptor("racetrack_conntrack_entries", .gauge, help: "Entries in the connection tracking table.")
    case .conntrackEntriesLimit:
      MetricDescriptor("racetrack_conntrack_entries_limit", .gauge, help: "Entries that the table may hold (nf_conntrack_max).")
    case .conntrackEvents:
      MetricDescriptor("racetrack_conntrack_events", .counter, labels: ["event"], help: "Connection tracking events read.")
    case .conntrackEventsLost:
      MetricDescriptor("racetrack_conntrack_events_lost", .counter, help: "Events that the kernel dropped because the socket was full.")
    case .packets:
      MetricDescriptor("racetrack_packets", .counter, help: "Packets captured: every copy of a DNS query or answer on any device.")
    case .packetsLost:
      MetricDescriptor("racetrack_packets_lost", .counter, help: "Packets that the kernel dropped because the capture ring was full.")
    case .probeEvents:
      MetricDescriptor("racetrack_kernel_probe_events", .counter, labels: ["kind"], help: "Clashes that the kernel probe told of.")
    case .probeEventsLost:
      MetricDescriptor(
        "racetrack_kernel_probe_events_lost", .counter,
        help: "Clashes that the kernel probe may have missed: its ring was full, or it could not tell whether a packet was dropped.")
    case .transmissions:
      MetricDescriptor(
        "racetrack_dns_transmissions", .counter, labels: ["qtype", "vantage"],
        help: "DNS queries sent over UDP, each attempt counted, by where they were first seen; by query type where local clients sent them.")
    case .fates:
      MetricDescriptor(
        "racetrack_dns_fates", .counter, labels: ["fate"],
        help: "What became of the transmissions of local clients. Their sum and racetrack_dns_open are the transmissions of vantage client.")
    case .open:
      MetricDescriptor("racetrack_dns_open", .gauge, help: "Transmissions of local clients whose fate is not decided.")
    case .answers:
      MetricDescriptor("racetrack_dns_answers", .counter, labels: ["rcode"], help: "Answers delivered to local clients by response code.")
    case .duplicateAnswers:
      MetricDescriptor(
        "racetrack_dns_duplicate_answers", .counter, help: "Further answers to local clients for transmissions that were answered already.")
    case .unmatched:
      MetricDescriptor(
        "racetrack_dns_unmatched", .counter, labels: ["kind"],
        help: "Packets that belong to no known transmission: answers, and copies of queries that opened none.")
    case .tcpMessages:
      MetricDescriptor("racetrack_dns_tcp_messages", .counter, help: "DNS packets over TCP: counted, not judged.")
    case .retries:
      MetricDescriptor("racetrack_dns_retries", .counter, help: "Transmissions of local clients that repeat an earlier one.")
    case .queryDuration:
      MetricDescriptor(
        "racetrack_dns_query_duration_seconds", .histogram, unit: "seconds",
        help: "Time from the first attempt of a local client to the answer it accepted.")
    case .clashes:
      MetricDescriptor(
        "racetrack_clashes", .counter, labels: ["outcome"],
        help: "Insertion clashes as the kernel counted them, for every protocol: resolved, or dropped (the lesser of insert_failed and drop).")
    case .lostQueries:
      MetricDescriptor(
        "racetrack_lost_queries", .counter, labels: ["verdict", "grade"],
        help: "Lost transmissions of local clients by cause and by how sure the cause is.")
    case .serverLostQueries:
      MetricDescriptor(
        "racetrack_server_lost_queries", .counter,
        help: "Queries from other nodes that were lost after they arrived here. Not among racetrack_lost_queries: the client's node counts them.")
    case .clientQueries:
      MetricDescriptor(
        "racetrack_client_queries", .counter, labels: Self.workload, help: "Transmissions of local clients by workload: the denominator of losses.")
    case .clientLostQueries:
      MetricDescriptor(
        "racetrack_client_lost_queries", .counter, labels: ["verdict"] + Self.workload,
        help: "Lost transmissions of local clients by cause and workload.")
    case .clientStalledLookups:
      MetricDescriptor(
        "racetrack_client_stalled_lookups", .counter, labels: ["verdict", "impact"] + Self.workload,
        help: "Lookups that a loss delayed or made fail. A lookup is one name asked from one socket within 100 ms: A and AAAA count once.")
    case .clientLostSeconds:
      MetricDescriptor(
        "racetrack_client_lost_seconds", .counter, unit: "seconds", labels: ["verdict"] + Self.workload,
        help: "Time that clients waited because of losses: for each stalled lookup the longest delay of its queries, once.")
    case .clientLastLoss:
      MetricDescriptor(
        "racetrack_client_last_loss_timestamp_seconds", .gauge, unit: "seconds", labels: Self.workload,
        help: "When the last transmission that was lost was sent, in seconds since 1970; 0 before the first.")
    case .alertsFiring:
      MetricDescriptor("racetrack_alerts_firing", .gauge, help: "Workloads and causes with an alert_firing record and no alert_resolved yet.")
    case .blind:
      MetricDescriptor("racetrack_blind", .gauge, labels: ["source"], help: "1 while a source does not see everything.")
    case .blindSeconds:
      MetricDescriptor(
        "racetrack_blind_seconds", .counter, unit: "seconds", labels: ["source"],
        help: "Time in which a source did not see everything; any is their union.")
    case .sourceUp:
      MetricDescriptor("racetrack_source_up", .gauge, labels: ["source"], help: "1 if a source of evidence is open.")
    case .pathObservable:
      MetricDescriptor(
        "racetrack_path_observable", .gauge, labels: ["leg"],
        help: "1 if every path in use showed this leg lately; where it is 0 absence proves nothing.")
    case .tableEntries:
      MetricDescriptor("racetrack_table_entries", .gauge, labels: ["table"], help: "Slots in use in the agent's own tables.")
    case .tableEvictions:
      MetricDescriptor("racetrack_table_evictions", .counter, labels: ["table"], help: "What the agent's own tables had no room for.")
    case .decodeErrors:
      MetricDescriptor("racetrack_decode_errors", .counter, labels: ["source", "reason"], help: "Input that could not be decoded.")
    case .records:
      MetricDescriptor("racetrack_records", .counter, labels: ["event"], help: "Records given to the output, by kind.")
    case .recordsSuppressed:
      MetricDescriptor("racetrack_records_suppressed", .counter, labels: ["event"], help: "Records that were counted and not written one by one.")
    case .recordsUndelivered:
      MetricDescriptor("racetrack_records_undelivered", .counter, help: "Lines among racetrack_records that no reader took.")
    case .logMessages:
      MetricDescriptor("racetrack_log_messages", .counter, labels: ["level"], help: "Lines of the agent's own log.")
    case .logMessagesDropped:
      MetricDescriptor(
        "racetrack_log_messages_dropped", .counter, labels: ["reason"],
        help: "Messages of the agent's own log that were held back by the rate limit or that standard error did not take.")
    case .httpConnections:
      MetricDescriptor("racetrack_http_connections", .gauge, help: "Open connections to the agent's web server.")
    case .httpConnectionsAccepted:
      MetricDescriptor("racetrack_http_connections_accepted", .counter, help: "Connections that the web server accepted.")
    case .httpConnectionsClosed:
      MetricDescriptor(
        "racetrack_http_connections_closed", .counter, labels: ["reason"],
        help: "Connections that the web server closed early: evicted for a newer one, expired over one request, or refused for lack of room.")
    case .httpRequests:
      MetricDescriptor("racetrack_http_requests", .counter, help: "Requests answered, whatever the status.")
    case .httpRequestsRefused:
      MetricDescriptor(
        "racetrack_http_requests_refused", .counter, labels: ["reason"],
        help: "Requests among them that were refused: without a known user, or under a host name that is not this server's.")
    case .longestTurn:
      MetricDescriptor(
        "racetrack_longest_turn_seconds", .gauge, unit: "seconds",
        help: "Longest time the agent's loop took from one wake-up to its next sleep, since the start: so long a packet waited in the ring at most.")
    case .buildInfo:
      MetricDescriptor("racetrack_build", .info, labels: ["version", "revision", "kernel"], help: "The agent's version and the kernel it runs on.")
    case .processCPU:
      MetricDescriptor("process_cpu_seconds", .counter, unit: "seconds", help: "User and system CPU time spent by the agent.")
    case .processResidentMemory:
      MetricDescriptor("process_resident_memory_bytes", .gauge, unit: "bytes", help: "Resident memory of the agent.")
    case .processVirtualMemory:
      MetricDescriptor("process_virtual_memory_bytes", .gauge, unit: "bytes", help: "Virtual memory of the agent.")
    case .processOpenDescriptors:
      MetricDescriptor("process_open_fds", .gauge, help: "File descriptors the agent has open.")
    case .processMaxDescriptors:
      MetricDescriptor("process_max_fds", .gauge, help: "File descriptors the agent may open.")
    case .processStartTime:
      MetricDescriptor("process_start_time_seconds", .gauge, unit: "seconds", help: "When the agent started, in seconds since 1970.")
    }
  }

  private static let workload: [StaticString] = ["client_namespace", "client_workload"]
}
