// System calls that Swift's Glibc module does not show. Thin: no policy, no retry, no allocation on a hot path.
#define _GNU_SOURCE
#include "include/system.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

int csheep_epoll_wait(int epoll, struct epoll_event *events, int count, int64_t nanoseconds) {
    static int without_pwait2;
    if (nanoseconds <= 0) return epoll_wait(epoll, events, count, nanoseconds < 0 ? -1 : 0);
    if (!__atomic_load_n(&without_pwait2, __ATOMIC_RELAXED)) {
        struct timespec limit = {.tv_sec = nanoseconds / 1000000000, .tv_nsec = nanoseconds % 1000000000};
        int ready = epoll_pwait2(epoll, events, count, &limit, NULL);
        if (ready >= 0 || errno != ENOSYS) return ready;
        __atomic_store_n(&without_pwait2, 1, __ATOMIC_RELAXED);
    }
    int64_t milliseconds = (nanoseconds + 999999) / 1000000;
    return epoll_wait(epoll, events, count, milliseconds > 3600000 ? 3600000 : (int)milliseconds);
}

static uint64_t clock_nanoseconds(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
uint64_t csheep_boottime(void) { return clock_nanoseconds(CLOCK_BOOTTIME); }
uint64_t csheep_realtime(void) { return clock_nanoseconds(CLOCK_REALTIME); }

ssize_t csheep_pread_cached(int file, void *bytes, size_t count, off_t offset) {
    struct iovec part = {bytes, count};
    return preadv2(file, &part, 1, offset, RWF_NOWAIT);
}

int csheep_open_cached(int directory, const char *path, int flags) {
    struct open_how how = {.flags = (unsigned)flags, .resolve = RESOLVE_CACHED};
    return (int)syscall(SYS_openat2, directory, path, &how, sizeof how);
}
int csheep_open_at(int directory, const char *path, int flags, unsigned mode) {
    return openat(directory, path, flags, mode);
}
ssize_t csheep_pwritev(int file, const struct iovec *parts, int count, off_t offset) {
    return pwritev(file, parts, count, offset);
}
int csheep_punch(int file, off_t offset, off_t count) {
    return fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, count);
}
int csheep_preallocate(int file, off_t count) { return fallocate(file, 0, 0, count); }
void csheep_start_writing(int file) { (void)sync_file_range(file, 0, 0, SYNC_FILE_RANGE_WRITE); }
int csheep_o_path(void) { return O_PATH; }

uint64_t csheep_file_system_type(int file) {
    struct statfs state;
    return fstatfs(file, &state) == 0 ? (uint64_t)state.f_type : 0;
}

#define MAXIMUM_DESCRIPTORS 16
union control {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(MAXIMUM_DESCRIPTORS * sizeof(int))];
};

ssize_t csheep_send(int socket, const void *bytes, size_t count, const int *descriptors, int descriptor_count,
                    const void *address, unsigned address_length) {
    struct iovec part = {(void *)bytes, count};
    struct msghdr message = {
        .msg_name = (void *)address, .msg_namelen = address_length, .msg_iov = &part, .msg_iovlen = 1};
    union control control;
    if (descriptor_count < 0 || descriptor_count > MAXIMUM_DESCRIPTORS) {
        errno = EINVAL;
        return -1;
    }
    if (descriptor_count > 0) {
        memset(&control, 0, sizeof control);
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE((size_t)descriptor_count * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN((size_t)descriptor_count * sizeof(int));
        memcpy(CMSG_DATA(header), descriptors, (size_t)descriptor_count * sizeof(int));
    }
    return sendmsg(socket, &message, MSG_NOSIGNAL);
}

ssize_t csheep_receive(int socket, void *bytes, size_t count, int *descriptors, int *descriptor_count, int *truncated) {
    struct iovec part = {bytes, count};
    union control control;
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    *descriptor_count = 0;
    *truncated = 0;
    ssize_t received = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    if (received < 0) return received;
    *truncated = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        size_t found = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < found; i++) {
            int descriptor;
            memcpy(&descriptor, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
            if (*descriptor_count < MAXIMUM_DESCRIPTORS)
                descriptors[(*descriptor_count)++] = descriptor;
            else
                close(descriptor);
        }
    }
    return received;
}

int csheep_peer(int socket, int32_t *pid, uint32_t *uid, uint32_t *gid) {
    struct ucred peer;
    socklen_t length = sizeof peer;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return -1;
    *pid = peer.pid;
    *uid = peer.uid;
    *gid = peer.gid;
    return 0;
}
int csheep_accept(int socket) { return accept4(socket, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC); }
int csheep_socket(int type) { return socket(AF_UNIX, type | SOCK_CLOEXEC, 0); }
int csheep_socket_pair(int type, int pair[2]) { return socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair); }
int csheep_type_stream(void) { return SOCK_STREAM; }
int csheep_type_packet(void) { return SOCK_SEQPACKET; }
int csheep_type_datagram(void) { return SOCK_DGRAM; }

int csheep_pipe(int ends[2]) { return pipe2(ends, O_NONBLOCK | O_CLOEXEC); }

static int signal_descriptors[65];

static void forward_signal(int number) {
    int saved = errno;
    unsigned char byte = (unsigned char)number;
    // A full pipe loses nothing: as many of this signal are waiting in it already.
    ssize_t written = write(__atomic_load_n(&signal_descriptors[number], __ATOMIC_RELAXED), &byte, 1);
    (void)written;
    errno = saved;
}
int csheep_catch_signal(int number, int descriptor) {
    if (number < 1 || number > 64) {
        errno = EINVAL;
        return -1;
    }
    __atomic_store_n(&signal_descriptors[number], descriptor, __ATOMIC_RELAXED);
    struct sigaction action = {.sa_handler = forward_signal, .sa_flags = SA_RESTART};
    sigfillset(&action.sa_mask);
    return sigaction(number, &action, NULL);
}
static int set_handler(int number, void (*handler)(int)) {
    struct sigaction action = {.sa_handler = handler};
    return sigaction(number, &action, NULL);
}
int csheep_release_signal(int number) { return set_handler(number, SIG_DFL); }
int csheep_ignore_signal(int number) { return set_handler(number, SIG_IGN); }

struct start {
    void (*body)(void *);
    void *argument;
    char name[16];
};
static void *run_thread(void *argument) {
    struct start start = *(struct start *)argument;
    free(argument);
    pthread_setname_np(pthread_self(), start.name);
    start.body(start.argument);
    return NULL;
}
int csheep_start_thread(void (*body)(void *), void *argument, const char *name) {
    struct start *start = calloc(1, sizeof *start);
    if (!start) return ENOMEM;
    start->body = body;
    start->argument = argument;
    strncpy(start->name, name, sizeof start->name - 1);
    sigset_t all, before;
    pthread_attr_t attributes;
    pthread_t thread;
    sigfillset(&all);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 512 * 1024);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failure = pthread_create(&thread, &attributes, run_thread, start);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (failure) free(start);
    return failure;
}

void csheep_error_text(int code, char *text, size_t capacity) {
    char space[128];
    const char *found = strerror_r(code, space, sizeof space);
    strncpy(text, found, capacity - 1);
    text[capacity - 1] = 0;
}

void *csheep_map_populated(size_t count) {
    void *bytes = mmap(NULL, count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    return bytes == MAP_FAILED ? NULL : bytes;
}
void csheep_prefault(void *bytes, size_t count) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t start = (uintptr_t)bytes & ~(page - 1);
    for (uintptr_t at = start; at < (uintptr_t)bytes + count; at += page) {
        // Adding nothing, atomically, is a write that changes no byte.
        uintptr_t target = at < (uintptr_t)bytes ? (uintptr_t)bytes : at;
        __atomic_fetch_add((unsigned char *)target, 0, __ATOMIC_RELAXED);
    }
}

ssize_t csheep_random(uint64_t *value) { return getrandom(value, sizeof *value, 0); }
