// The administrator's socket for real: a server on a loop, clients that connect to it, and who may.
import Glibc
import Model
import Runtime
import Testing

@testable import Admin

/// What the client's thread found, read after the loop has ended.
private final class Findings: @unchecked Sendable {
    var status: StatusReport?
    var volumes: [String] = []
    var error: SheepError?
    var lines: [String] = []
}

private struct Place: ~Copyable {
    let directory = "/tmp/admin-server-\(getpid())-\(UInt32.random(in: 0 ... .max))"
    var socket: String { directory + "/sheep.sock" }
    deinit {
        unlink(socket)
        rmdir(directory)
    }
}

@Suite struct AdminServerTests {
    /// Serves on this thread while `client` runs on another; returns what it found.
    private func serve(
        _ access: AdminAccess = AdminAccess(), _ client: @escaping @Sendable (String, Findings) -> Void
    ) throws -> Findings {
        let place = Place()
        let loop = try EventLoop()
        let talk = Conversation()
        let server = try AdminServer(path: place.socket, service: talk.service, loop: loop, access: access)
        // The fake's completions wait for somebody to let them run.
        loop.onEndOfBatch { talk.node.settle() }
        let findings = Findings()
        let path = place.socket
        let poster = loop.poster
        nonisolated(unsafe) let ending = loop
        let thread = Worker {
            client(path, findings)
            poster.post { ending.stop() }
        }
        loop.run()
        thread.join()
        server.close()
        loop.runOnce()
        #expect(Glibc.access(path, F_OK) != 0)
        return findings
    }

    @Test func aClientAsksAndIsAnswered() throws {
        let findings = try serve { path, findings in
            do throws(SheepError) {
                let client = try AdminClient(path: path)
                _ = try client.ask(.volumeCreate(path: "a.img", size: 1 << 20, copies: nil))
                findings.status = try client.ask(.status).status
                findings.volumes = try client.ask(.volumeList(path: nil, allocated: true)).volumes?.map(\.path) ?? []
                _ = try client.ask(.volumeInfo(path: "none"))
            } catch { findings.error = error }
        }
        #expect(findings.status?.stores.count == 3 && findings.volumes == ["a.img"])
        #expect(findings.error?.errno == .noEntry)
    }

    @Test func theSocketIsForItsGroupOnly() throws {
        let findings = try serve { path, findings in
            var state = stat()
            if stat(path, &state) == 0 { findings.lines = [String(state.st_mode & 0o7777, radix: 8)] }
        }
        #expect(findings.lines == ["660"])
    }

    @Test func garbageIsAnsweredAndTooMuchOfItEndsTheConnection() throws {
        let findings = try serve { path, findings in
            guard let socket = try? UnixSocket.connect(path, .stream) else { return }
            func say(_ bytes: [UInt8]) {
                _ = bytes.withUnsafeBytes { send(socket.raw, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
            }
            func hear() -> Int {
                var room = [UInt8](repeating: 0, count: 65_536)
                let count = room.withUnsafeMutableBytes { recv(socket.raw, $0.baseAddress, $0.count, 0) }
                if count > 0 { findings.lines.append(String(decoding: room[..<count], as: UTF8.self)) }
                return count
            }
            say(Array("\u{0}\u{1}garbage\n".utf8))
            _ = hear()
            let flood = [UInt8](repeating: UInt8(ascii: "x"), count: 65_536)
            for _ in 0..<40 { say(flood) }
            findings.lines.append(hear() <= 0 ? "closed" : "open")
        }
        #expect(findings.lines.first?.contains("not a JSON object") == true && findings.lines.last == "closed")
    }

    @Test func aSecondDaemonAtTheSamePathIsRefused() throws {
        let place = Place()
        let loop = try EventLoop()
        let talk = Conversation()
        let first = try AdminServer(path: place.socket, service: talk.service, loop: loop)
        #expect {
            try AdminServer(path: place.socket, service: talk.service, loop: loop)
        } throws: { ($0 as? SheepError)?.why.contains("another sheep") == true }
        first.close()
    }

    @Test func withoutADaemonTheClientSaysHowToStartOne() {
        #expect {
            try AdminClient(path: "/tmp/admin-server-none/sheep.sock")
        } throws: { error in
            let error = error as? SheepError
            return error?.errno == .connectionRefused && error?.remedy.contains("sheep run") == true
        }
    }

    @Test func rootTheOwnUserAndTheGroupMayAsk() {
        let access = AdminAccess(ownUid: 500, sheepGroup: 77)
        #expect(access.allows(uid: 0, groups: []) && access.allows(uid: 500, groups: []))
        #expect(access.allows(uid: 1000, groups: [5, 77]) && !access.allows(uid: 1000, groups: [5]))
        #expect(!AdminAccess(ownUid: 500, sheepGroup: nil).allows(uid: 1000, groups: [77]))
    }

    @Test func thePeersGroupsComeFromTheKernel() throws {
        let pair = try UnixSocket.pair(.stream)
        var own = [gid_t](repeating: 0, count: 65_536)
        let count = Int(getgroups(Int32(own.count), &own))
        #expect(AdminAccess.supplementaryGroups(of: pair.first.raw).sorted() == own.prefix(count).sorted())
    }
}

/// A thread that can be waited for.
private final class Worker {
    private var thread = pthread_t()
    init(_ body: @escaping @Sendable () -> Void) {
        let box = Unmanaged.passRetained(Body(body))
        pthread_create(
            &thread, nil,
            { raw in
                let body = Unmanaged<Body>.fromOpaque(raw!).takeRetainedValue()
                body.run()
                return nil
            }, box.toOpaque())
    }
    func join() { pthread_join(thread, nil) }
    private final class Body: Sendable {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }
}
