// What is mounted where, read from mountinfo. A path inside one of our mounts is never touched: without a server
// behind it, that would wait for ever.
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "holder.h"

static void unescape(char *text) {
    char *out = text;
    for (char *in = text; *in; in++) {
        if (in[0] == '\\' && in[1] >= '0' && in[1] <= '3' && in[2] >= '0' && in[2] <= '7' && in[3] >= '0' &&
            in[3] <= '7') {
            *out++ = (char)((in[1] - '0') << 6 | (in[2] - '0') << 3 | (in[3] - '0'));
            in += 3;
        } else {
            *out++ = *in;
        }
    }
    *out = 0;
}

bool is_mounted(const char *path) {
    FILE *file = fopen("/proc/self/mountinfo", "re");
    if (!file) return false;
    char *line = NULL;
    size_t size = 0;
    bool found = false;
    while (!found && getline(&line, &size, file) > 0) {
        char *separator = strstr(line, " - ");
        if (!separator || strncmp(separator + 3, "fuse.sheep", 10) != 0) continue;
        char *field = line;
        for (int i = 0; i < 4 && field; i++) {
            field = strchr(field, ' ');
            if (field) field++;
        }
        char *end = field ? strchr(field, ' ') : NULL;
        if (!end) continue;
        *end = 0;
        unescape(field);
        found = strcmp(field, path) == 0;
    }
    free(line);
    fclose(file);
    return found;
}

static char *resolve(const char *path, int depth) {
    if (depth > 16) {
        errno = ELOOP;
        return NULL;
    }
    char directory_copy[PATH_MAX], name_copy[PATH_MAX], parent[PATH_MAX], joined[PATH_MAX], target[PATH_MAX];
    if (strlen(path) >= PATH_MAX || !*path) {
        errno = *path ? ENAMETOOLONG : ENOENT;
        return NULL;
    }
    strcpy(directory_copy, path);
    strcpy(name_copy, path);
    const char *name = basename(name_copy);
    if (strcmp(name, "/") == 0 || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) return realpath(path, NULL);
    if (!realpath(dirname(directory_copy), parent)) return NULL;
    if (snprintf(joined, sizeof joined, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent, name) >=
        (int)sizeof joined) {
        errno = ENAMETOOLONG;
        return NULL;
    }
    // readlink of a mount's root is answered by the kernel alone.
    ssize_t length = readlink(joined, target, sizeof target - 1);
    if (length < 0) return errno == EINVAL ? strdup(joined) : NULL;
    target[length] = 0;
    if (target[0] == '/') return resolve(target, depth + 1);
    char relative[2 * PATH_MAX];
    snprintf(relative, sizeof relative, "%s/%s", parent, target);
    return resolve(relative, depth + 1);
}

char *resolve_mountpoint(const char *path) { return resolve(path, 0); }
