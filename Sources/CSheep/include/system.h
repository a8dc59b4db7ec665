// System calls and macros that Swift's Glibc module does not show. Every call returns what the kernel does:
// -1 with errno set on failure; none of them retries on EINTR.
#ifndef CSHEEP_SYSTEM_H
#define CSHEEP_SYSTEM_H
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/types.h>
#include <sys/uio.h>

// Waits at most `nanoseconds` (below 0: for ever; 0: not at all).
int csheep_epoll_wait(int epoll, struct epoll_event *events, int count, int64_t nanoseconds);
uint64_t csheep_boottime(void);
uint64_t csheep_realtime(void);

// Reads only what is in the page cache: EAGAIN when the next byte is not, EOPNOTSUPP where the file system cannot tell.
ssize_t csheep_pread_cached(int file, void *bytes, size_t count, off_t offset);
// Opens without O_CREAT and only if the path can be resolved without I/O: EAGAIN otherwise.
int csheep_open_cached(int directory, const char *path, int flags);
int csheep_open_at(int directory, const char *path, int flags, unsigned mode);
ssize_t csheep_pwritev(int file, const struct iovec *parts, int count, off_t offset);
int csheep_punch(int file, off_t offset, off_t count);
int csheep_preallocate(int file, off_t count);
// Begins to write what a file has in the page cache, without waiting; a later sync tells of errors.
void csheep_start_writing(int file);
int csheep_o_path(void);
// The magic number of the file system (statfs f_type), 0 on failure.
uint64_t csheep_file_system_type(int file);

// Sends one message with up to 16 descriptors. SIGPIPE is never raised.
ssize_t csheep_send(int socket, const void *bytes, size_t count, const int *descriptors, int descriptor_count,
                    const void *address, unsigned address_length);
// Receives one message and up to 16 descriptors (close-on-exec). `*truncated` tells that bytes or descriptors were lost.
ssize_t csheep_receive(int socket, void *bytes, size_t count, int *descriptors, int *descriptor_count, int *truncated);
int csheep_peer(int socket, int32_t *pid, uint32_t *uid, uint32_t *gid);
int csheep_accept(int socket);
int csheep_socket(int type);
int csheep_socket_pair(int type, int pair[2]);
int csheep_type_stream(void);
int csheep_type_packet(void);
int csheep_type_datagram(void);

// A pipe, non-blocking and close-on-exec.
int csheep_pipe(int ends[2]);
// From now on `number` is written as one byte to `descriptor` (a non-blocking pipe) whenever it arrives.
int csheep_catch_signal(int number, int descriptor);
int csheep_release_signal(int number);
int csheep_ignore_signal(int number);

// Starts a detached thread with all signals blocked. Returns an errno value.
int csheep_start_thread(void (*body)(void *), void *argument, const char *name);
// getrandom of 8 bytes.
ssize_t csheep_random(uint64_t *value);
// Private zeroed memory with all pages present; NULL on failure.
void *csheep_map_populated(size_t count);
// Makes all pages of a range present and writable without changing them.
void csheep_prefault(void *bytes, size_t count);
// The text of an errno value, cut to `capacity`.
void csheep_error_text(int code, char *text, size_t capacity);
#endif
