// The control socket: gives the descriptor and the kept state to one server at a time, keeps what it stores.
// The fuse descriptor is watched only while no server is attached: it would wake us for every request otherwise.
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "holder.h"

extern volatile sig_atomic_t is_terminated;

static bool send_piece(int client, uint32_t type, const char *key, const void *value, uint32_t total,
                       uint32_t offset, uint32_t length, int descriptor) {
    struct message header = {type, key ? (uint32_t)strlen(key) : 0, total, offset};
    struct iovec pieces[3] = {
        {&header, sizeof header},
        {(void *)key, header.key_length},
        {(uint8_t *)value + offset, length},
    };
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = 3};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    if (descriptor >= 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&control.header), &descriptor, sizeof descriptor);
    }
    return sendmsg(client, &message, MSG_NOSIGNAL) >= 0;
}

void send_message(int client, uint32_t type) { send_piece(client, type, NULL, "", 0, 0, 0, -1); }

static void refuse(int client, const char *reason) {
    uint32_t length = (uint32_t)strlen(reason);
    send_piece(client, MESSAGE_REFUSED, NULL, reason, length, 0, length, -1);
    close(client);
}

static bool welcome(const struct holder *holder, int client) {
    uint8_t hello[16 + 4096];
    uint32_t version = PROTOCOL_VERSION;
    size_t path_length = strlen(holder->mountpoint);
    memset(hello, 0, 16);
    memcpy(hello, &version, 4);
    memcpy(hello + 8, &holder->mount_id, 8);
    memcpy(hello + 16, holder->mountpoint, path_length);
    uint32_t length = (uint32_t)(16 + path_length);
    if (!send_piece(client, MESSAGE_WELCOME, NULL, hello, length, 0, length, holder->fuse)) return false;
    for (size_t i = 0; i < value_count; i++) {
        const struct value *value = &values[i];
        for (uint32_t offset = 0; offset < value->length; offset += PIECE_LIMIT) {
            uint32_t rest = value->length - offset;
            if (!send_piece(client, MESSAGE_VALUE, value->key, value->bytes, value->length, offset,
                            rest < PIECE_LIMIT ? rest : PIECE_LIMIT, -1))
                return false;
        }
    }
    return send_piece(client, MESSAGE_READY, NULL, "", 0, 0, 0, -1);
}

// Takes what the server has sent. False when the server is gone or broke the rules; `*unmount` when it asks for that.
static bool drain(int client, bool *unmount) {
    static uint8_t buffer[sizeof(struct message) + KEY_LIMIT + PIECE_LIMIT];
    for (;;) {
        ssize_t count = recv(client, buffer, sizeof buffer, MSG_DONTWAIT | MSG_TRUNC);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return errno == EAGAIN;
        struct message header;
        if ((size_t)count < sizeof header || (size_t)count > sizeof buffer) return false;
        memcpy(&header, buffer, sizeof header);
        if (header.type == MESSAGE_UNMOUNT) {
            *unmount = true;
            return true;
        }
        size_t rest = (size_t)count - sizeof header;
        if (header.type != MESSAGE_STORE || header.key_length == 0 || header.key_length > KEY_LIMIT ||
            header.key_length > rest)
            return false;
        char key[KEY_LIMIT + 1] = {0};
        memcpy(key, buffer + sizeof header, header.key_length);
        if (strlen(key) != header.key_length) return false;
        if (!state_store(&header, key, buffer + sizeof header + header.key_length, rest - header.key_length))
            return false;
    }
}

static bool may_attach(int client, struct ucred *peer) {
    socklen_t length = sizeof *peer;
    if (getsockopt(client, SOL_SOCKET, SO_PEERCRED, peer, &length) != 0) return false;
    return peer->uid == 0 || peer->uid == geteuid();
}

bool serve(const struct holder *holder, int *attached) {
    int client = -1;
    pid_t server = 0;
    sigset_t unblocked;
    sigprocmask(SIG_BLOCK, NULL, &unblocked);
    sigdelset(&unblocked, SIGTERM);
    sigdelset(&unblocked, SIGINT);
    for (;;) {
        struct pollfd polled[2] = {{holder->listener, POLLIN, 0}, {0}};
        polled[1] = client >= 0 ? (struct pollfd){client, POLLIN, 0} : (struct pollfd){holder->fuse, 0, 0};
        int ready = ppoll(polled, 2, NULL, &unblocked);
        *attached = client;
        if (is_terminated) return true;
        if (ready < 0) continue;
        bool unmount = false;
        // The old server's last words and its end come before a new one is looked at.
        if (client >= 0 && polled[1].revents && !drain(client, &unmount)) {
            close(client);
            client = -1;
            state_forget_partial();
        } else if (client < 0 && polled[1].revents & (POLLERR | POLLHUP | POLLNVAL)) {
            return false;
        }
        *attached = client;
        if (unmount) return true;
        if (!(polled[0].revents & POLLIN)) continue;
        int next = accept4(holder->listener, NULL, NULL, SOCK_CLOEXEC);
        if (next < 0) continue;
        struct timeval limit = {5, 0};
        setsockopt(next, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        struct ucred peer = {0};
        if (client >= 0 && !drain(client, &unmount)) {
            close(client);
            client = -1;
            state_forget_partial();
        }
        if (!may_attach(next, &peer)) {
            refuse(next, "only root and the user who mounted may serve this mount");
        } else if (client >= 0) {
            char reason[96];
            snprintf(reason, sizeof reason, "process %d serves this mount already", (int)server);
            refuse(next, reason);
        } else if (welcome(holder, next)) {
            client = next;
            server = peer.pid;
        } else {
            close(next);
        }
        *attached = client;
        if (unmount) return true;
    }
}
