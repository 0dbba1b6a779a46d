/// `conntrack -S` of the node's namespace, summed over CPUs.
package struct KernelCounters: Sendable, Equatable, CustomStringConvertible {
  package var insertFailed = 0
  package var drop = 0
  package var earlyDrop = 0
  package var clashResolve = 0
  package var chainTooLong = 0

  package static func read(_ lab: Lab) throws -> KernelCounters { try read(in: lab.node) }

  package static func read(in node: String) throws -> KernelCounters {
    var counters = KernelCounters()
    let text = try Command.run(["ip", "netns", "exec", node, "conntrack", "-S"])
    for word in text.split(whereSeparator: { $0 == " " || $0 == "\t" || $0 == "\n" }) {
      let parts = word.split(separator: "=")
      guard parts.count == 2, let value = Int(parts[1]) else { continue }
      switch parts[0] {
      case "insert_failed": counters.insertFailed += value
      case "drop": counters.drop += value
      case "early_drop": counters.earlyDrop += value
      case "clash_resolve": counters.clashResolve += value
      case "chaintoolong": counters.chainTooLong += value
      default: break
      }
    }
    return counters
  }

  package static func - (a: KernelCounters, b: KernelCounters) -> KernelCounters {
    KernelCounters(
      insertFailed: a.insertFailed - b.insertFailed, drop: a.drop - b.drop, earlyDrop: a.earlyDrop - b.earlyDrop,
      clashResolve: a.clashResolve - b.clashResolve, chainTooLong: a.chainTooLong - b.chainTooLong)
  }

  package var description: String {
    "insert_failed \(insertFailed) drop \(drop) clash_resolve \(clashResolve) early_drop \(earlyDrop) chain_too_long \(chainTooLong)"
  }
}
