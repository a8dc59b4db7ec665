// sheep-holder: mounts, and keeps the mount's descriptor while the daemon that serves it comes and goes.
// Called with --notify it is another thing: it writes the daemon's notifications into the kernel.
// It never reads a request and never decides anything about the files; it detaches from whoever starts it, so that
// ending the daemon, its terminal or its process group leaves the mount alone. One thread, about 1.5 MB.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/un.h>
#include <unistd.h>

#define FUSE_USE_VERSION 312
#include <fuse3/fuse_lowlevel.h>

#include "holder.h"

volatile sig_atomic_t is_terminated;
static void on_signal(int number) {
    (void)number;
    is_terminated = 1;
}

static const char usage[] =
    "usage: sheep-holder [--foreground] [--fsname NAME] [-o OPTIONS] --socket PATH MOUNTPOINT\n"
    "\n"
    "Mounts MOUNTPOINT (type fuse.sheep) and keeps the mount for the server that connects to PATH.\n"
    "\n"
    "  --socket PATH    the control socket; PATH.lock is locked while the mount is held\n"
    "  --fsname NAME    the source that mount tables show (default: sheep)\n"
    "  -o OPTIONS       mount options, separated by commas, as libfuse takes them\n"
    "  --foreground     do not detach\n"
    "  --probe          instead: does MOUNTPOINT answer? 0 yes, 4 nobody has its descriptor, killed by\n"
    "                   SIGALRM after a second when it is kept but nobody serves it\n"
    "  --notify         instead: writes each message that comes on standard input to the mount's descriptor, which\n"
    "                   is standard output; ends with its input\n"
    "  --help           this text\n"
    "\n"
    "Returns 0 when the mount is done, 1 when it failed, 2 for wrong arguments, 3 when it is held already.\n"
    "SIGTERM unmounts and ends it; it ends by itself when the mount is gone.\n";

static int report;  // where a failure is told, and success by closing it
static void fail(int status, const char *what, const char *why, const char *remedy) {
    fprintf(stderr, "sheep-holder: %s\n  why: %s\n  do:  %s\n", what, why, remedy);
    if (report >= 0) {
        char code = (char)status;
        if (write(report, &code, 1) < 0) _exit(status);
    }
    exit(status);
}

// The lock that makes this the only holder of the socket's path. It is taken on the file that the path names at the
// end, for another holder may just have removed it.
static int take_lock(const char *path) {
    for (;;) {
        int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (lock < 0) return -1;
        if (flock(lock, LOCK_EX | LOCK_NB) != 0) return -1;
        struct stat mine, named;
        if (fstat(lock, &mine) == 0 && stat(path, &named) == 0 && mine.st_ino == named.st_ino &&
            mine.st_dev == named.st_dev)
            return lock;
        close(lock);
    }
}

static int listen_at(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, path);
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener < 0) return -1;
    unlink(path);  // left by a holder that was killed: we have its lock
    mode_t mask = umask(077);
    int result = bind(listener, (struct sockaddr *)&address, sizeof address);
    umask(mask);
    if (result == 0) result = listen(listener, 8);
    if (result == 0) return listener;
    close(listener);
    return -1;
}

static struct fuse_session *mount_session(const char *mountpoint, const char *fsname, const char *options) {
    static const struct fuse_lowlevel_ops operations;  // none: the session is served elsewhere
    char text[8192];
    if (snprintf(text, sizeof text, "fsname=%s,subtype=sheep%s%s", fsname, *options ? "," : "", options) >=
        (int)sizeof text) {
        errno = E2BIG;
        return NULL;
    }
    struct fuse_args arguments = FUSE_ARGS_INIT(0, NULL);
    fuse_opt_add_arg(&arguments, "sheep-holder");
    fuse_opt_add_arg(&arguments, "-o");
    fuse_opt_add_arg(&arguments, text);
    struct fuse_session *session = fuse_session_new(&arguments, &operations, sizeof operations, NULL);
    fuse_opt_free_args(&arguments);
    if (!session) {
        errno = EINVAL;
        return NULL;
    }
    if (fuse_session_mount(session, mountpoint) == 0) return session;
    fuse_session_destroy(session);
    errno = EIO;
    return NULL;
}

static void hold(const char *mountpoint, const char *socket_path, const char *fsname, const char *options,
                 bool foreground) {
    char lock_path[sizeof((struct sockaddr_un *)0)->sun_path + 8];
    snprintf(lock_path, sizeof lock_path, "%s.lock", socket_path);
    int lock = take_lock(lock_path);
    if (lock < 0 && errno == EWOULDBLOCK)
        fail(3, "the mount is held already", "another sheep-holder has the lock beside the socket",
             "let the server connect to it, or unmount first");
    if (lock < 0) fail(1, "cannot lock beside the control socket", strerror(errno), "check the socket's directory");
    if (is_mounted(mountpoint)) {
        unlink(lock_path);
        fail(3, "something of ours is mounted there already", "mountinfo shows a fuse.sheep mount at that path",
             "unmount it first (fusermount3 -u), or choose another path");
    }
    struct fuse_session *session = mount_session(mountpoint, fsname, options);
    if (!session) {
        int code = errno;
        unlink(lock_path);
        fail(1, "mounting failed",
             code == EINVAL ? "libfuse does not know an option" : "libfuse could not mount (its message is above)",
             code == EINVAL ? "check the options"
                            : "check that the path is an empty directory of yours and that you may open /dev/fuse");
    }
    struct holder holder = {.fuse = fuse_session_fd(session), .mountpoint = mountpoint};
    holder.listener = listen_at(socket_path);
    if (holder.listener < 0) {
        int code = errno;
        fuse_session_unmount(session);
        unlink(lock_path);
        fail(1, "cannot listen on the control socket", strerror(code), "check the socket's directory");
    }
    while (holder.mount_id == 0)
        if (getrandom(&holder.mount_id, sizeof holder.mount_id, 0) != sizeof holder.mount_id) holder.mount_id = 0;
    if (!foreground) {
        int null = open("/dev/null", O_RDWR);
        for (int i = 0; i < 3; i++) dup2(null, i);
        if (null > 2) close(null);
        char code = 0;
        if (write(report, &code, 1) == 1) close(report);
    }
    int client = -1;
    bool unmount = serve(&holder, &client);
    if (unmount) fuse_session_unmount(session);
    if (client >= 0) send_message(client, MESSAGE_DONE);
    unlink(socket_path);
    unlink(lock_path);
    exit(0);
}

static int probe(const char *mountpoint) {
    struct statfs status;
    alarm(1);
    if (statfs(mountpoint, &status) == 0) return 0;
    if (errno == ENOTCONN || errno == ECONNABORTED) return 4;
    perror("sheep-holder: statfs");
    return 1;
}

// Each write may wait in the kernel until the daemon, or the one after it, has answered some request.
static int pass_notifications(void) {
    char message[4096];  // a header and a name
    // It ends with its input, not with the daemon's terminal or service.
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    close_range(3, ~0U, 0);
    int null = open("/dev/null", O_WRONLY);
    dup2(null, 2);
    close(null);
    for (;;) {
        ssize_t length = read(0, message, sizeof message);
        if (length < 0 && errno == EINTR) continue;
        if (length <= 0) return 0;
        if (write(1, message, (size_t)length) < 0 && errno == ENODEV) return 0;
    }
}

int main(int count, char **arguments) {
    static const struct option known[] = {
        {"socket", required_argument, NULL, 's'}, {"fsname", required_argument, NULL, 'n'},
        {"foreground", no_argument, NULL, 'f'},   {"help", no_argument, NULL, 'h'},
        {"probe", no_argument, NULL, 'p'},        {"notify", no_argument, NULL, 'N'},
        {NULL, 0, NULL, 0},
    };
    // Whoever starts us may have blocked or ignored signals that we live by.
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGALRM, SIG_DFL);
    signal(SIGCHLD, SIG_DFL);
    const char *socket_path = NULL, *fsname = "sheep", *options = "";
    bool foreground = false, is_probe = false, is_notifier = false;
    report = -1;
    for (int option; (option = getopt_long(count, arguments, "o:", known, NULL)) != -1;) {
        switch (option) {
        case 's': socket_path = optarg; break;
        case 'n': fsname = optarg; break;
        case 'o': options = optarg; break;
        case 'f': foreground = true; break;
        case 'p': is_probe = true; break;
        case 'N': is_notifier = true; break;
        case 'h': fputs(usage, stdout); return 0;
        default: fputs(usage, stderr); return 2;
        }
    }
    if (is_notifier && optind == count) return pass_notifications();
    if (is_probe && optind == count - 1) return probe(arguments[optind]);
    if (optind != count - 1 || !socket_path || socket_path[0] != '/' || strchr(fsname, ',') ||
        strlen(socket_path) >= sizeof((struct sockaddr_un *)0)->sun_path - 8) {
        fputs("sheep-holder: one mountpoint and a short absolute --socket path are needed\n", stderr);
        fputs(usage, stderr);
        return 2;
    }
    close_range(3, ~0U, 0);
    char *mountpoint = resolve_mountpoint(arguments[optind]);
    if (!mountpoint)
        fail(1, "the mountpoint cannot be found", strerror(errno), "create the directory, or unmount what is dead there");

    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGINT);
    sigprocmask(SIG_BLOCK, &blocked, NULL);

    if (foreground) {
        hold(mountpoint, socket_path, fsname, options, true);
    }
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) fail(1, "cannot start", strerror(errno), "free some descriptors");
    pid_t child = fork();
    if (child < 0) fail(1, "cannot start", strerror(errno), "free some memory or processes");
    if (child == 0) {
        close(ends[0]);
        report = ends[1];
        setsid();
        if (chdir("/") != 0) fail(1, "cannot enter /", strerror(errno), "check the root directory");
        hold(mountpoint, socket_path, fsname, options, false);
    }
    close(ends[1]);
    char code = 1;
    ssize_t got;
    do got = read(ends[0], &code, 1);
    while (got < 0 && errno == EINTR);
    return got == 1 ? code : 1;
}
