// Constants behind _GNU_SOURCE.
#define _GNU_SOURCE
#include "include/csheep.h"

int csheep_o_direct(void) { return O_DIRECT; }
