/// The node's nft rules: services, masquerading, filters, and the many rules that a real node also has and that give a race its time.
package struct Ruleset {
  /// Rules between address translation and insertion: the longer they take, the more pairs overlap there.
  package var fillerRules = 2500
  /// True where they are a few rules in chains that jump to one another often, so that they are loaded at once: for slow machines.
  package var nestsFiller = false
  /// Which packets go through them, as a match: `ip saddr 10.40.0.11 udp dport 53`. Nil: all.
  package var fillerMatch: String?
  /// The same of IPv6.
  package var fillerMatchV6: String?
  /// False where another program makes the services: then no chain of type nat is registered.
  package var hooksNAT = true
  /// Its tables' name: rules of another name are added to those that are loaded.
  package var table = "lab"
  /// The services are there for the node's own processes too.
  package var servesNode = false
  private var services: [(v6: Bool, rule: String)] = []
  private var forward: [(v6: Bool, rule: String)] = []
  private var masquerade: [(v6: Bool, rule: String)] = []
  private var late: [(v6: Bool, rule: String)] = []

  package init() {}

  /// A service address whose packets go to one backend, or to one of several at random, chosen for each packet that has no entry.
  package mutating func service(_ address: String, _ transport: String = "udp", port: Int = 53, to backends: [String]) {
    let v6 = address.contains(":")
    let target =
      backends.count == 1
      ? backends[0]
      : "numgen random mod \(backends.count) map { " + backends.enumerated().map { "\($0.offset) : \($0.element)" }.joined(separator: ", ") + " }"
    services.append((v6, "\(v6 ? "ip6" : "ip") daddr \(address) \(transport) dport \(port) dnat to \(target)"))
  }

  /// Packets of this source leave with the address of the node.
  package mutating func masquerade(_ source: String) {
    let v6 = source.contains(":")
    masquerade.append((v6, "\(v6 ? "ip6" : "ip") saddr \(source) masquerade"))
  }

  /// A rule in the forward hook, without its table: `ip saddr 10.40.0.12 udp dport 53 drop`.
  package mutating func forward(_ rule: String, v6: Bool = false) { forward.append((v6, rule)) }

  /// A rule after address translation, of packets on their way out.
  package mutating func afterTranslation(_ rule: String, v6: Bool = false) { late.append((v6, rule)) }

  var text: String { tableText("ip", v6: false) + tableText("ip6", v6: true) }

  private func tableText(_ family: String, v6: Bool) -> String {
    func rules(_ list: [(v6: Bool, rule: String)]) -> String { list.filter { $0.v6 == v6 }.map { "    \($0.rule)\n" }.joined() }
    let rule = "    \(family) daddr \(v6 ? "2001:db8::1" : "203.0.113.1") udp dport 9 drop\n"
    // The cube root: three chains deep.
    var side = 1
    while nestsFiller && side * side * side < fillerRules { side += 1 }
    func jumps(_ chain: String) -> String { String(repeating: "    jump \(chain)\n", count: side) }
    let nested = nestsFiller ? "  chain leaf {\n\(String(repeating: rule, count: side))  }\n  chain branch {\n\(jumps("leaf"))  }\n" : ""
    let filler = nestsFiller ? jumps("branch") : String(repeating: rule, count: fillerRules)
    return """
      table \(family) \(table) {
      \(hooksNAT ? "  chain prerouting { type nat hook prerouting priority -100;\n\(rules(services))  }\n" : "")\
      \(servesNode ? "  chain output { type nat hook output priority -100;\n\(rules(services))  }\n" : "")\
        chain forward { type filter hook forward priority 0;
      \(rules(forward))  }
      \(hooksNAT ? "  chain postrouting { type nat hook postrouting priority 100;\n\(rules(masquerade))  }\n" : "")\
      \(nested)\
        chain filler {
      \(filler)  }
        chain late { type filter hook postrouting priority 200;
          \((v6 ? fillerMatchV6 : fillerMatch).map { $0 + " " } ?? "")jump filler
      \(rules(late))\
        }
      }

      """
  }
}
