// libfuse3 as a system library: options, mounting and unmounting only (the session is our own).
#define FUSE_USE_VERSION 312
#include <fuse3/fuse_lowlevel.h>

// A memory file, close-on-exec. Declared here because the C library shows it only to _GNU_SOURCE.
extern int memfd_create(const char *name, unsigned int flags);
static inline int cfuse_memory_file(const char *name) { return memfd_create(name, 1 /* MFD_CLOEXEC */); }
