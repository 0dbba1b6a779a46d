import Foundation
import Glibc
import TestSupport
import Testing

@testable import Agent

/// What becomes of lines when the file is moved, the disk is full or the reader goes.
@Suite struct RecordOutputTests {
  private func line(_ text: String) -> [UInt8] { Array("\(text)\n".utf8) }
  private func text(_ path: String) throws -> String { try String(contentsOfFile: path, encoding: .utf8) }

  @Test func aRotatedFileIsLeftForANewOneOfItsName() throws {
    let file = try TemporaryFile("")
    let moved = file.path + ".1"
    defer { unlink(moved) }
    let output = try RecordOutput(.file(file.path))
    #expect(output.append(line("one")))
    #expect(rename(file.path, moved) == 0)
    // What waits belongs to the old file.
    try output.reopen()
    #expect(output.append(line("two")))
    output.flush()
    #expect(try text(moved) == "one\n" && text(file.path) == "two\n")
    #expect(output.problem == nil && output.droppedLines == 0)
  }

  @Test func aFileThatCannotBeOpenedAgainIsKept() throws {
    let file = try TemporaryFile("")
    let output = try RecordOutput(.file(file.path))
    unlink(file.path)
    #expect(mkdir(file.path, 0o700) == 0)
    defer { rmdir(file.path) }
    #expect(throws: OutputError.self) { try output.reopen() }
    #expect(output.append(line("one")))
    output.flush()
    #expect(output.problem == nil && output.droppedLines == 0)
  }

  @Test func aFullDiskKeepsLinesWaiting() throws {
    let output = try RecordOutput(.file("/dev/full"))
    #expect(output.append(line("one")))
    output.flush()
    output.flush()
    #expect(output.problem == "No space left on device" && output.droppedLines == 0)
    output.finish()
    #expect(output.droppedLines == 1)
  }

  /// A file system with room for half a line: the line is whole once there is room again.
  @Test(.enabled(if: geteuid() == 0, "needs root for a file system of its own")) func aLineIsEndedWhenThereIsRoomAgain() throws {
    let directory = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString).path
    #expect(mkdir(directory, 0o700) == 0)
    defer { rmdir(directory) }
    try Command.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", directory])
    defer { umount2(directory, 2) }
    let path = directory + "/records"
    let output = try RecordOutput(.file(path))
    let long = String(repeating: "x", count: 50_000)
    for name in ["a", "b", "c"] { #expect(output.append(line(name + long))) }
    output.flush()
    #expect(output.problem != nil && output.droppedLines == 0)
    let torn = try text(path)
    #expect(torn.utf8.count < 100_000 && !torn.hasSuffix("\n"), "the disk was not full")
    try Command.run(["mount", "-o", "remount,size=1m", directory])
    output.flush()
    #expect(output.problem == nil)
    #expect(try text(path) == ["a", "b", "c"].map { $0 + long + "\n" }.joined())
  }

  @Test func aReaderThatGoesLosesLinesAndIsToldOf() throws {
    let file = try TemporaryFile("")
    unlink(file.path)
    #expect(mkfifo(file.path, 0o600) == 0)
    signal(SIGPIPE, SIG_IGN)
    // Nobody reads: refused at once, not waited for.
    let refused = #expect(throws: OutputError.self) { _ = try RecordOutput(.file(file.path)) }
    #expect(refused?.problem.contains("nobody reads it") == true)
    let reader = open(file.path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)
    let output = try RecordOutput(.file(file.path))
    // More than a pipe holds: the last line that it takes is torn.
    for _ in 0..<100 { #expect(output.append(line(String(repeating: "x", count: 999)))) }
    output.flush()
    #expect(output.problem == nil)
    close(reader)
    output.flush()
    #expect(output.problem == "Broken pipe" && (30...100).contains(output.droppedLines))
    let dropped = output.droppedLines
    let next = open(file.path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)
    defer { close(next) }
    // The pipe kept what it had, up to the torn line.
    let torn = Self.drain(next)
    #expect(torn.last == UInt8(ascii: "x") && torn.count { $0 == UInt8(ascii: "\n") } == 100 - Int(dropped))
    #expect(output.append(line("whole")))
    output.flush()
    #expect(output.problem == nil && output.droppedLines == dropped)
    #expect(String(decoding: Self.drain(next), as: UTF8.self) == "\nwhole\n")
  }

  private static func drain(_ descriptor: Int32) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 1 << 17)
    let count = read(descriptor, &bytes, bytes.count)
    return Array(bytes[..<max(0, count)])
  }
}
