// Real mounts through sheep-holder, served by fuse-testserver. They need /dev/fuse and root. No path of a mount is
// touched by this process: commands do that, and are killed if they hang.
import Glibc
import Model
import Testing

@testable import Fuse

private let canMount = geteuid() == 0 && access("/dev/fuse", R_OK | W_OK) == 0

@Suite(.serialized, .enabled(if: canMount, "mounting needs root and /dev/fuse"))
struct MountTests {
    private func mounted() throws -> MountFixture {
        let fixture = MountFixture()
        try Holder.spawn(mountpoint: fixture.mountpoint, options: MountOptions(), socket: fixture.socket)
        return fixture
    }

    @Test func filesAreReadWrittenAndListedThroughTheKernel() throws {
        let fixture = try mounted()
        fixture.startServer()
        let result = fixture.run(
            """
            set -e; cd \(fixture.mountpoint)
            [ "$(ls | tr '\\n' ' ')" = "data.img directory " ]
            [ "$(stat -c %s data.img)" = 33554432 ]
            [ -z "$(ls -A directory)" ]
            for size in 512 4k 64k 1M 3M; do
                dd if=/dev/urandom of=\(fixture.directory)/r bs=$size count=2 status=none
                dd if=\(fixture.directory)/r of=data.img bs=$size conv=notrunc,fsync oflag=direct status=none
                dd if=\(fixture.directory)/r of=data.img bs=1000 seek=20000 conv=notrunc status=none
                cmp -n $(stat -c %s \(fixture.directory)/r) \(fixture.directory)/r data.img
                cmp -n $(stat -c %s \(fixture.directory)/r) -i 0:20000000 \(fixture.directory)/r data.img
            done
            [ "$(getfattr --only-values -n user.test data.img)" = sheep ]
            ! ls missing
            """)
        #expect(result.status == 0, "\(result.output)")
    }

    @Test func aWaitingLockIsInterruptedAndGranted() throws {
        let fixture = try mounted()
        fixture.startServer()
        let result = fixture.run(
            """
            set -e; cd \(fixture.mountpoint)
            cat > \(fixture.directory)/lock.py <<'END'
            import fcntl, os, signal, struct, subprocess, sys
            path = sys.argv[1]
            mine = os.open(path, os.O_RDWR)
            lock = lambda kind: struct.pack("hhqqi4x", kind, 0, 0, 0, 0)
            OFD_SETLK, OFD_SETLKW = 37, 38
            fcntl.fcntl(mine, OFD_SETLK, lock(fcntl.F_WRLCK))
            other = os.open(path, os.O_RDWR)
            try:
                fcntl.fcntl(other, OFD_SETLK, lock(fcntl.F_WRLCK))
                sys.exit("granted twice")
            except BlockingIOError: pass
            class Alarm(Exception): pass
            def ring(*_): raise Alarm()
            signal.signal(signal.SIGALRM, ring)
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            try:
                fcntl.fcntl(other, OFD_SETLKW, lock(fcntl.F_WRLCK))
                sys.exit("granted while held")
            except Alarm: pass
            if os.fork() == 0:
                fcntl.fcntl(other, OFD_SETLKW, lock(fcntl.F_WRLCK))
                os._exit(7)
            import time; time.sleep(0.2)
            fcntl.fcntl(mine, OFD_SETLK, lock(fcntl.F_UNLCK))
            sys.exit(0 if os.waitstatus_to_exitcode(os.wait()[1]) == 7 else "not granted")
            END
            python3 \(fixture.directory)/lock.py data.img
            """, seconds: 20)
        #expect(result.status == 0, "\(result.output)")
    }

    /// fio writes and verifies while its server is killed five times; it must not notice.
    @Test func killedServerUnderLoadIsSucceededWithoutAnError() throws {
        let fixture = try mounted()
        fixture.startServer()
        try killUnderLoad(fixture)
    }

    private func killUnderLoad(_ fixture: MountFixture) throws {
        let load = fixture.start(
            """
            timeout -s KILL 60 fio --name=load --filename=\(fixture.mountpoint)/data.img --size=32M --rw=randwrite \
            --bsrange=4k-256k --ioengine=libaio --iodepth=16 --direct=1 --verify=crc32c --verify_fatal=1 \
            --loops=1000 --time_based --runtime=4 --output=\(fixture.directory)/fio.txt > \
            \(fixture.directory)/fio.err 2>&1
            """)
        for _ in 0..<5 {
            usleep(500_000)
            fixture.killServer()
            fixture.startServer()
        }
        let status = fixture.wait(load)
        let output = fixture.run("cat \(fixture.directory)/fio.err \(fixture.directory)/fio.txt").output
        #expect(status == 0, "\(output)")
        #expect(output.contains("err= 0") && output.contains("WRITE: bw="), "\(output)")
    }

    @Test func requestWaitsForASuccessorAndNothingIsLost() throws {
        let fixture = try mounted()
        fixture.startServer()
        #expect(fixture.run("ls \(fixture.mountpoint)").status == 0)
        fixture.killServer()
        #expect(try MountTable.state(fixture.mountpoint) == .waiting)
        let write = fixture.start(
            "sh -c 'echo sheep | dd of=\(fixture.mountpoint)/data.img conv=notrunc,fsync status=none'")
        usleep(200_000)
        #expect(kill(write, 0) == 0, "it waits")
        fixture.startServer()
        #expect(fixture.wait(write) == 0)
        #expect(fixture.run("[ \"$(head -c 5 \(fixture.data))\" = sheep ]").status == 0)
        #expect(try MountTable.state(fixture.mountpoint) == .served)
    }

    @Test func stateIsKeptForTheSuccessor() throws {
        let fixture = try mounted()
        var holder: Holder? = try Holder.connect(fixture.socket)
        let id = holder?.mountId
        #expect(try holder?.negotiated == nil && holder?.mountpoint == fixture.mountpoint)
        let big = (0..<900_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        try holder?.store("handles", big)
        try holder?.store("locks", [1, 2, 3])
        try holder?.store("gone", [1])
        try holder?.store("gone", [])
        #expect(throws: SheepError.self) { try holder?.store("more", big) }
        let busy = #expect(throws: SheepError.self) { try Holder.connect(fixture.socket, waitMilliseconds: 0) }
        #expect(busy?.errno == .busy && busy?.why.contains(String(getpid())) == true)
        holder = nil
        let next = try Holder.connect(fixture.socket)
        #expect(next.stored == ["handles": big, "locks": [1, 2, 3]] && next.mountId == id)
        try next.unmount()
        #expect(!fixture.isMounted)
    }

    @Test func unmountingWhileServedEndsServerAndHolder() throws {
        let fixture = try mounted()
        fixture.startServer()
        #expect(fixture.run("ls \(fixture.mountpoint)").status == 0)
        #expect(fixture.run("fusermount3 -u \(fixture.mountpoint)").status == 0)
        #expect(fixture.serverStatus() == 0)
        #expect(fixture.eventually { !fixture.hasSocket })
        #expect(!fixture.isMounted && access(fixture.socket + ".lock", F_OK) != 0)
    }

    @Test func unmountingWhileNobodyServesEndsTheHolder() throws {
        let fixture = try mounted()
        #expect(fixture.run("fusermount3 -u \(fixture.mountpoint)", seconds: 5).status == 0)
        #expect(fixture.eventually { !fixture.hasSocket })
        let gone = #expect(throws: SheepError.self) { try Holder.connect(fixture.socket) }
        #expect(gone?.errno == .noEntry)
    }

    @Test func terminatedHolderUnmounts() throws {
        let fixture = try mounted()
        let pid = try Holder.connect(fixture.socket).pid
        fixture.startServer()
        #expect(fixture.run("ls \(fixture.mountpoint)").status == 0)
        #expect(getsid(pid) == pid && getpgid(pid) == pid, "detached from us")
        kill(pid, SIGTERM)
        #expect(fixture.serverStatus() == 0)
        #expect(fixture.eventually { !fixture.hasSocket } && !fixture.isMounted)
    }

    @Test func aSecondMountIsRefusedWithoutHarmToTheFirst() throws {
        let fixture = try mounted()
        let same = #expect(throws: SheepError.self) {
            try Holder.spawn(mountpoint: fixture.mountpoint, options: MountOptions(), socket: fixture.socket)
        }
        #expect(same?.errno == .busy)
        let other = #expect(throws: SheepError.self) {
            try Holder.spawn(mountpoint: fixture.mountpoint, options: MountOptions(), socket: fixture.socket + "2")
        }
        #expect(other?.errno == .busy)
        fixture.startServer()
        #expect(fixture.run("ls \(fixture.mountpoint)/directory").status == 0)
        #expect(access(fixture.socket + "2", F_OK) != 0 && access(fixture.socket + "2.lock", F_OK) != 0)
    }

    @Test func whatLibfuseRefusesIsReportedWithItsReason() throws {
        let fixture = MountFixture()
        let missing = #expect(throws: SheepError.self) {
            try Holder.spawn(
                mountpoint: fixture.directory + "/missing", options: MountOptions(), socket: fixture.socket)
        }
        #expect(missing?.why.contains("No such file") == true)
        let odd = fixture.run(fixture.holderCommand("--socket \(fixture.socket) -o nonsense \(fixture.mountpoint)"))
        #expect(odd.status == 1 && odd.output.contains("do:  check the options"), "\(odd.output)")
        #expect(!fixture.hasSocket && !fixture.isMounted)
        #expect(fixture.run(fixture.holderCommand("--help")).output.contains("usage:"))
        #expect(fixture.run(fixture.holderCommand("")).status == 2)
    }

    @Test func everyGenericOptionIsOneThatLibfuseKnows() throws {
        let fixture = MountFixture()
        let options = try MountOptions(parsing: [
            "suid,nosuid,dev,nodev,exec,noexec,async,sync,atime,noatime,dirsync,ro,fsname=none"
        ])
        try Holder.spawn(mountpoint: fixture.mountpoint, options: options, socket: fixture.socket)
        let entry = MountTable.mount(at: fixture.mountpoint)
        #expect(entry?.isOurs == true && entry?.source == "none")
        try Holder.connect(fixture.socket).unmount()
    }

    @Test func deadMountIsFoundAndCleanedAndItsSocketCalledStale() throws {
        let fixture = try mounted()
        let pid = try Holder.connect(fixture.socket).pid
        kill(pid, SIGKILL)
        #expect(fixture.eventually { (try? MountTable.state(fixture.mountpoint)) == .dead })
        #expect(fixture.isMounted)
        let stale = #expect(throws: SheepError.self) { try Holder.connect(fixture.socket) }
        #expect(stale?.errno == .stale && stale?.remedy.contains("unmount") == true)
        // Mounting again cleans up by itself.
        try Holder.spawn(mountpoint: fixture.mountpoint, options: MountOptions(), socket: fixture.socket)
        fixture.startServer()
        #expect(fixture.run("ls \(fixture.mountpoint)/directory").status == 0)
        #expect(MountTable.current().filter { $0.mountpoint == fixture.mountpoint }.count == 1)
    }

    @Test func descriptorThatIsKeptElsewhereIsServedToo() throws {
        let fixture = MountFixture()
        var kept: [String: Int32] = [:]
        let notify: DescriptorStore.Notify = { message, descriptors in
            guard let name = message.split(separator: "\n").first(where: { $0.hasPrefix("FDNAME=") }) else {
                return false
            }
            for descriptor in descriptors { kept[String(name.dropFirst(7))] = dup(descriptor) }
            return true
        }
        let mount = try DescriptorStore.mount(
            fixture.mountpoint, options: MountOptions(), name: "test", notify: notify)
        #expect(fixture.isMounted && kept.count == 2)
        let id = mount.mountId
        mount.close()
        let again = try #require(try DescriptorStore.resume(kept, name: "test", notify: notify))
        #expect(again.mountId == id)
        let recorder = Recorder()
        let session = try again.makeSession(handler: recorder, pool: BufferPool(limitBytes: 1 << 20))
        session.start()
        #expect(
            fixture.eventually {
                session.processReadable(); return session.negotiated != nil
            })
        #expect(again.stored[FuseNegotiated.key] == session.negotiated?.serialized)
        #expect(session.negotiated?.capabilities.contains(.resend) == true)
        try again.unmount()
        #expect(
            fixture.eventually {
                session.processReadable(); return !session.isOpen
            })
        again.close()
        for descriptor in kept.values { close(descriptor) }
    }

    @Test func anOrdinaryUserMountsServesAndUnmounts() throws {
        var status = stat()
        stat("/dev/fuse", &status)
        let mode = status.st_mode & 0o7777
        chmod("/dev/fuse", 0o666)
        defer { chmod("/dev/fuse", mode) }
        let fixture = MountFixture(user: 1000)
        let mount = fixture.run(
            fixture.holderCommand("--socket \(fixture.socket) -o default_permissions \(fixture.mountpoint)"))
        #expect(mount.status == 0, "\(mount.output)")
        fixture.startServer()
        let use = fixture.run(
            "\(fixture.prefix)sh -ec 'cd \(fixture.mountpoint); ls; dd if=data.img of=data.img bs=1M conv=notrunc'")
        #expect(use.status == 0 && use.output.contains("data.img"), "\(use.output)")
        #expect(fixture.run("ls \(fixture.mountpoint)").status != 0, "nobody else is let in, not even root")
        try killUnderLoad(fixture)
        #expect(fixture.run("\(fixture.prefix)fusermount3 -u \(fixture.mountpoint)").status == 0)
        #expect(fixture.serverStatus() == 0)
        #expect(fixture.eventually { !fixture.hasSocket } && !fixture.isMounted)
        // And by the holder itself, on SIGTERM.
        #expect(
            fixture.run(fixture.holderCommand("--socket \(fixture.socket) \(fixture.mountpoint)")).status == 0)
        kill(try Holder.connect(fixture.socket).pid, SIGTERM)
        #expect(fixture.eventually { !fixture.hasSocket } && !fixture.isMounted)
    }
}
