package import Flows

/// One sentence per cause that says what to change. Where it is not known whose resolver the client has, the sentence covers glibc and musl, because
/// musl ignores `single-request` and `single-request-reopen`. It claims no more than the grade and the evidence allow.
package enum Advice {
  package static func sentence(_ lost: LostQuery) -> StaticString {
    if lost.evidence.contains(.pathUnobserved) {
      return """
        This path does not show the agent the copy that is missing here, as with eBPF datapaths, offloaded flows and asymmetric routes, so the query may \
        have been answered: believe the client, or a capture in it, before you change anything.
        """
    }
    return sentence(lost.verdict, lost.reason, lost.grade, libc: lost.clientIsServer ? .unknown : lost.libc)
  }

  package static func sentence(_ verdict: Verdict, _ reason: Reason, _ grade: Grade, libc: CLibrary = .unknown) -> StaticString {
    switch verdict {
    case .dnatClashDropped: originalClash(libc)
    case .replyClashDropped: replyClash(libc)
    case .snatClashDropped:
      """
      Two clients were masqueraded to the same address and port: add --random-fully to the MASQUERADE or SNAT rule (fully-random in nftables), \
      or do not masquerade DNS traffic.
      """
    case .clashLateReply:
      """
      The kernel holds a resolved clash for one second only and the answer came later, so it was not translated back: find out why the backend or its \
      upstream needs more than 1 s, or run NodeLocal DNSCache, whose clients bypass connection tracking.
      """
    case .clashMisrouted:
      """
      A policy engine that queues packets to user space (NFQUEUE) sent this query out of the wrong device after a clash: run kernel 6.12 or newer, \
      or exempt DNS from the queue rule.
      """
    case .answerUntranslated: untranslated(reason)
    case .tableFull:
      """
      The connection tracking table was full: raise nf_conntrack_max, find what fills it (conntrack -L), and shorten the UDP time-outs; \
      this is not the race.
      """
    case .droppedOnNode: dropped(reason, grade)
    case .noAnswer: unanswered(reason)
    case .answerDroppedOnNode:
      """
      The answer reached this node and did not reach the client: look at network policies and rules for traffic towards the client, \
      at rp_filter, and at drops on the client's device; this is not the race.
      """
    case .lateAnswer:
      """
      The answer was delivered after the client had stopped waiting: look at the backend's load and at its upstream resolvers; this is not the race.
      """
    case .unknown:
      """
      The agent did not see enough to tell: look at the blind_window records around this time and at racetrack_blind_seconds_total.
      """
    }
  }

  private static func originalClash(_ libc: CLibrary) -> StaticString {
    switch libc {
    case .glibc:
      """
      Two queries from one socket were sent to different backends and this kernel dropped the second: run kernel 5.6 or newer or NodeLocal DNSCache; \
      until then set "options single-request-reopen" in this client's resolv.conf.
      """
    case .musl:
      """
      Two queries from one socket were sent to different backends and this kernel dropped the second: run kernel 5.6 or newer or NodeLocal DNSCache; \
      this client's musl ignores the resolv.conf options that help glibc.
      """
    case .unknown, .go:
      """
      Two queries from one socket were sent to different backends and this kernel dropped the second: run kernel 5.6 or newer or NodeLocal DNSCache; \
      until then glibc clients can set "options single-request-reopen" in resolv.conf, which musl ignores.
      """
    }
  }

  private static func replyClash(_ libc: CLibrary) -> StaticString {
    libc == .musl
      ? """
      One socket asked two service addresses that share a backend, which no kernel resolves: give the pod a single nameserver, or run NodeLocal DNSCache; \
      this client's musl asks all nameservers at once.
      """
      : """
      One socket asked two service addresses that share a backend, which no kernel resolves: give the pod a single nameserver, or run NodeLocal DNSCache; \
      musl always asks all nameservers at once.
      """
  }

  private static func untranslated(_ reason: Reason) -> StaticString {
    switch reason {
    case .bridgeBypass:
      """
      Client and backend share a bridge and the answer bypassed translation: set net.bridge.bridge-nf-call-iptables=1 \
      (and bridge-nf-call-ip6tables=1), as Kubernetes requires.
      """
    case .entryDeleted:
      """
      The entry was deleted while the query waited, as on an endpoint change: let DNS backends drain before they go (CoreDNS lameduck, preStop) \
      and see what deletes entries.
      """
    case .earlyDrop:
      """
      The nearly full connection tracking table evicted the entry while the query waited: raise nf_conntrack_max and find what fills the table.
      """
    case .expired:
      """
      The entry timed out before the answer came: look for a backend slower than nf_conntrack_udp_timeout, or a time-out set too low.
      """
    case .wrongService:
      """
      The answer left in the name of another service that this socket had asked and that shares the backend, as IPVS does: give the pod a single \
      nameserver; a client that takes answers from any of its servers (musl) has it all the same.
      """
    default:
      """
      The answer came from the backend's own address and the client does not accept it: see whether the answer takes another path than the query \
      (asymmetric routing, NOTRACK, direct server return).
      """
    }
  }

  private static func dropped(_ reason: Reason, _ grade: Grade) -> StaticString {
    switch reason {
    case .policyOrRoute where grade == .inferred:
      """
      The query entered this node and was not seen to leave it, and what dropped it is not certain: look at network policies, firewall rules and routes \
      from this client to the DNS service first.
      """
    case .policyOrRoute:
      """
      The query entered this node, did not leave it, and failed no insertion: look at network policies, firewall rules and routes from this client \
      to the DNS service; this is not the race.
      """
    case .afterInsertion:
      """
      The query was tracked and then lost on its way out: look at qdisc drops (tc -s qdisc), neighbour resolution, and rules after NAT; \
      this is not the race.
      """
    case .chainTooLong:
      """
      The hash chain of the connection tracking table was too long: raise nf_conntrack_buckets, and look for a scan or a client that opens very many flows.
      """
    case .invalid:
      """
      Connection tracking took the packet for invalid: look at checksum offload of the devices on the path and at rules that drop ctstate INVALID.
      """
    case .ambiguous:
      """
      The signs of a clash are there, but other packets failed at the same moment: where the kernel probe can run it tells them apart; \
      until then look at network policies as well as at nameservers that share a backend.
      """
    default:
      """
      The query entered this node and never left it: look at network policies, routes and qdisc drops.
      """
    }
  }

  private static func unanswered(_ reason: Reason) -> StaticString {
    switch reason {
    case .icmpUnreachable:
      """
      The backend refused the query with ICMP unreachable: nothing listens on its DNS port, so look at the DNS pods' readiness and at the service's endpoints.
      """
    case .staleBackend:
      """
      The query went to a backend that is gone, because an old entry still points at it: see that kube-proxy removes stale UDP entries, \
      and let DNS pods drain before they end.
      """
    case .localServer:
      """
      A DNS server on this node (NodeLocal DNSCache, dnsmasq, systemd-resolved) took the query and did not answer: look at its log, load and upstream.
      """
    default:
      """
      The query left this node and nothing came back: look at the backend's load and health, its upstream resolvers, the network between the nodes, \
      and the query limits of a cloud resolver; this is not the race.
      """
    }
  }
}
