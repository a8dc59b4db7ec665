// What a process asks of its machine: boot id, randomness, names, limits. None of it is on a data path.
import CSheep
import Glibc
import Model

package enum Machine {
    /// The id of this boot of the kernel: another one after each restart of the machine.
    package static func bootId() throws(Errno) -> ClusterId {
        let file = try FileDescriptor.open("/proc/sys/kernel/random/boot_id", O_RDONLY)
        var bytes = [UInt8](repeating: 0, count: 64)
        let count = pread(file.raw, &bytes, bytes.count, 0)
        guard count >= 0 else { throw .last }
        let digits = String(decoding: bytes[..<count].filter { $0 > 0x20 && $0 != UInt8(ascii: "-") }, as: UTF8.self)
        guard digits.utf8.count == 32, let high = UInt64(digits.prefix(16), radix: 16),
            let low = UInt64(digits.suffix(16), radix: 16)
        else { throw .invalid }
        return ClusterId(high: high, low: low)
    }

    /// 64 random bits from the kernel.
    package static func random() -> UInt64 {
        var value: UInt64 = 0
        while csheep_random(&value) != 8 {
            precondition(errno == EINTR, "the kernel gives no random numbers: errno \(errno)")
        }
        return value
    }

    package static func hostName() -> String {
        var name = [CChar](repeating: 0, count: 256)
        guard gethostname(&name, 255) == 0 else { return "localhost" }
        return name.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
    }

    /// The id of the group `name`, nil if there is none. May block (name services): at start only.
    package static func groupId(named name: String) -> UInt32? {
        var entry = group()
        var found: UnsafeMutablePointer<group>?
        var space = [CChar](repeating: 0, count: 65536)
        let failure = getgrnam_r(name, &entry, &space, space.count, &found)
        return failure == 0 && found != nil ? entry.gr_gid : nil
    }

    /// Lets this process have as many descriptors as it is allowed to; returns how many.
    @discardableResult
    package static func raiseDescriptorLimit() -> Int {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 1024 }
        let before = limit.rlim_cur
        limit.rlim_cur = limit.rlim_max
        guard setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else {
            return Int(clamping: before)
        }
        return Int(clamping: limit.rlim_cur)
    }

    /// Processor time that this process has used.
    static var processorNanoseconds: UInt64 {
        var time = timespec()
        guard clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) == 0 else { return 0 }
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    /// Memory of this process that is in RAM; nil where /proc is not there.
    static var residentBytes: Int? {
        guard let file = try? FileDescriptor.open("/proc/self/statm", O_RDONLY) else { return nil }
        var bytes = [UInt8](repeating: 0, count: 128)
        let count = pread(file.raw, &bytes, bytes.count, 0)
        guard count > 0 else { return nil }
        let fields = bytes[..<count].split(separator: UInt8(ascii: " "))
        guard fields.count > 1, let pages = Int(String(decoding: fields[1], as: UTF8.self)) else { return nil }
        return pages * Int(sysconf(Int32(_SC_PAGESIZE)))
    }

    static func environment(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }
}
