import Glibc
import Testing

@testable import LinuxIO

/// Capabilities belong to threads: each test spends one.
private func onOwnThread(_ body: @escaping () -> Void) {
  final class Box {
    let body: () -> Void
    init(_ body: @escaping () -> Void) { self.body = body }
  }
  let box = Box(body)
  var thread = pthread_t()
  pthread_create(
    &thread, nil,
    { context in
      Unmanaged<Box>.fromOpaque(context!).takeUnretainedValue().body()
      return nil
    }, Unmanaged.passUnretained(box).toOpaque())
  pthread_join(thread, nil)
  withExtendedLifetime(box) {}
}

@Suite(.enabled(if: geteuid() == 0, "needs root"))
struct CapabilitiesTests {
  @Test func keepsOnlyWhatIsAskedFor() {
    let here = Capabilities.effective()
    #expect(here.isSuperset(of: [.netAdmin, .netRaw]))
    var (before, after) = (Capabilities(), here)
    var failure: String?
    var ringFailure: String?
    onOwnThread {
      before = Capabilities.effective()
      do {
        // One that no kernel has is not asked for.
        try Capabilities.keepOnly([.netAdmin, .sysPtrace, Capabilities(rawValue: 1 << 63)])
      } catch {
        failure = "\(error)"
      }
      after = Capabilities.effective()
      do throws(SetupError) { _ = try PacketRing() } catch { ringFailure = error.description }
    }
    #expect(failure == nil)
    #expect(before == here)
    #expect(after == here.intersection([.netAdmin, .sysPtrace]))
    #expect(ringFailure == "packet socket: Operation not permitted; needs CAP_NET_RAW")
    #expect(Capabilities.effective() == here)
  }

  @Test func namesAreTheKernels() {
    #expect(Capabilities([.netRaw, .bpf]).names == ["CAP_NET_RAW", "CAP_BPF"])
  }
}
