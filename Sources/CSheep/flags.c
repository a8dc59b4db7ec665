// Constants behind _GNU_SOURCE.
#define _GNU_SOURCE
#include "include/csheep.h"
#include <malloc.h>

int csheep_o_direct(void) { return O_DIRECT; }

// Large pieces (journal segments at a start, index images, tables of many entries) are mapped each for itself and go
// back when they are freed; without the first call the allocator would keep them after the first one. Payload buffers
// are smaller. The arenas are few, so that what one thread frees another can use.
void csheep_limit_kept_memory(void) {
    mallopt(M_MMAP_THRESHOLD, 2 << 20);
    mallopt(M_TRIM_THRESHOLD, 8 << 20);
    mallopt(M_ARENA_MAX, 4);
}
void csheep_return_memory(void) { malloc_trim(0); }
