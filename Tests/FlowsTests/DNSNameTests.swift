import Flows
import Testing

@Suite struct DNSNameTests {
  @Test(
    arguments: [
      ([0], "."),
      ([], ""),
      ([1, 0x61, 0], "a"),
      ([3] + Array("wWw".utf8) + [7] + Array("Example".utf8) + [0], "wWw.Example"),
      // A dot inside a label is not one between labels.
      ([3] + Array("a.b".utf8) + [1, 0x63, 0], #"a\.b.c"#),
      ([8] + Array(#".\"();@$"#.utf8) + [0], #"\.\\\"\(\)\;\@\$"#),
      ([6, 0, 9, 10, 13, 27, 31, 0], #"\000\009\010\013\027\031"#),
      ([4, 32, 127, 128, 255, 0], #"\032\127\128\255"#),
      ([9] + Array("_-*'!~<>{".utf8) + [0], "_-*'!~<>{"),
      ([4] + Array("ü€".utf8.prefix(4)) + [0], #"\195\188\226\130"#),
    ] as [([UInt8], String)])
  func presentation(_ wire: [UInt8], _ text: String) {
    #expect(DNSName.presentation(wire) == text)
    var out = Array("x".utf8)
    DNSName.appendPresentation(wire, to: &out)
    #expect(out == Array("x".utf8) + Array(text.utf8))
  }

  @Test func everyByteIsWrittenInPrintableASCIIAndReadsBack() {
    for byte in 0...UInt8.max {
      var out: [UInt8] = []
      DNSName.appendPresentation([3, 0x61, byte, 0x62, 0], to: &out)
      #expect(out.allSatisfy { (0x21...0x7E).contains($0) })
      #expect(unescaped(out) == [0x61, byte, 0x62], "\(byte)")
    }
  }

  /// What is no name (a length past the end, no root) is written as far as it goes.
  @Test func malformed() {
    #expect(DNSName.presentation([5, 0x61]) == "a")
    #expect(DNSName.presentation([1, 0x61]) == "a")
    #expect(DNSName.presentation([255]) == ".")
    #expect(DNSName.presentation([1, 0x61, 0, 1, 0x62, 0]) == "a")
  }

  @Test func longestNameStaysWithinFourBytesAByte() {
    let label = [63] + [UInt8](repeating: 0, count: 63)
    let wire = label + label + label + [61] + [UInt8](repeating: 0, count: 61) + [0]
    #expect(wire.count == 255)
    #expect(DNSName.presentation(wire).utf8.count == 4 * 250 + 3)
  }

  private func unescaped(_ text: [UInt8]) -> [UInt8] {
    var out: [UInt8] = []
    var index = 0
    while index < text.count {
      guard text[index] == UInt8(ascii: "\\") else {
        out.append(text[index])
        index += 1
        continue
      }
      if (0x30...0x39).contains(text[index + 1]) {
        let value = text[(index + 1)...(index + 3)].reduce(0) { $0 * 10 + Int($1 - 0x30) }
        out.append(UInt8(value))
        index += 4
      } else {
        out.append(text[index + 1])
        index += 2
      }
    }
    return out
  }
}
