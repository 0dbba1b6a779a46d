import CLinux
import Flows

extension NetworkDevice.Kind {
  /// What a device leads to, by what its driver says of it.
  ///
  /// - Parameters:
  ///   - driver: IFLA_INFO_KIND, empty for a card.
  ///   - hardwareType: `ifi_type`, ARPHRD_*; it tells a tap from a tun, which share a kind.
  init(driver: String, isLoopback: Bool, hardwareType: UInt16, carriesDefaultRoute: Bool) {
    let byDriver: NetworkDevice.Kind =
      switch driver {
      case _ where isLoopback: .loopback
      case "", "vlan", "bond", "team", "macsec", "ipoib": .uplink
      case "veth", "netkit": .workload
      case "tun": hardwareType == UInt16(CLINUX_HARDWARE_ETHER) ? .workload : .tunnel
      case "bridge": .bridge
      case "vxlan", "geneve", "wireguard", "gre", "gretap", "ip6gre", "ip6gretap", "erspan", "ip6erspan", "ipip", "ip6tnl", "sit", "vti", "vti6",
        "xfrm":
        .tunnel
      default: .other
      }
    // The way out is the way out, whatever it is made of: a node in a container has a veth for its uplink.
    self = carriesDefaultRoute && byDriver != .loopback && byDriver != .bridge ? .uplink : byDriver
  }
}
