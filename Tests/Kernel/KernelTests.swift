import TestSupport
import Testing

/// Everything that runs on the real kernel, one after the other: two labs at once would disturb each other's races.
@Suite(.serialized, .enabled(if: Requirements.met, "needs root, ip, nft, conntrack and two CPUs"))
struct KernelTests {}
