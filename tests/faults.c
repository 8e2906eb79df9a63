// An LD_PRELOAD shim for tests/faults.rs: the nth call that changes files below a folder is killed, or fails.
//
//   SIM_FAULT_BELOW   the folder; calls elsewhere are not counted
//   SIM_FAULT_AT      n, from 1; 0 counts only
//   SIM_FAULT_KIND    kill: the process dies before the call; half: a write dies after half of its bytes;
//                     an error's number (5 EIO, 28 ENOSPC): the call fails with it, and so do all later ones of its kind
//   SIM_FAULT_COUNT   a file that the number of calls is written to at the end
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define MOST_FILES 4096
static char watched[MOST_FILES];
static const char *below;
static long at, calls;
static int half, failure;

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void begin(void) {
    const char *n = getenv("SIM_FAULT_AT"), *kind = getenv("SIM_FAULT_KIND");
    below = getenv("SIM_FAULT_BELOW");
    at = n ? atol(n) : 0;
    half = kind && !strcmp(kind, "half");
    failure = kind ? atoi(kind) : 0;
}

__attribute__((destructor)) static void end(void) {
    const char *path = getenv("SIM_FAULT_COUNT");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (file) {
        fprintf(file, "%ld\n", calls);
        fclose(file);
    }
}

static int is_below(const char *path) {
    return below && path && !strncmp(path, below, strlen(below));
}

// Counts a call; nonzero where it must fail. The full disk of an error stays full.
static int fault(void) {
    long n = __sync_add_and_fetch(&calls, 1);
    if (!at || n < at) return 0;
    if (failure) {
        errno = failure;
        return 1;
    }
    if (n == at && !half) kill(getpid(), SIGKILL);
    return 0;
}

static int opened(int fd, const char *path) {
    if (fd >= 0 && fd < MOST_FILES) watched[fd] = is_below(path);
    return fd;
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        mode_t mode = 0; \
        if (flags & (O_CREAT | O_TMPFILE)) { \
            va_list more; \
            va_start(more, flags); \
            mode = va_arg(more, mode_t); \
            va_end(more); \
        } \
        if ((flags & O_CREAT) && is_below(path) && fault()) return -1; \
        return opened(real(path, flags, mode), path); \
    }
OPEN(open)
OPEN(open64)

#define ON_FD(result, name, parameters, ...) \
    result name parameters { \
        REAL(name); \
        if (fd >= 0 && fd < MOST_FILES && watched[fd] && fault()) return -1; \
        return real(__VA_ARGS__); \
    }
ON_FD(int, fsync, (int fd), fd)
ON_FD(int, fdatasync, (int fd), fd)
ON_FD(int, ftruncate, (int fd, off_t len), fd, len)
ON_FD(int, ftruncate64, (int fd, off64_t len), fd, len)

ssize_t write(int fd, const void *bytes, size_t len) {
    REAL(write);
    if (fd >= 0 && fd < MOST_FILES && watched[fd]) {
        if (fault()) return -1;
        if (half && calls == at) {
            real(fd, bytes, len / 2);
            kill(getpid(), SIGKILL);
        }
    }
    return real(fd, bytes, len);
}

#define ON_PATH(name, parameters, path, ...) \
    int name parameters { \
        REAL(name); \
        if (is_below(path) && fault()) return -1; \
        return real(__VA_ARGS__); \
    }
ON_PATH(rename, (const char *from, const char *to), from, from, to)
ON_PATH(unlink, (const char *path), path, path)
ON_PATH(rmdir, (const char *path), path, path)
ON_PATH(mkdir, (const char *path, mode_t mode), path, path, mode)

// What removing a whole folder does, by the folder's descriptor.
int unlinkat(int folder, const char *path, int flags) {
    REAL(unlinkat);
    int inside = folder == AT_FDCWD ? is_below(path) : folder < MOST_FILES && watched[folder];
    if (inside && fault()) return -1;
    return real(folder, path, flags);
}

int openat64(int folder, const char *path, int flags, ...) {
    REAL(openat64);
    mode_t mode = 0;
    if (flags & (O_CREAT | O_TMPFILE)) {
        va_list more;
        va_start(more, flags);
        mode = va_arg(more, mode_t);
        va_end(more);
    }
    int fd = real(folder, path, flags, mode);
    if (fd >= 0 && fd < MOST_FILES) {
        watched[fd] = folder == AT_FDCWD ? is_below(path) : folder < MOST_FILES && watched[folder];
    }
    return fd;
}

int close(int fd) {
    REAL(close);
    if (fd >= 0 && fd < MOST_FILES) watched[fd] = 0;
    return real(fd);
}
