import Flows

/// Makes ctnetlink messages byte by byte, knowing nothing of the parser.
enum Netlink {
  static func be16(_ value: UInt16) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 0xFF)] }
  static func be32(_ value: UInt32) -> [UInt8] { be16(UInt16(value >> 16)) + be16(UInt16(value & 0xFFFF)) }
  static func be64(_ value: UInt64) -> [UInt8] { be32(UInt32(value >> 32)) + be32(UInt32(value & 0xFFFF_FFFF)) }
  static func host(_ value: some FixedWidthInteger) -> [UInt8] { withUnsafeBytes(of: value) { Array($0) } }

  static func attribute(_ type: UInt16, _ payload: [UInt8]) -> [UInt8] {
    var bytes: [UInt8] = host(UInt16(payload.count + 4))
    bytes += host(type)
    bytes += payload
    while bytes.count % 4 != 0 { bytes.append(0) }
    return bytes
  }

  static func nest(_ type: UInt16, _ attributes: [UInt8]...) -> [UInt8] { attribute(type | 0x8000, Array(attributes.joined())) }

  static func message(type: UInt16 = 0x0100, flags: UInt16 = 0x600, family: UInt8 = 2, _ attributes: [UInt8]...) -> [UInt8] {
    let body: [UInt8] = [family, 0, 0, 0] + attributes.joined()
    var bytes: [UInt8] = host(UInt32(body.count + 16))
    bytes += host(type)
    bytes += host(flags)
    bytes += [0, 0, 0, 0, 0, 0, 0, 0]
    return bytes + body
  }

  static func tuple(_ type: UInt16, _ tuple: FiveTuple, zone: UInt16? = nil) -> [UInt8] {
    let isV4 = tuple.source.address.isV4
    func address(_ a: IPAddress) -> [UInt8] { isV4 ? be32(a.v4) : be64(a.high) + be64(a.low) }
    let addresses = nest(
      1, attribute(isV4 ? 1 : 3, address(tuple.source.address)), attribute(isV4 ? 2 : 4, address(tuple.destination.address)))
    let transport = nest(
      2, attribute(1, [tuple.protocolNumber]), attribute(2, be16(tuple.source.port)), attribute(3, be16(tuple.destination.port)))
    return nest(type, addresses, transport, zone.map { attribute(3, be16($0)) } ?? [])
  }
}

func endpoint(_ address: String, _ port: UInt16) -> Endpoint { Endpoint(IPAddress(address)!, port) }
