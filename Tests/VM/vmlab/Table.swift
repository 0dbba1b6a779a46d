import TestSupport

/// The races that are about the conntrack table itself. Its size and its limit are the machine's, so they are done in a virtual machine only.
extension Race {
  var isAboutTheTable: Bool { [.full, .longChains, .earlyDrop].contains(self) }

  /// Brings the table into its state, asks, and puts the table right again: by then all that did not leave is judged, and the agent's own page has to be
  /// asked for through this table.
  func askOfTheTable(_ stage: Stage, _ server: String, _ treatment: Treatment) throws {
    let pod = stage.lab.clients[0]
    let question = "--from \(pod.v4) --server \(server) --label table"
    defer { Race.restore() }
    switch self {
    case .longChains:
      try makeChainsLong(stage)
      try stage.launch(in: pod, treatment, "ask --count 120 --rate 50 --together --timeout-ms 1500", question)
      try stage.join()
    case .earlyDrop:
      // As few buckets as the kernel makes, so that it always finds somebody to throw out; then new flows all the time.
      try Self.table(buckets: Self.fewestBuckets, limit: 300)
      try crowd(stage, "--flows 3000 --rate 500")
      try stage.launch(in: pod, treatment, "ask --count 240 --rate 60 --types A --timeout-ms 2500", question)
      try stage.join()
    default:
      try fill(stage)
      try stage.launch(in: pod, treatment, "ask --count 120 --rate 100 --types A --timeout-ms 1500", question)
      try stage.join()
    }
  }

  /// One page of them (nf_ct_alloc_hashtable in net/netfilter/nf_conntrack_core.c).
  private static let fewestBuckets = 512

  private static func table(buckets: Int, limit: Int) throws {
    try Command.run(["sysctl", "-qw", "net.netfilter.nf_conntrack_buckets=\(buckets)", "net.netfilter.nf_conntrack_max=\(limit)"])
  }

  static func restore() { _ = try? table(buckets: 65536, limit: 65536) }

  /// Flows of no DNS port from the other pod, each of them new.
  private func crowd(_ stage: Stage, _ options: String) throws {
    try stage.launch(in: stage.lab.clients[1], nil, "fill --from \(stage.lab.clients[1].v4) --server \(stage.lab.backends[2].v4)", options)
  }

  /// Lowers the limit and fills the node's table. Many buckets, or the kernel would find somebody to throw out.
  private func fill(_ stage: Stage) throws {
    try Self.table(buckets: 262144, limit: 200)
    try crowd(stage, "--flows 400 --rate 400")
    try stage.join()
  }

  /// So many entries in so few buckets that an insertion often meets a chain that is too long: the kernel draws the limit anew each time, from 50 to 79
  /// (MIN_CHAINLEN and MAX_CHAINLEN in net/netfilter/nf_conntrack_core.c at v6.1).
  private func makeChainsLong(_ stage: Stage) throws {
    try Self.table(buckets: Self.fewestBuckets, limit: 200_000)
    try Command.run(["ip", "netns", "exec", stage.lab.node, "sysctl", "-qw", "net.netfilter.nf_conntrack_udp_timeout=300"])
    try crowd(stage, "--flows 20000 --rate 4000")
    try stage.join()
    try stage.recount()
  }
}
