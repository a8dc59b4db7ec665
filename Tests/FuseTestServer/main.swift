// fuse-testserver SOCKET DATAFILE: attaches to a sheep-holder and serves MemoryFiles until the mount is gone. It may
// be killed at any time; another one goes on.
import CSheep
import Fuse
import Glibc
import Model

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
    session.onUnmount = { reason in
        if let reason { print(reason) }
    }
    session.start()
    let loop = epoll_create1(0)
    var interest = epoll_event(events: EPOLLIN.rawValue, data: epoll_data_t(u64: 0))
    epoll_ctl(loop, EPOLL_CTL_ADD, session.descriptor, &interest)
    var event = epoll_event()
    while session.isOpen {
        _ = epoll_wait(loop, &event, 1, -1)
        session.processReadable()
    }
    holder.close()
} catch {
    print(error)
    exit(1)
}
