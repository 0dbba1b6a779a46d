/// Whose resolver a query looks like, by how it repeats what was lost; `libc` of a record.
package enum CLibrary: UInt8, BitwiseCopyable, Sendable, CaseIterable {
  case unknown
  /// Repeats the answered query of a pair before the lost one (resolv/res_send.c in glibc 2.36, `send_dg`).
  case glibc
  /// Asks all nameservers at once, or repeats what was lost, and only that, after half of its 5 s (src/network/res_msend.c in musl 1.2.3).
  case musl
  /// Takes a new port and a new ID for each attempt (src/net/dnsclient_unix.go in Go).
  case go

  package var name: StaticString {
    switch self {
    case .unknown: ""
    case .glibc: "glibc"
    case .musl: "musl"
    case .go: "go"
    }
  }
}
