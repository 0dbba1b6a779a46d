// swift-tools-version: 6.2
// racetrack: names the DNS query that a connection-tracking race cost. No package dependencies: C libraries come from Debian's -dev packages.
import PackageDescription

let swift: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .strictMemorySafety(),
  .treatAllWarnings(as: .error),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableExperimentalFeature("Lifetimes"),
  // The pipeline is one thread and takes no overlapping accesses (debug builds and their tests check it); the checks are an eighth of a query's cost.
  .unsafeFlags(["-enforce-exclusivity=unchecked"], .when(configuration: .release)),
]
let testSwift: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .treatAllWarnings(as: .error),
  .enableUpcomingFeature("ExistentialAny"),
]
let c: [CSetting] = [
  .treatAllWarnings(as: .error), .enableWarning("all"), .enableWarning("extra"),
  .define("_GNU_SOURCE"),
]

let package = Package(
  name: "racetrack",
  products: [.library(name: "AllocationShim", type: .dynamic, targets: ["AllocationShim"])],
  targets: [
    // The only C: what Swift cannot import. No policy, no logging.
    .target(
      name: "CLinux", path: "CShims/CLinux", cSettings: c,
      linkerSettings: [.linkedLibrary("mnl"), .linkedLibrary("cap-ng")]),
    .target(
      name: "CConntrack", path: "CShims/CConntrack", exclude: ["ring.bpf.c"], cSettings: c,
      linkerSettings: [.linkedLibrary("mnl"), .linkedLibrary("netfilter_conntrack"), .linkedLibrary("bpf")]),
    .target(
      name: "CMicroHTTPD", path: "CShims/CMicroHTTPD", cSettings: c,
      linkerSettings: [.linkedLibrary("microhttpd"), .linkedLibrary("gnutls"), .linkedLibrary("crypt"), .linkedLibrary("cap-ng")]),
    .target(name: "CYAML", path: "CShims/CYAML", cSettings: c, linkerSettings: [.linkedLibrary("yaml")]),
    .target(name: "CJansson", path: "CShims/CJansson", cSettings: c, linkerSettings: [.linkedLibrary("jansson")]),
    .target(name: "CNettle", path: "CShims/CNettle", cSettings: c, linkerSettings: [.linkedLibrary("nettle")]),
    .target(name: "CPrefetch", path: "CShims/CPrefetch", cSettings: c),
    .target(
      name: "CKernelProbe", path: "CShims/CKernelProbe", exclude: ["racetrack.bpf.c"], cSettings: c,
      linkerSettings: [.linkedLibrary("bpf")]),
    .target(name: "CRaceGenerator", path: "CShims/CRaceGenerator", cSettings: c, linkerSettings: [.linkedLibrary("pthread")]),

    // The vocabulary, then the four that never import one another, then the wiring.
    .target(name: "Flows", swiftSettings: swift),
    .target(name: "Wire", dependencies: ["Flows"], swiftSettings: swift),
    .target(name: "Correlation", dependencies: ["Flows", "CPrefetch"], swiftSettings: swift),
    .target(name: "Reporting", dependencies: ["Flows", "CNettle"], swiftSettings: swift),
    .target(name: "LinuxIO", dependencies: ["Flows", "CLinux", "CConntrack", "CKernelProbe", "CMicroHTTPD"], swiftSettings: swift),
    .target(
      name: "Agent", dependencies: ["Flows", "Wire", "Correlation", "Reporting", "LinuxIO", "CYAML", "CJansson", "CRaceGenerator"],
      swiftSettings: swift),
    .executableTarget(name: "racetrack", dependencies: ["Agent"], swiftSettings: swift),

    // Tests mirror Sources; Kernel runs against the real kernel in namespaces of its own and needs root.
    .executableTarget(name: "racelab", path: "Tests/racelab", cSettings: c, linkerSettings: [.linkedLibrary("pthread")]),
    // The rows of the compatibility table, run inside a virtual machine.
    .executableTarget(name: "vmlab", dependencies: ["TestSupport", "racelab"], path: "Tests/VM/vmlab", swiftSettings: testSwift),
    // The benchmark's own programs, and what counts allocations in a process that is not ours to build.
    .target(name: "CBench", dependencies: ["CLinux", "CConntrack"], path: "Tests/Bench/CBench", cSettings: c),
    .executableTarget(name: "racebench", dependencies: ["CBench", "CConntrack", "LinuxIO"], path: "Tests/Bench/racebench", swiftSettings: testSwift),
    .target(name: "AllocationShim", path: "Tests/Bench/AllocationShim", cSettings: c),
    .target(name: "AllocationCount", path: "Tests/AllocationCount", cSettings: c),
    .target(name: "TestSupport", path: "Tests/TestSupport", swiftSettings: testSwift),
    .testTarget(name: "FlowsTests", dependencies: ["Flows"], swiftSettings: testSwift),
    .testTarget(name: "WireTests", dependencies: ["Wire", "Flows", "TestSupport"], swiftSettings: testSwift),
    .testTarget(name: "CorrelationTests", dependencies: ["Correlation", "Flows", "TestSupport"], swiftSettings: testSwift),
    .testTarget(
      name: "ReportingTests", dependencies: ["Reporting", "Flows", "TestSupport"], exclude: ["Golden"], swiftSettings: testSwift),
    .testTarget(
      name: "LinuxIOTests", dependencies: ["LinuxIO", "Wire", "Flows", "TestSupport", "CLinux", "CConntrack", "AllocationCount"],
      swiftSettings: testSwift),
    .testTarget(
      name: "AgentTests", dependencies: ["Agent", "Correlation", "Flows", "LinuxIO", "Reporting", "TestSupport", "Wire"], swiftSettings: testSwift),
    .testTarget(
      name: "KernelTests", dependencies: ["TestSupport", "Flows", "racetrack", "racelab"], path: "Tests/Kernel", swiftSettings: testSwift),
  ]
)
