// What the parts of sheep-holder share: the control socket's messages, the kept state, and the loop.
// The holder decides nothing about what is served; it must stay so small that it never needs an upgrade.
#ifndef SHEEP_HOLDER_H
#define SHEEP_HOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Messages on the SEQPACKET socket: this header (host byte order, both ends are on one host), then the key,
// then one piece of the value.
struct message {
    uint32_t type;
    uint32_t key_length;
    uint32_t total;   // bytes of the whole value
    uint32_t offset;  // of this piece in it
};

enum {
    // server to holder
    MESSAGE_STORE = 1,    // keep key = value, kept whole once the last piece is there; total 0 removes
    MESSAGE_UNMOUNT = 2,  // unmount, answer, exit
    // holder to server
    MESSAGE_WELCOME = 16,  // with the descriptor; value: protocol version (32), 0 (32), mount id (64), mountpoint
    MESSAGE_VALUE = 17,    // a piece of a kept value
    MESSAGE_READY = 18,    // all kept values were sent
    MESSAGE_DONE = 19,     // unmounted
    MESSAGE_REFUSED = 20,  // value: the reason, as text
};

enum {
    PROTOCOL_VERSION = 1,
    KEY_LIMIT = 64,
    PIECE_LIMIT = 32768,
    STATE_LIMIT = 1 << 20,  // bytes of all kept values together
    VALUE_COUNT_LIMIT = 64,
};

// state.c
struct value {
    char key[KEY_LIMIT + 1];
    uint8_t *bytes;
    uint32_t length;
};
extern struct value values[VALUE_COUNT_LIMIT];
extern size_t value_count;
// Takes one piece; false when it breaks the rules or the limits, and then nothing that was kept has changed.
bool state_store(const struct message *header, const char *key, const uint8_t *piece, size_t piece_length);
// Forgets a value that did not arrive whole.
void state_forget_partial(void);

// serve.c
struct holder {
    int fuse;      // the session's descriptor
    int listener;  // the control socket
    uint64_t mount_id;
    const char *mountpoint;
};
// Serves until the mount is gone or is to be unmounted: true = unmount it. `*client` is then the server that is
// attached, or -1.
bool serve(const struct holder *holder, int *client);
void send_message(int client, uint32_t type);

// mounts.c
// Whether one of our file systems is mounted at `path`; never touches the path.
bool is_mounted(const char *path);
// Absolute, without symbolic links in all but a mount's own root; NULL with errno. Never touches the mount's root.
char *resolve_mountpoint(const char *path);

#endif
