// Small C shims: what Glibc's Swift module lacks, and CPU instructions Swift cannot name.
#ifndef CSHEEP_H
#define CSHEEP_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <sys/mman.h>
#include <linux/falloc.h>

#include "crc32c.h"
#include "system.h"

// O_DIRECT, which the Glibc module does not show.
int csheep_o_direct(void);
// To be called once, before there are other threads: how much memory the allocator may keep for itself.
void csheep_limit_kept_memory(void);
// Gives memory that the allocator keeps back to the system.
void csheep_return_memory(void);
#endif
