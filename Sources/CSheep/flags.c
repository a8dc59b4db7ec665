// Constants behind _GNU_SOURCE.
#define _GNU_SOURCE
#include "include/csheep.h"
#include <malloc.h>

int csheep_o_direct(void) { return O_DIRECT; }

void csheep_return_memory(void) { malloc_trim(0); }
