// The state that a server leaves for its successor: a few values by key, in memory only.
// A value replaces its predecessor when it is whole, never before: the server may be killed in the middle.
#include <stdlib.h>
#include <string.h>

#include "holder.h"

struct value values[VALUE_COUNT_LIMIT];
size_t value_count;
static struct value partial;
static uint32_t partial_filled;

void state_forget_partial(void) {
    free(partial.bytes);
    memset(&partial, 0, sizeof partial);
    partial_filled = 0;
}

static struct value *find(const char *key) {
    for (size_t i = 0; i < value_count; i++)
        if (strcmp(values[i].key, key) == 0) return &values[i];
    return NULL;
}

static void drop(struct value *value) {
    free(value->bytes);
    *value = values[--value_count];
}

static bool begin(const char *key, uint32_t total) {
    const struct value *old = find(key);
    size_t others = 0;
    for (size_t i = 0; i < value_count; i++)
        if (&values[i] != old) others += values[i].length;
    if (total > STATE_LIMIT || others + total > STATE_LIMIT) return false;
    if (!old && value_count == VALUE_COUNT_LIMIT) return false;
    state_forget_partial();
    partial.bytes = malloc(total);
    if (!partial.bytes) return false;
    strcpy(partial.key, key);
    partial.length = total;
    return true;
}

bool state_store(const struct message *header, const char *key, const uint8_t *piece, size_t piece_length) {
    if (header->total == 0) {
        state_forget_partial();
        struct value *old = find(key);
        if (old) drop(old);
        return true;
    }
    if (header->offset == 0 && !begin(key, header->total)) return false;
    if (!partial.bytes || strcmp(partial.key, key) != 0 || partial.length != header->total) return false;
    if (header->offset != partial_filled || piece_length == 0) return false;
    if (piece_length > partial.length - partial_filled) return false;
    memcpy(partial.bytes + partial_filled, piece, piece_length);
    partial_filled += piece_length;
    if (partial_filled < partial.length) return true;
    struct value *old = find(key);
    if (old) drop(old);
    values[value_count++] = partial;
    memset(&partial, 0, sizeof partial);
    partial_filled = 0;
    return true;
}
