import Flows
import Testing

@Suite struct IPAddressTests {
  /// Text as RFC 5952 writes it: parsed, it prints itself again.
  @Test(arguments: [
    "0.0.0.0", "10.96.0.10", "255.255.255.255", "127.0.0.1", "::", "::1", "1::", "fd00:40::17", "2001:db8::1", "2001:db8:0:1:1:1:1:1",
    "2001:db8::1:0:0:1", "2001:0:0:1::1", "2001:db8:1:2:3:4:5:6", "fe80::1", "ff02::fb", "64:ff9b::a00:1", "::ffff:ffff:ffff:ffff", "1:2:3:4:5:6:7:0",
    "0:1:2:3:4:5:6:7", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
  ])
  func canonicalTextSurvives(_ text: String) throws {
    let address = try #require(IPAddress(text))
    #expect(address.description == text)
    var bytes = Array("x".utf8)
    address.appendText(to: &bytes)
    #expect(bytes == Array("x".utf8) + Array(text.utf8))
  }

  @Test(arguments: [
    // RFC 5952 4: leading zeros, one zero group is not compressed, the longest run is, the first of two alike, lower case.
    ("2001:0db8::0001", "2001:db8::1"), ("2001:db8:0:0:0:0:2:1", "2001:db8::2:1"), ("2001:db8::1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
    ("2001:0:0:1:0:0:0:1", "2001:0:0:1::1"), ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"), ("2001:DB8::ABCD", "2001:db8::abcd"),
    ("0:0:0:0:0:0:0:0", "::"), ("1:0:0:0:0:0:0:0", "1::"), ("0:0:0:0:0:0:0:1", "::1"), ("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"),
    ("::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"), ("64:ff9b::10.0.0.1", "64:ff9b::a00:1"), ("1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:102:304"),
    // An IPv4-mapped address is that IPv4 address.
    ("::ffff:10.0.0.1", "10.0.0.1"), ("::ffff:a00:1", "10.0.0.1"),
  ])
  func otherTextIsMadeCanonical(_ text: String, _ canonical: String) throws {
    #expect(try #require(IPAddress(text)).description == canonical)
  }

  @Test(arguments: [
    "", " ", "1", "1.2.3", "1.2.3.4.5", "1.2.3.256", "1.2.3.04", "1.2.3.-1", "1.2.3.+1", "1..2.3", ".1.2.3", "1.2.3.", "1.2.3.4 ", "0x1.2.3.4",
    "a.b.c.d",
    "1.2.3.4444444444444444444444", ":", ":::", "::1::", "1::2::3", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7:8::", "::1:2:3:4:5:6:7:8",
    ":1:2:3:4:5:6:7:8",
    "1:2:3:4:5:6:7:8:", "1:", ":1", "::1:", "12345::", "::g", "::-0", "::-1", "::+1", "::+", "fe80::1%eth0", "[::1]", "::1.2.3", "::1.2.3.4:5",
    "1.2.3.4::",
    "1:2:3:4:5:6:7:1.2.3.4", "::1.2.3.4.", "::1/64", "::１", "1 ::",
  ])
  func otherTextIsRefused(_ text: String) {
    #expect(IPAddress(text) == nil)
  }

  @Test func everyRunOfZerosPrintsWhatParsesBack() throws {
    for zeros in 0..<256 {
      var high: UInt64 = 0
      var low: UInt64 = 0
      for group in 0..<8 {
        let value: UInt64 = zeros >> group & 1 == 1 ? 0 : 0xA0
        if group < 4 { high = high << 16 | value } else { low = low << 16 | value }
      }
      let address = IPAddress(high: high, low: low)
      #expect(IPAddress(address.description) == address)
    }
  }

  @Test func kinds() throws {
    #expect(IPAddress(v4: 0x0A00_0001).isV4 && IPAddress(v4: 0x0A00_0001).v4 == 0x0A00_0001)
    #expect(IPAddress(v4: 0x0A00_0001) == IPAddress("10.0.0.1"))
    #expect(!IPAddress.unspecified.isV4)
    for text in ["127.0.0.1", "127.255.0.9", "::1"] { #expect(try #require(IPAddress(text)).isLoopback) }
    for text in ["128.0.0.1", "126.0.0.1", "::2", "::", "1::1"] { #expect(try !#require(IPAddress(text)).isLoopback) }
    for text in ["224.0.0.251", "239.1.1.1", "ff02::fb", "ff00::"] { #expect(try #require(IPAddress(text)).isMulticast) }
    for text in ["223.255.255.255", "240.0.0.1", "fe80::1"] { #expect(try !#require(IPAddress(text)).isMulticast) }
  }

  @Test func numbers() {
    func decimal(_ value: UInt64) -> String {
      var out: [UInt8] = Array(">".utf8)
      appendDecimal(value, to: &out)
      return String(decoding: out, as: UTF8.self)
    }
    func hexadecimal(_ value: UInt64) -> String {
      var out: [UInt8] = Array(">".utf8)
      appendHexadecimal(value, to: &out)
      return String(decoding: out, as: UTF8.self)
    }
    for value in [0, 1, 9, 10, 99, 100, 12_345, UInt64.max] {
      #expect(decimal(value) == ">\(value)")
      #expect(hexadecimal(value) == ">" + String(value, radix: 16))
    }
  }
}
