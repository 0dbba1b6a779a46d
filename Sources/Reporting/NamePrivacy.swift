import CNettle

/// What a record says about the name that was asked for. Corresponds to `--dns.names`.
package enum NamePrivacy: Sendable {
  /// The name in presentation form: `dns.question.name`.
  case full
  /// A keyed hash of it: `dns.question.name_hash`. Equal names have equal hashes while the key stays the same.
  case hash(key: [UInt8])
  /// Nothing.
  case off

  /// The first eight octets of HMAC-SHA256 (RFC 2104) over the name in wire form and lower case, as a number whose sixteen digits are written.
  package static func hash(wire name: [UInt8], key: [UInt8]) -> UInt64 {
    // A length octet is at most 63 and never a letter, so the whole name is lowered at once.
    let lowered = name.map { (0x41...0x5A).contains($0) ? $0 | 0x20 : $0 }
    var digest = [UInt8](repeating: 0, count: Int(CNETTLE_SHA256_SIZE))
    unsafe key.withUnsafeBufferPointer { key in
      unsafe lowered.withUnsafeBufferPointer { name in
        unsafe digest.withUnsafeMutableBufferPointer { digest in
          unsafe cnettle_hmac_sha256(key.baseAddress, key.count, name.baseAddress, name.count, digest.baseAddress)
        }
      }
    }
    return digest[0..<8].reduce(0) { $0 << 8 | UInt64($1) }
  }
}
