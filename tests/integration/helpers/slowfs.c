/* SPDX-License-Identifier: MIT */
/*
 * slowfs - a file system whose disk can be late.
 *
 *   slowfs BACKING MOUNTPOINT
 *
 * Shows BACKING as MOUNTPOINT/disk.  What is written to MOUNTPOINT/control:
 *   hold     the next write to the disk is taken and not applied
 *   apply    it is applied now, and answered to whoever still listens
 *   late US  every read and write from now on takes so many microseconds, one after the other
 * A held write is what a slow device has in its queue: it waits for as long as
 * the test wants it to, its writer may die meanwhile, and everything after it
 * goes past it.
 *
 * What happens is told on standard output, a line each, in its order:
 *   open N | read N | write N | held N | applied N | closed N
 * N counts the opens of the disk from 1.  "mounted" comes first.
 *
 * Ends on SIGTERM, unmounted; a write that is still held is then lost.
 */
#define FUSE_USE_VERSION 314
#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse_lowlevel.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { DISK = FUSE_ROOT_ID + 1, CONTROL };

#define HOLD_BYTES_MAX (1u << 20) /* one write's data, FUSE's own limit */

static int backing;
static uint64_t opens;
static bool hold_next;
static uint32_t late_us;

/* The write that is held; open 0: none. */
static struct {
    uint64_t open;
    fuse_req_t req;
    size_t bytes;
    off_t at;
    char data[HOLD_BYTES_MAX];
} held;

static void tell(const char *what, uint64_t open)
{
    printf("%s %" PRIu64 "\n", what, open);
    fflush(stdout);
}

/* --------------------------------------------------------------- names and types */

static int describe(fuse_ino_t node, struct stat *st)
{
    *st = (struct stat){ .st_ino = node, .st_nlink = 1, .st_mode = S_IFREG | 0600 };
    if (node == FUSE_ROOT_ID) {
        st->st_mode = S_IFDIR | 0700;
        st->st_nlink = 2;
    } else if (node == DISK) {
        struct stat file;
        if (fstat(backing, &file) < 0)
            return errno;
        st->st_size = file.st_size;
    }
    return 0;
}

static void on_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fuse_entry_param entry = { .ino = 0 };
    if (parent == FUSE_ROOT_ID && strcmp(name, "disk") == 0)
        entry.ino = DISK;
    else if (parent == FUSE_ROOT_ID && strcmp(name, "control") == 0)
        entry.ino = CONTROL;
    int error = entry.ino ? describe(entry.ino, &entry.attr) : ENOENT;
    if (error)
        fuse_reply_err(req, error);
    else
        fuse_reply_entry(req, &entry);
}

static void on_getattr(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *file)
{
    struct stat st;
    int error = describe(node, &st);
    (void)file;
    if (error)
        fuse_reply_err(req, error);
    else
        fuse_reply_attr(req, &st, 0);
}

/* The control file is opened to be truncated, which changes nothing. */
static void on_setattr(fuse_req_t req, fuse_ino_t node, struct stat *st, int what,
                       struct fuse_file_info *file)
{
    (void)st;
    (void)what;
    if (node == CONTROL)
        on_getattr(req, node, file);
    else
        fuse_reply_err(req, EPERM);
}

static void on_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *file)
{
    if (node == DISK) {
        file->fh = ++opens;
        tell("open", file->fh);
    }
    file->direct_io = 1; /* nothing waits in the page cache */
    fuse_reply_open(req, file);
}

static void on_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *file)
{
    if (node == DISK)
        tell("closed", file->fh);
    fuse_reply_err(req, 0);
}

/* ---------------------------------------------------------------------- the disk */

static void be_late(void)
{
    struct timespec t = { .tv_sec = late_us / 1000000, .tv_nsec = (long)(late_us % 1000000) * 1000 };
    nanosleep(&t, NULL);
}

static void write_now(fuse_req_t req, const char *data, size_t bytes, off_t at)
{
    ssize_t n = pwrite(backing, data, bytes, at);
    if (n < 0)
        fuse_reply_err(req, errno);
    else
        fuse_reply_write(req, (size_t)n);
}

static void apply(void)
{
    write_now(held.req, held.data, held.bytes, held.at);
    tell("applied", held.open);
    held.open = 0;
}

static bool control(const char *word, size_t bytes)
{
    if (bytes == 5 && memcmp(word, "hold\n", 5) == 0 && held.open == 0)
        hold_next = true;
    else if (bytes == 6 && memcmp(word, "apply\n", 6) == 0 && held.open != 0)
        apply();
    else if (bytes > 5 && bytes < 12 && memcmp(word, "late ", 5) == 0 && word[bytes - 1] == '\n')
        late_us = (uint32_t)strtoul(word + 5, NULL, 10); /* ends at the newline */
    else
        return false;
    return true;
}

static void on_write(fuse_req_t req, fuse_ino_t node, const char *data, size_t bytes, off_t at,
                     struct fuse_file_info *file)
{
    if (node == CONTROL) {
        if (control(data, bytes))
            fuse_reply_write(req, bytes);
        else
            fuse_reply_err(req, EINVAL);
    } else if (hold_next && bytes <= sizeof(held.data)) {
        hold_next = false;
        held.open = file->fh;
        held.req = req;
        held.bytes = bytes;
        held.at = at;
        memcpy(held.data, data, bytes);
        tell("held", file->fh);
    } else {
        tell("write", file->fh);
        be_late();
        write_now(req, data, bytes, at);
    }
}

static void on_read(fuse_req_t req, fuse_ino_t node, size_t bytes, off_t at, struct fuse_file_info *file)
{
    if (node != DISK) {
        fuse_reply_buf(req, NULL, 0);
        return;
    }
    tell("read", file->fh);
    be_late();
    struct fuse_bufvec from = FUSE_BUFVEC_INIT(bytes);
    from.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
    from.buf[0].fd = backing;
    from.buf[0].pos = at;
    fuse_reply_data(req, &from, 0);
}

static void on_fsync(fuse_req_t req, fuse_ino_t node, int data_only, struct fuse_file_info *file)
{
    (void)node;
    (void)data_only;
    (void)file;
    fuse_reply_err(req, fdatasync(backing) < 0 ? errno : 0);
}

static const struct fuse_lowlevel_ops ops = {
    .lookup = on_lookup, .getattr = on_getattr, .setattr = on_setattr, .open = on_open, .release = on_release,
    .read = on_read,     .write = on_write,     .fsync = on_fsync,
};

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: slowfs BACKING MOUNTPOINT\n");
        return 2;
    }
    backing = open(argv[1], O_RDWR | O_CLOEXEC);
    if (backing < 0) {
        fprintf(stderr, "slowfs: %s: %s\n", argv[1], strerror(errno));
        return 1;
    }
    char *options[] = { argv[0], "-oallow_other", NULL }; /* a driver domain has a uid of its own */
    struct fuse_args args = FUSE_ARGS_INIT(2, options);
    struct fuse_session *session = fuse_session_new(&args, &ops, sizeof(ops), NULL);
    if (!session || fuse_set_signal_handlers(session) < 0 || fuse_session_mount(session, argv[2]) < 0)
        return 1; /* the library has said why */
    puts("mounted");
    fflush(stdout);
    int error = fuse_session_loop(session); /* one request after the other */
    fuse_session_unmount(session);
    fuse_remove_signal_handlers(session);
    fuse_session_destroy(session);
    return error < 0; /* above: the signal */
}
