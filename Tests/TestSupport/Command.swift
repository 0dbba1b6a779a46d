import Foundation
import Glibc

/// A program run to its end.
package struct CommandResult: Sendable {
  package let status: Int32
  package let output: String
  package let errors: String
}

/// Why the laboratory could not do what a test asked of it.
package struct LabError: Error, CustomStringConvertible {
  package let description: String
  package init(_ description: String) { self.description = description }
}

/// A program in the background. Its output goes to files, so that no pipe fills up. Killed at the latest with its owner.
package final class Background {
  package let pid: pid_t
  package let outputPath: String
  package let errorPath: String
  private var exit: Int32?

  /// Starts `arguments[0]`, looked up in PATH. Standard input is /dev/null or the text given.
  package init(_ arguments: [String], input: String? = nil, environment: [String: String] = [:]) throws {
    let stem = Lab.scratch + "/\(UUID().uuidString)"
    outputPath = stem + ".out"
    errorPath = stem + ".err"
    var inputPath = "/dev/null"
    if let input {
      inputPath = stem + ".in"
      try input.write(toFile: inputPath, atomically: false, encoding: .utf8)
    }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, 0, inputPath, O_RDONLY, 0)
    posix_spawn_file_actions_addopen(&actions, 1, outputPath, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
    posix_spawn_file_actions_addopen(&actions, 2, errorPath, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
    // The test runner blocks signals; a child must start without that.
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var none = sigset_t()
    var every = sigset_t()
    sigemptyset(&none)
    sigfillset(&every)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setsigdefault(&attributes, &every)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))
    var argv: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
    let merged = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    var envp: [UnsafeMutablePointer<CChar>?] = merged.map { strdup("\($0.key)=\($0.value)") } + [nil]
    defer { for pointer in argv + envp { free(pointer) } }
    var started: pid_t = 0
    let failure = posix_spawnp(&started, arguments[0], &actions, &attributes, &argv, &envp)
    guard failure == 0 else { throw LabError("start \(arguments[0]): \(String(cString: strerror(failure)))") }
    pid = started
  }

  deinit {
    if exit == nil {
      kill(pid, SIGKILL)
      var status: Int32 = 0
      waitpid(pid, &status, 0)
    }
    for path in [outputPath, errorPath, String(outputPath.dropLast(3)) + "in"] { unlink(path) }
  }

  package var output: String { read(outputPath) }
  package var errors: String { read(errorPath) }

  private func read(_ path: String) -> String {
    guard let bytes = FileManager.default.contents(atPath: path) else { return "" }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// The exit status, if it has ended: 128 + n for signal n.
  package var exitStatus: Int32? {
    if exit == nil {
      var status: Int32 = 0
      if waitpid(pid, &status, WNOHANG) == pid { exit = status & 0x7f == 0 ? (status >> 8) & 0xff : 128 + (status & 0x7f) }
    }
    return exit
  }

  /// Waits for the end; nil if it did not come in time.
  package func wait(seconds: Double) -> Int32? {
    let end = Clock.now + seconds
    var pause: UInt32 = 500
    while exitStatus == nil && Clock.now < end {
      usleep(pause)
      pause = min(pause * 2, 20_000)
    }
    return exitStatus
  }

  package func signal(_ number: Int32) { if exit == nil { kill(pid, number) } }
}

/// Seconds of CLOCK_MONOTONIC.
package enum Clock {
  package static var now: Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }

  /// Asks `condition` until it holds. False if it did not in time.
  package static func poll(seconds: Double, every interval: Double = 0.05, _ condition: () throws -> Bool) rethrows -> Bool {
    let end = now + seconds
    while true {
      if try condition() { return true }
      if now >= end { return false }
      usleep(UInt32(interval * 1e6))
    }
  }
}

package enum Command {
  /// Runs a program and returns what it said, whatever its status.
  package static func result(_ arguments: [String], input: String? = nil, seconds: Double = 60) throws -> CommandResult {
    let process = try Background(arguments, input: input)
    guard let status = process.wait(seconds: seconds) else { throw LabError("\(arguments.joined(separator: " ")): no end after \(seconds) s") }
    return CommandResult(status: status, output: process.output, errors: process.errors)
  }

  /// Runs a program that must succeed and returns its standard output.
  @discardableResult
  package static func run(_ arguments: [String], input: String? = nil, seconds: Double = 60) throws -> String {
    let result = try result(arguments, input: input, seconds: seconds)
    guard result.status == 0 else {
      throw LabError("\(arguments.prefix(8).joined(separator: " ")): status \(result.status): \(result.errors.prefix(2000))")
    }
    return result.output
  }
}

/// The programs under test, built beside the test bundle.
package enum Executables {
  package static let directory: String = {
    let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]
    for candidate in [own, CommandLine.arguments[0]] + CommandLine.arguments.filter({ $0.contains(".xctest") }) {
      let directory = (candidate as NSString).deletingLastPathComponent
      if FileManager.default.isExecutableFile(atPath: directory + "/racelab") { return directory }
    }
    return (own as NSString).deletingLastPathComponent
  }()

  package static var racelab: String { directory + "/racelab" }
  package static var racetrack: String { ProcessInfo.processInfo.environment["RACETRACK_UNDER_TEST"] ?? directory + "/racetrack" }
}
