import Flows
import Foundation
import Glibc
import Synchronization
import Testing

@testable import LinuxIO

private let interruptions = Atomic(0)

struct EventLoopTests {
  private struct Pipe: ~Copyable {
    let reader: Int32
    let writer: Int32

    init() {
      var ends: [Int32] = [0, 0]
      precondition(pipe2(&ends, O_CLOEXEC | O_NONBLOCK) == 0)
      (reader, writer) = (ends[0], ends[1])
    }

    deinit {
      close(reader)
      close(writer)
    }

    func write() { _ = Glibc.write(writer, "x", 1) }
    func drain() {
      var bytes = [UInt8](repeating: 0, count: 64)
      while read(reader, &bytes, 64) > 0 {}
    }
  }

  private static let one = EventToken(1)
  private static let two = EventToken(2)

  @Test func joinsSweptSourcesInOneSweep() throws {
    var loop = try EventLoop(sweepDelay: 20 * Nanoseconds.perMillisecond)
    let first = Pipe()
    let second = Pipe()
    try loop.add(first.reader, as: Self.one, .swept)
    try loop.add(second.reader, as: Self.two, .swept)
    for round in UInt64(1)...3 {
      let start = Clocks.monotonic()
      first.write()
      second.write()
      let set = loop.wait()
      #expect(set.isSweep && set.contains(Self.one) && set.contains(Self.two))
      #expect(Clocks.monotonic() - start >= 20 * Nanoseconds.perMillisecond)
      #expect(loop.wakeups == 2 * round)
      first.drain()
      second.drain()
    }
    // Everything is drained: nothing wakes until something comes.
    #expect(loop.wait(timeoutMilliseconds: 100).isEmpty)
    #expect(loop.wakeups == 7)
  }

  @Test func sweepsAgainWhatWasNotDrained() throws {
    var loop = try EventLoop(sweepDelay: Nanoseconds.perMillisecond)
    let pipe = Pipe()
    try loop.add(pipe.reader, as: Self.one, .swept)
    pipe.write()
    #expect(loop.wait().contains(Self.one))
    #expect(loop.wait(timeoutMilliseconds: 5000).contains(Self.one))
    pipe.drain()
    #expect(loop.wait(timeoutMilliseconds: 50).isEmpty)
    pipe.write()
    loop.remove(pipe.reader, .swept)
    #expect(loop.wait(timeoutMilliseconds: 50).isEmpty)
  }

  @Test func sweepsOnRequestThoughNothingIsReadable() throws {
    var loop = try EventLoop(sweepDelay: Nanoseconds.perMillisecond)
    loop.requestSweep()
    let set = loop.wait(timeoutMilliseconds: 5000)
    #expect(set.isSweep && !set.contains(Self.one))
    loop.requestSweep()
    #expect(loop.wait(timeoutMilliseconds: 5000).isSweep)
    #expect(loop.wait(timeoutMilliseconds: 50).isEmpty)
  }

  @Test func immediateSourcesDoNotWaitForTheSweep() throws {
    var loop = try EventLoop(sweepDelay: 5 * Nanoseconds.perSecond)
    let swept = Pipe()
    let immediate = Pipe()
    try loop.add(swept.reader, as: Self.one, .swept)
    try loop.add(immediate.reader, as: Self.two, .immediate)
    swept.write()
    immediate.write()
    let set = loop.wait()
    #expect(set.contains(Self.two) && !set.isSweep && !set.contains(Self.one))
  }

  /// A source that nobody drains wakes the thread at once and again: the sweep comes when its delay is over, neither before nor later.
  @Test(arguments: [20 * Nanoseconds.perMillisecond, 20 * Nanoseconds.perMillisecond + 333_333])
  func theSweepComesThoughOthersWake(delay: Int64) throws {
    var loop = try EventLoop(sweepDelay: delay)
    let swept = Pipe()
    let immediate = Pipe()
    try loop.add(swept.reader, as: Self.one, .swept)
    try loop.add(immediate.reader, as: Self.two, .immediate)
    for isDrained in [true, false] {
      let start = Clocks.monotonic()
      swept.write()
      var (others, set) = (0, EventSet())
      while !set.isSweep, Clocks.monotonic() - start < Nanoseconds.perSecond {
        immediate.write()
        set = loop.wait(timeoutMilliseconds: 7)
        if set.contains(Self.two) { others += 1 }
        if isDrained { immediate.drain() }
        usleep(700)
      }
      let took = Clocks.monotonic() - start
      #expect(set.isSweep && set.contains(Self.one) && others > 3)
      #expect(took >= delay && took < delay + 200 * Nanoseconds.perMillisecond)
      #expect(loop.sweepRead >= start + delay && loop.sweepRead <= start + took)
      swept.drain()
      immediate.drain()
    }
  }

  /// The caller's time runs out before the sweep is due, again and again: the sweep is not put off by it.
  @Test func theSweepComesThoughTheTimeRunsOut() throws {
    var loop = try EventLoop(sweepDelay: 20 * Nanoseconds.perMillisecond)
    let swept = Pipe()
    try loop.add(swept.reader, as: Self.one, .swept)
    swept.write()
    let start = Clocks.monotonic()
    var turns = 0
    while !loop.wait(timeoutMilliseconds: 3).isSweep, turns < 1000 { turns += 1 }
    let took = Clocks.monotonic() - start
    #expect(turns >= 2 && took >= 20 * Nanoseconds.perMillisecond && took < 220 * Nanoseconds.perMillisecond)
  }

  /// A signal with a handler interrupts the wait: the sweep comes in its time all the same.
  @Test func theSweepComesThoughSignalsInterrupt() throws {
    var loop = try EventLoop(sweepDelay: 60 * Nanoseconds.perMillisecond)
    let swept = Pipe()
    try loop.add(swept.reader, as: Self.one, .swept)
    let former = signal(SIGURG) { _ in interruptions.add(1, ordering: .relaxed) }
    // A thread of the pool blocks signals.
    var urgent = sigset_t()
    var mask = sigset_t()
    sigemptyset(&urgent)
    sigaddset(&urgent, SIGURG)
    pthread_sigmask(SIG_UNBLOCK, &urgent, &mask)
    defer {
      pthread_sigmask(SIG_SETMASK, &mask, nil)
      signal(SIGURG, former)
    }
    let waiter = pthread_self()
    let done = DispatchSemaphore(value: 0)
    let interrupter = Thread {
      for _ in 0..<8 {
        usleep(5_300)
        pthread_kill(waiter, SIGURG)
      }
      done.signal()
    }
    swept.write()
    let start = Clocks.monotonic()
    interrupter.start()
    let set = loop.wait(timeoutMilliseconds: 2000)
    let took = Clocks.monotonic() - start
    let interrupted = interruptions.load(ordering: .relaxed)
    done.wait()
    #expect(set.isSweep && interrupted > 0)
    #expect(took >= 60 * Nanoseconds.perMillisecond && took < 260 * Nanoseconds.perMillisecond)
  }

  @Test func timersFireOnceOrPeriodically() throws {
    var loop = try EventLoop()
    let once = try Timer()
    let periodic = try Timer()
    try loop.add(once.descriptor, as: Self.one, .edge)
    try loop.add(periodic.descriptor, as: Self.two, .edge)
    once.arm(after: Nanoseconds.perMillisecond)
    #expect(loop.wait(timeoutMilliseconds: 5000).contains(Self.one))
    #expect(loop.wait(timeoutMilliseconds: 30).isEmpty)
    periodic.arm(every: 2 * Nanoseconds.perMillisecond)
    for _ in 0..<5 {
      #expect(loop.wait(timeoutMilliseconds: 5000).contains(Self.two))
      #expect(periodic.takeExpiries() > 0)
    }
    periodic.disarm()
    _ = loop.wait(timeoutMilliseconds: 0)
    #expect(loop.wait(timeoutMilliseconds: 30).isEmpty)
    once.arm(at: Clocks.monotonic())
    #expect(loop.wait(timeoutMilliseconds: 5000).contains(Self.one))
  }

  @Test func signalsArriveAsRequests() throws {
    var before = sigset_t()
    pthread_sigmask(SIG_BLOCK, nil, &before)
    defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
    var loop = try EventLoop()
    let signals = try Signals()
    try loop.add(signals.descriptor, as: Self.one, .immediate)
    // To this thread alone: the others of the test process do not block it.
    raise(SIGHUP)
    #expect(loop.wait(timeoutMilliseconds: 5000).contains(Self.one))
    #expect(signals.next() == .reload)
    #expect(signals.next() == nil)
    raise(SIGTERM)
    #expect(signals.next() == .stop)
    raise(SIGINT)
    #expect(signals.next() == .stop)
    #expect(loop.wait(timeoutMilliseconds: 20).isEmpty)
  }
}
