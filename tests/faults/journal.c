/* Preloaded into a program: keeps what it writes to the files data.mdb and marks, and when it syncs, in the file that
 * HEADRACE_TEST_JOURNAL names. An entry is a kind ('w' written, 'd' written and synced at once, 's' synced, 'm' a mark),
 * offset and length as 64 bits each, and the bytes. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static char kind_of(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    const char *name = strrchr(path, '/');
    if (name && !strcmp(name, "/marks")) return 'm';
    if (!name || strcmp(name, "/data.mdb")) return 0;
    return fcntl(fd, F_GETFL) & O_DSYNC ? 'd' : 'w';
}

static void keep(char kind, uint64_t offset, const struct iovec *parts, int count) {
    static FILE *journal;
    const char *path = getenv("HEADRACE_TEST_JOURNAL");
    if (!path) return;
    pthread_mutex_lock(&lock);
    if (!journal && !(journal = fopen(path, "wb"))) abort();
    uint64_t head[2] = {offset, 0};
    for (int i = 0; i < count; i++) head[1] += parts[i].iov_len;
    fputc(kind, journal);
    fwrite(head, sizeof head, 1, journal);
    for (int i = 0; i < count; i++) fwrite(parts[i].iov_base, 1, parts[i].iov_len, journal);
    if (fflush(journal)) abort();
    pthread_mutex_unlock(&lock);
}

#define REAL(name, ...) ((ssize_t (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name))

static void kept(int fd, uint64_t offset, const void *data, ssize_t written) {
    char kind = kind_of(fd);
    struct iovec part = {(void *)data, written};
    if (kind && written > 0) keep(kind, offset, &part, 1);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    ssize_t written = REAL(pwrite, int, const void *, size_t, off_t)(fd, data, size, offset);
    kept(fd, offset, data, written);
    return written;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) { return pwrite(fd, data, size, offset); }

ssize_t write(int fd, const void *data, size_t size) {
    off_t offset = lseek(fd, 0, SEEK_CUR);
    ssize_t written = REAL(write, int, const void *, size_t)(fd, data, size);
    kept(fd, offset, data, written);
    return written;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    off_t offset = lseek(fd, 0, SEEK_CUR);
    ssize_t written = REAL(writev, int, const struct iovec *, int)(fd, parts, count);
    char kind = kind_of(fd);
    if (kind && written > 0) keep(kind, offset, parts, count);
    return written;
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    ssize_t written = REAL(pwritev, int, const struct iovec *, int, off_t)(fd, parts, count, offset);
    char kind = kind_of(fd);
    if (kind && written > 0) keep(kind, offset, parts, count);
    return written;
}

int fdatasync(int fd) {
    int status = ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
    if (!status && kind_of(fd) != 'm' && kind_of(fd)) keep('s', 0, NULL, 0);
    return status;
}

int fsync(int fd) {
    int status = ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
    if (!status && kind_of(fd) != 'm' && kind_of(fd)) keep('s', 0, NULL, 0);
    return status;
}
