import Flows
import Glibc
import Reporting

/// Small facts about this machine and this process.
enum SystemFacts {
  static func hostName() -> String {
    var bytes = [CChar](repeating: 0, count: 256)
    guard unsafe gethostname(&bytes, bytes.count - 1) == 0 else { return "" }
    return text(bytes)
  }

  /// `uname -r`.
  static func kernelRelease() -> String {
    var names = utsname()
    guard unsafe uname(&names) == 0 else { return "" }
    return unsafe withUnsafeBytes(of: &names.release) { bytes in
      unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
  }

  /// The one number in a file of /proc; nil if it is not there.
  static func number(in path: String) -> UInt64? {
    guard let bytes = try? BoundedFile.read(path, limit: 64) else { return nil }
    return UInt64(String(decoding: bytes.prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self))
  }

  /// Eight bytes from the kernel's generator.
  static func randomBytes() -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 8)
    var random = SystemRandomNumberGenerator()
    let value = random.next()
    for index in 0..<8 { bytes[index] = UInt8(truncatingIfNeeded: value >> UInt64(8 * index)) }
    return bytes
  }

  static func randomSeed() -> UInt64 {
    var random = SystemRandomNumberGenerator()
    return random.next()
  }

  private static func text(_ bytes: [CChar]) -> String {
    String(decoding: bytes.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  /// CPU, memory and descriptors of this process, from /proc/self. What cannot be read stays 0.
  static func processUse(start: WallTime) -> ProcessUse {
    var use = ProcessUse()
    use.start = start
    var usage = rusage()
    if unsafe getrusage(RUSAGE_SELF.rawValue, &usage) == 0 {
      use.cpuNanoseconds =
        Int64(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * Nanoseconds.perSecond
        + Int64(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * Nanoseconds.perMicrosecond
    }
    if let bytes = try? BoundedFile.read("/proc/self/statm", limit: 4096) {
      let fields = bytes.split(separator: UInt8(ascii: " ")).prefix(2).map { UInt64(String(decoding: $0, as: UTF8.self)) ?? 0 }
      let page = UInt64(sysconf(Int32(_SC_PAGESIZE)))
      if fields.count == 2 {
        use.virtualBytes = fields[0] * page
        use.residentBytes = fields[1] * page
      }
    }
    if let directory = unsafe opendir("/proc/self/fd") {
      var count: UInt64 = 0
      while unsafe readdir(directory) != nil { count += 1 }
      unsafe closedir(directory)
      // Not counted: the two dots and the directory itself.
      use.openDescriptors = count > 3 ? count - 3 : 0
    }
    var limit = rlimit()
    if unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 { use.maxDescriptors = UInt64(limit.rlim_cur) }
    return use
  }
}
