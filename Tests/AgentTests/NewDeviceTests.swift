import Correlation
import Flows
import Foundation
import Glibc
import LinuxIO
import Testing

@testable import Agent

// Glibc's module is made without _GNU_SOURCE.
@_silgen_name("unshare") private func unshare(_ flags: Int32) -> Int32
@_silgen_name("setns") private func setns(_ descriptor: Int32, _ kind: Int32) -> Int32
private let newNetwork: Int32 = 0x4000_0000  // CLONE_NEWNET

/// A device is known before its first packet is looked at, though both come within one sweep.
@Suite(.enabled(if: geteuid() == 0 && access("/dev/net/tun", R_OK) == 0, "needs root and /dev/net/tun"), .serialized) struct NewDeviceTests {
  private static let devices = 25
  private static let queries = 3

  /// What the devices brought, of which the first packet follows their making at once: frames, and how many of them the engine was given.
  private func watch(excluding pattern: String?, waitsForAll: Bool) throws -> (frames: UInt64, judged: UInt64, sent: Int) {
    let home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)
    try #require(home >= 0 && unshare(newNetwork) == 0)
    defer {
      precondition(setns(home, newNetwork) == 0, "the test's thread is lost in its namespace")
      close(home)
    }
    var options = PipelineOptions()
    var configuration = Configuration()
    configuration.captureExclude = pattern
    options.interfaces = try InterfaceSelection(configuration)
    options.probe.isWanted = false
    let pipeline = try Pipeline(options, seed: 7, log: Log(level: .error))
    pipeline.open()
    let done = DispatchSemaphore(value: 0)
    let sent = Sent()
    // A thread is in the namespace of the one that makes it.
    let maker = Thread {
      for number in 0..<Self.devices {
        sent.descriptors.append(Self.use("x\(number)"))
        usleep(3000)
      }
      done.signal()
    }
    maker.start()
    if waitsForAll { done.wait() }
    while !waitsForAll, done.wait(timeout: .now()) == .timedOut { _ = pipeline.turn(until: pipeline.now + 20 * Nanoseconds.perMillisecond) }
    let end = Clocks.monotonic() + 100 * Nanoseconds.perMillisecond
    while Clocks.monotonic() < end { _ = pipeline.turn(until: end) }
    let totals = pipeline.engine.totals
    for descriptor in sent.descriptors { close(descriptor) }
    let judged = totals.transmissions[0] + totals.transmissions[1] + totals.transmissions[2] + totals.unmatchedCopies
    return (pipeline.tally.frames, judged, sent.descriptors.count { $0 >= 0 } * Self.queries)
  }

  private final class Sent: @unchecked Sendable {
    var descriptors: [Int32] = []
  }

  /// Makes a device and lets queries come in over it at once.
  ///
  /// - Returns: its descriptor, with which it goes; -1 if it could not be made.
  private static func use(_ name: String) -> Int32 {
    let tap = open("/dev/net/tun", O_RDWR | O_CLOEXEC)
    let control = socket(AF_INET, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    defer { close(control) }
    // struct ifreq: the name, then IFF_TAP | IFF_NO_PI for TUNSETIFF and IFF_UP for SIOCSIFFLAGS.
    var request = [UInt8](repeating: 0, count: 40)
    request.replaceSubrange(0..<name.utf8.count, with: Array(name.utf8))
    (request[16], request[17]) = (0x02, 0x10)
    let (setInterface, setFlags): (UInt, UInt) = (0x4004_54CA, 0x8914)
    guard request.withUnsafeMutableBytes({ ioctl(tap, setInterface, $0.baseAddress!) }) == 0 else { return -1 }
    (request[16], request[17]) = (0x01, 0)
    guard request.withUnsafeMutableBytes({ ioctl(control, setFlags, $0.baseAddress!) }) == 0 else { return -1 }
    let frame = query()
    return (0..<queries).allSatisfy { _ in write(tap, frame, frame.count) == frame.count } ? tap : -1
  }

  private static func query() -> [UInt8] {
    func big(_ values: [UInt16]) -> [UInt8] { values.flatMap { [UInt8($0 >> 8), UInt8($0 & 0xFF)] } }
    let message = big([9, 0x0100, 1, 0, 0, 0]) + [1, 0x61, 0] + big([1, 1])
    let length = UInt16(8 + message.count)
    let packet = [0x45, 0] + big([20 + length, 0, 0]) + [64, 17, 0, 0, 10, 0, 1, 2, 10, 1, 1, 2] + big([40000, 53, length, 0]) + message
    return [UInt8](repeating: 0xFF, count: 6) + [2, 0, 0, 0, 0, 9, 8, 0] + packet
  }

  /// In one sweep, and in many that fall anywhere between the making of a device and its packets.
  @Test(arguments: [true, false]) func anExcludedDeviceIsKnownBeforeItsFirstPacket(waitsForAll: Bool) throws {
    let seen = try watch(excluding: "^x", waitsForAll: waitsForAll)
    #expect(seen.sent == Self.devices * Self.queries && seen.frames == UInt64(seen.sent))
    #expect(seen.judged == 0)
    // The same packets are the engine's where the device is not excluded.
    let control = try watch(excluding: "^y", waitsForAll: waitsForAll)
    #expect(control.frames == UInt64(control.sent) && control.judged > 0)
  }

  /// A source that was not readable is passed over only if what it got since is younger than every packet that is looked at.
  @Test func readsWhatTheLoopDidNotFindReadableUnlessItIsSurelyYounger() {
    let start: Int64 = 500 * Nanoseconds.perSecond
    let wall: Int64 = 1_795_000_000 * Nanoseconds.perSecond
    func isCovered(_ bits: UInt64 = EventSet.sweep, looked: Int64 = 0, step: Int64 = 0, keepsYoung: Bool = true) -> Bool {
      var clock = WallToMonotonic(monotonic: Instant(nanoseconds: start), wall: WallTime(nanoseconds: wall))
      let later = 20 * Nanoseconds.perMillisecond
      clock.sweep(monotonic: Instant(nanoseconds: start + later), wall: WallTime(nanoseconds: wall + later + step))
      return SweepTiming.isCovered(EventSet(bits: bits), Instant(nanoseconds: start + later - looked), clock, keepsYoung: keepsYoung)
    }
    #expect(isCovered())
    #expect(isCovered(looked: 900 * Nanoseconds.perMicrosecond, step: 400 * Nanoseconds.perMicrosecond))
    // Woken by something else, or by the time that ran out: nobody looked.
    #expect(!isCovered(0) && !isCovered(1 << 3))
    // The thread was held up in between; the wall clock was stepped; the ring is nearly full.
    #expect(!isCovered(looked: Nanoseconds.perMillisecond))
    #expect(!isCovered(step: 500 * Nanoseconds.perMicrosecond) && !isCovered(step: -3600 * Nanoseconds.perSecond))
    #expect(!isCovered(keepsYoung: false))
  }
}

extension EventSet {
  /// What a sweep of the loop sets.
  fileprivate static var sweep: UInt64 {
    (0..<64).map { 1 << UInt64($0) }.first { EventSet(bits: $0).isSweep } ?? 0
  }
}
