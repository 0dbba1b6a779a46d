import Glibc

/// What the laboratory needs of the machine. A test that lacks it is skipped by name, never passed.
package enum Requirements {
  package static let missing: [String] = {
    var missing: [String] = []
    if geteuid() != 0 { missing.append("root") }
    for program in ["ip", "nft", "conntrack"] where (try? Command.result(["sh", "-c", "command -v \(program)"]).status) != 0 {
      missing.append(program)
    }
    if sysconf(Int32(_SC_NPROCESSORS_ONLN)) < 2 { missing.append("two CPUs") }
    return missing
  }()

  package static var met: Bool {
    if !missing.isEmpty { print("kernel tests skipped: this machine lacks \(missing.joined(separator: ", "))") }
    return missing.isEmpty
  }
}
