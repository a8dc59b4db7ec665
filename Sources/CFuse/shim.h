// libfuse3 as a system library: options, mounting and unmounting only (the session is our own).
#define FUSE_USE_VERSION 312
#include <fuse3/fuse_lowlevel.h>
