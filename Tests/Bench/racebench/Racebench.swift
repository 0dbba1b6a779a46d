import CBench
import CConntrack
import Glibc
import LinuxIO

/// The benchmark's programs: `floor [ring]`, `send DEVICE GATEWAY RATE COUNT FIRST`, `respond ADDRESS mute|answer`.
@main
enum Racebench {
  /// 10.77.0.1, and the service 10.96.0.10; the addresses of Tests/Bench/lab.py.
  private static let source: UInt32 = 0x0A4D_0001
  private static let server: UInt32 = 0x0A60_000A
  private static let backend: UInt32 = 0x0A4E_0002

  static func main() throws {
    let words = CommandLine.arguments.dropFirst()
    switch words.first {
    case "floor" where words.count == 1 || words.last == "ring":
      let options = PacketRingOptions()
      let filter = try PacketFilter(ports: options.ports, snapLength: options.snapLength)
      exit(bench_floor(filter.program, UInt16(filter.program.count), words.last == "ring" ? 1 : 0))
    case "send" where words.count == 6:
      exit(send(Array(words.dropFirst())))
    case "respond" where words.count == 2:
      exit(bench_respond(backend, words.last == "mute" ? 1 : 0))
    default:
      print("usage: racebench floor [ring] | send DEVICE GATEWAY RATE COUNT FIRST | respond mute|answer")
      exit(2)
    }
  }

  private static func send(_ words: [String]) -> Int32 {
    let gateway = words[1].split(separator: ":").compactMap { UInt8($0, radix: 16) }
    guard gateway.count == 6, let rate = UInt32(words[2]), let count = UInt32(words[3]), let first = UInt32(words[4]) else { return 2 }
    return words[0].withCString { device in
      var load = bench_load()
      load.rate = rate
      load.count = count
      load.source = source
      load.server = server
      load.gateway = (gateway[0], gateway[1], gateway[2], gateway[3], gateway[4], gateway[5])
      load.device = device
      load.first = first
      return bench_send(&load)
    }
  }
}
