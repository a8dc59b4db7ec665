// fuse-testserver SOCKET DATAFILE: attaches to a sheep-holder and serves MemoryFiles until the mount is gone. It may
// be killed at any time; another one goes on.
import Fuse
import Glibc
import Model
import Runtime

signal(SIGPIPE, SIG_IGN)
guard CommandLine.arguments.count == 3 else {
    print("usage: fuse-testserver SOCKET DATAFILE")
    exit(2)
}
do {
    let holder = try Holder.connect(CommandLine.arguments[1])
    let pool = BufferPool(limitBytes: 64 << 20)
    let files = MemoryFiles(path: CommandLine.arguments[2], pool: pool)
    let session = try holder.makeSession(handler: files, pool: pool)
    let loop = try EventLoop()
    try session.serve(on: loop)
    session.onUnmount = { reason in
        if let reason { print(reason) }
        loop.stop()
    }
    if session.isOpen { loop.run() }
    holder.close()
} catch {
    print(error)
    exit(1)
}
