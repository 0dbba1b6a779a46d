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
  case transmissions
  case fates
  case open
  case answers
  case retries
  case queryDuration
  case clashes
  case lostQueries
  case blind
  case blindSeconds
  case sourceUp
  case pathObservable
  case tableEntries
  case tableEvictions
  case decodeErrors
  case recordsSuppressed
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
        "racetrack_conntrack_insert_failed", .counter,
        help: "Entries that could not be inserted, of every protocol. Before Linux 5.10 resolved clashes are among them.")
    case .conntrackDrop:
      MetricDescriptor(
        "racetrack_conntrack_drop", .counter,
        help: "Packets that connection tracking dropped: unresolved clashes, a full table, failed allocations.")
    case .conntrackEarlyDrop:
      MetricDescriptor("racetrack_conntrack_early_drop", .counter, help: "Entries evicted to make room in a full table.")
    case .conntrackClashResolve:
      MetricDescriptor(
        "racetrack_conntrack_clash_resolve", .counter, help: "Clashes that the kernel resolved without a loss at that moment (Linux 5.10 and later).")
    case .conntrackSearchRestart:
      MetricDescriptor("racetrack_conntrack_search_restart", .counter, help: "Lookups that started again because the table was resized.")
    case .conntrackChainTooLong:
      MetricDescriptor(
        "racetrack_conntrack_chain_too_long", .counter, help: "Entries not inserted because their hash chain was too long (Linux 5.15 and later).")
    case .conntrackInvalid:
      MetricDescriptor("racetrack_conntrack_invalid", .counter, help: "Packets that could not be tracked.")
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
    case .recordsSuppressed:
      MetricDescriptor("racetrack_records_suppressed", .counter, labels: ["event"], help: "Records that were counted and not written one by one.")
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
}
