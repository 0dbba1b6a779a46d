import CLinux
import Flows
import Glibc
import Testing

@testable import LinuxIO

/// A ring in which anything may stand: no frame is lent that does not lie within its block, and each that the block claims is lent or counted.
@Suite struct HostileRingTests {
  private static let blockSize = 4096
  private static let blockCount = 4
  /// Where the first frame of a block stands (`BLK_PLUS_PRIV` in net/packet/af_packet.c).
  private static let first: UInt32 = 48

  private struct Frame {
    var next: UInt32 = 128
    var data: UInt32 = 80
    var captured: UInt32 = 40
  }

  private struct Outcome: Equatable {
    var lent = 0
    var malformed: UInt64 = 0
    var isGivenBack = false
  }

  /// Lends what one block claims to hold, the second, with nothing that can be read around the ring.
  private func walk(_ frames: [Frame], claimed: UInt32, first: UInt32 = Self.first) throws -> Outcome {
    let page = Int(sysconf(Int32(_SC_PAGESIZE)))
    let size = Self.blockSize * Self.blockCount
    let whole = try #require(mmap(nil, size + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))
    let memory = whole + page
    try #require(whole != MAP_FAILED && mprotect(memory, size, PROT_READ | PROT_WRITE) == 0)
    defer {
      munmap(whole, page)
      munmap(memory + size, page)
    }
    var options = PacketRingOptions()
    options.blockSize = UInt32(Self.blockSize)
    options.blockCount = UInt32(Self.blockCount)
    let socket = try Descriptor(socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0), "socket", remedy: "none")
    var ring = PacketRing(socket: socket, memory: memory, options)
    // An empty block first, so that what lies before the second one can be read, but is not its own.
    Self.hand(memory, frames: [], claimed: 0, first: Self.first)
    let block = memory + Self.blockSize
    Self.hand(block, frames: frames, claimed: claimed, first: first)
    ring.collect()
    var outcome = Outcome()
    var sum: UInt64 = 0
    ring.process(upTo: WallTime(nanoseconds: .max)) { _, bytes in
      outcome.lent += 1
      bytes.withUnsafeBytes { buffer in
        if let start = buffer.baseAddress {
          #expect(start >= UnsafeRawPointer(block) && start + buffer.count <= UnsafeRawPointer(block + Self.blockSize))
        }
        for byte in buffer { sum &+= UInt64(byte) }
      }
    }
    outcome.malformed = ring.malformed
    outcome.isGivenBack = clinux_block_is_owned(block) == 0 && ring.heldBlocks == 0
    return outcome
  }

  private static func hand(_ block: UnsafeMutableRawPointer, frames: [Frame], claimed: UInt32, first: UInt32) {
    let description = block.assumingMemoryBound(to: tpacket_block_desc.self)
    description.pointee.hdr.bh1.num_pkts = claimed
    description.pointee.hdr.bh1.offset_to_first_pkt = first
    description.pointee.hdr.bh1.block_status = UInt32(TP_STATUS_USER)
    var offset = Int(first)
    for (number, frame) in frames.enumerated() where offset >= 48 && offset + MemoryLayout<tpacket3_hdr>.size <= blockSize {
      let header = (block + offset).assumingMemoryBound(to: tpacket3_hdr.self)
      header.pointee.tp_next_offset = frame.next
      header.pointee.tp_sec = UInt32(truncatingIfNeeded: number)
      header.pointee.tp_snaplen = frame.captured
      header.pointee.tp_len = frame.captured
      header.pointee.tp_net = UInt16(truncatingIfNeeded: frame.data)
      offset += Int(frame.next)
    }
  }

  @Test func goodFramesAreLent() throws {
    let frames = [Frame](repeating: Frame(), count: 20)
    #expect(try walk(frames, claimed: 20) == Outcome(lent: 20, malformed: 0, isGivenBack: true))
    // Up to the block's last byte, and one more.
    let last = UInt32(Self.blockSize) - Self.first - 80
    #expect(try walk([Frame(captured: last)], claimed: 1) == Outcome(lent: 1, malformed: 0, isGivenBack: true))
    #expect(try walk([Frame(captured: last + 1)], claimed: 1) == Outcome(lent: 0, malformed: 1, isGivenBack: true))
  }

  @Test func aFrameThatLeavesItsBlockEndsIt() throws {
    for captured: UInt32 in [4096, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFB0, .max] {
      let frames = [Frame(), Frame(captured: captured), Frame()]
      #expect(try walk(frames, claimed: 3) == Outcome(lent: 1, malformed: 2, isGivenBack: true), "captured \(captured)")
    }
    for data: UInt32 in [4096, 0x7FFF, 0xFFFF] {
      #expect(try walk([Frame(), Frame(data: data)], claimed: 2) == Outcome(lent: 1, malformed: 1, isGivenBack: true), "data \(data)")
    }
    for next: UInt32 in [4096, 4000, 0x7FFF_FFFF, 0x8000_0000, .max] {
      #expect(try walk([Frame(next: next)], claimed: 7) == Outcome(lent: 1, malformed: 6, isGivenBack: true), "next \(next)")
    }
    for first: UInt32 in [4096, 4090, 0x7FFF_FFFF, 0x8000_0000, .max] {
      #expect(try walk([Frame()], claimed: 5, first: first) == Outcome(lent: 0, malformed: 5, isGivenBack: true), "first \(first)")
    }
  }

  /// The same frame again and again: as often as the block claims, and no more.
  @Test func aFrameThatPointsToItselfEnds() throws {
    #expect(try walk([Frame(next: 0)], claimed: 100) == Outcome(lent: 100, malformed: 0, isGivenBack: true))
  }

  @Test func anyHeaders() throws {
    var generator = SystemRandomNumberGenerator()
    let edges: [UInt32] = [0, 1, 8, 48, 68, 80, 96, 128, 4000, 4028, 4095, 4096, 4097, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF]
    func any() -> UInt32 { Bool.random(using: &generator) ? edges.randomElement(using: &generator)! : .random(in: 0...4200, using: &generator) }
    for _ in 0..<3000 {
      let frames = (0..<12).map { _ in Bool.random(using: &generator) ? Frame() : Frame(next: any(), data: any(), captured: any()) }
      let claimed = UInt32.random(in: 0...120, using: &generator)
      let outcome = try walk(frames, claimed: claimed, first: Int.random(in: 0..<8, using: &generator) == 0 ? any() : Self.first)
      #expect(UInt64(outcome.lent) + outcome.malformed == UInt64(claimed) && outcome.isGivenBack, "\(frames)")
    }
  }
}
