/// Appends `text` with everything escaped that could end the quotes around it, the line, or the reader's trust in what is shown:
/// quotes, backslashes, C0 and C1 controls, line and paragraph separators, and the marks that reorder text (Unicode bidi controls).
///
/// The form is that of a JSON string (RFC 8259 7), without the quotes. Works on scalars: as Characters, CR LF is one and would hide both.
package func appendEscaped(_ text: some StringProtocol, to out: inout [UInt8]) {
  for scalar in text.unicodeScalars {
    switch scalar.value {
    case 0x22: out += [0x5C, 0x22]
    case 0x5C: out += [0x5C, 0x5C]
    case 0x0A: out += [0x5C, UInt8(ascii: "n")]
    case 0x0D: out += [0x5C, UInt8(ascii: "r")]
    case 0x09: out += [0x5C, UInt8(ascii: "t")]
    case 0..<0x20, 0x7F..<0xA0, 0x200E...0x200F, 0x2028...0x202E, 0x2066...0x2069, 0xFEFF:
      out += [0x5C, UInt8(ascii: "u")]
      for shift: UInt32 in [12, 8, 4, 0] {
        let digit = UInt8(truncatingIfNeeded: (scalar.value >> shift) & 15)
        out.append(digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10)
      }
    case 0x20..<0x7F:
      out.append(UInt8(truncatingIfNeeded: scalar.value))
    default:
      out += Array(String(scalar).utf8)
    }
  }
}

/// `text` in quotes, escaped, and cut to what fits a message of one line.
package func quoted(_ text: String) -> String {
  let limit = 120
  let scalars = text.unicodeScalars
  var out: [UInt8] = [0x22]
  if scalars.count > limit {
    appendEscaped(String(String.UnicodeScalarView(scalars.prefix(limit))), to: &out)
    out += Array("...".utf8)
  } else {
    appendEscaped(text, to: &out)
  }
  out.append(0x22)
  return String(decoding: out, as: UTF8.self)
}

/// The candidate that a person most likely meant by `word`, or nil when none is near.
///
/// Near is: `word` is the last parts of a dotted candidate, or is made of it by few single-byte edits (Levenshtein), one for every
/// three bytes, at least two.
package func nearest(to word: String, among candidates: [String]) -> String? {
  guard (1...64).contains(word.utf8.count) else { return nil }
  let spelled = String(decoding: word.utf8.map { $0 == UInt8(ascii: "_") ? UInt8(ascii: "-") : $0 }, as: UTF8.self).lowercased()
  let ends = candidates.filter { $0.hasSuffix("." + spelled) }
  if ends.count == 1 { return ends[0] }
  var best: (name: String, distance: Int)?
  for candidate in candidates {
    let distance = editDistance(Array(spelled.utf8), Array(candidate.utf8))
    if distance < best?.distance ?? .max { best = (candidate, distance) }
  }
  guard let best, best.distance <= max(2, spelled.utf8.count / 3), best.distance < spelled.utf8.count else { return nil }
  return best.name
}

private func editDistance(_ a: [UInt8], _ b: [UInt8]) -> Int {
  var previous = Array(0...b.count)
  for row in 0..<a.count {
    var current = [row + 1]
    for column in 0..<b.count {
      let substituted = previous[column] + (a[row] == b[column] ? 0 : 1)
      current.append(min(substituted, previous[column + 1] + 1, current[column] + 1))
    }
    previous = current
  }
  return previous[b.count]
}
