/* SPDX-License-Identifier: MIT */
/* Regular files through the restricted io_uring, alone and below a ring. */
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test_blk.h"

#define FILE_BYTES (2u << 20)

static struct uring uring;
static struct blkdev_done done;
static char path[64];

static int setup(void **state)
{
    const char *step;
    (void)state;
    blkdev_done_init(&done);
    int err = uring_open(&uring, &done, &step);
    if (err < 0) {
        print_message("this kernel gives no io_uring (%s: %s)\n", step, strerror(-err));
        return -1;
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    uring_close(&uring);
    return 0;
}

static int temp_file(off_t bytes)
{
    snprintf(path, sizeof(path), "/tmp/bulkhead-test-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, bytes), 0);
    return fd;
}

static void open_file(struct blkdev_file *f, int fd)
{
    struct blkdev_geometry geo;
    assert_int_equal(file_geometry(fd, false, &geo), 0);
    blkdev_file_prepare(f, &uring, &done);
    assert_int_equal(blkdev_file_open(f, fd, &geo), 0);
}

static void close_file(struct blkdev_file *f, int fd)
{
    f->dev.ops->close(&f->dev);
    close(fd);
    unlink(path);
}

/* Waits for one request; returns its outcome. */
static int outcome(void)
{
    struct blkdev_io *io = NULL;
    while (!io) {
        uring_turn(&uring);
        io = blkdev_done_take(&done);
    }
    assert_null(io->next);
    return io->error;
}

static int transfer(struct blkdev_file *f, uint8_t op, uint8_t flags, uint64_t at, struct iovec *iov,
                    unsigned n, int buffer)
{
    struct blkdev_io io = { .op = op, .flags = flags, .offset = at, .iov = iov, .niov = (uint16_t)n,
                            .buffer = buffer };
    for (unsigned i = 0; i < n; i++)
        io.bytes += iov[i].iov_len;
    assert_int_equal(f->dev.ops->submit(&f->dev, &io), 0);
    return outcome();
}

static int span(struct blkdev_file *f, uint8_t op, uint8_t flags, uint64_t at, uint64_t bytes)
{
    struct blkdev_io io = { .op = op, .flags = flags, .offset = at, .bytes = bytes,
                            .buffer = BLKDEV_NO_BUFFER };
    assert_int_equal(f->dev.ops->submit(&f->dev, &io), 0);
    return outcome();
}

static void geometry(void **state)
{
    (void)state;
    struct blkdev_geometry geo;
    int fd = temp_file(FILE_BYTES + 100), ends[2];
    assert_int_equal(file_geometry(fd, true, &geo), 0);
    assert_int_equal(geo.bytes, FILE_BYTES);
    assert_int_equal(geo.sector_bytes, 512);
    assert_true(geo.readonly);
    assert_int_equal(geo.discard_granularity, 0);
    assert_int_equal(ftruncate(fd, 511), 0);
    assert_int_equal(file_geometry(fd, false, &geo), -ENXIO);
    close(fd);
    unlink(path);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(file_geometry(ends[0], false, &geo), -ESPIPE);
    close(ends[0]);
    close(ends[1]);
}

static void read_and_write(void **state)
{
    (void)state;
    static uint8_t out[64 << 10], in[64 << 10];
    struct blkdev_file f;
    int fd = temp_file(FILE_BYTES);
    open_file(&f, fd);
    for (unsigned fua = 0; fua < 2; fua++) {
        rig_fill(out, sizeof(out), fua);
        struct iovec one = { out, sizeof(out) };
        assert_int_equal(transfer(&f, BLKDEV_WRITE, fua ? BLKDEV_FUA : 0, 8192, &one, 1, -1), 0);
        struct iovec three[] = { { in, 512 }, { in + 512, 4096 }, { in + 4608, sizeof(in) - 4608 } };
        assert_int_equal(transfer(&f, BLKDEV_READ, 0, 8192, three, 3, -1), 0);
        assert_memory_equal(in, out, sizeof(in));
    }
    assert_int_equal(span(&f, BLKDEV_FLUSH, 0, 0, 0), 0);
    close_file(&f, fd);
}

static void registered_buffer(void **state)
{
    (void)state;
    struct blkdev_file f;
    int fd = temp_file(FILE_BYTES);
    open_file(&f, fd);
    uint8_t *mem = mmap(NULL, 16 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int buffer = f.dev.ops->buffer_add(&f.dev, mem, 16 * 4096);
    assert_true(buffer >= 0);
    rig_fill(mem, 8 * 4096, 4);
    struct iovec out = { mem, 8 * 4096 }, in = { mem + 8 * 4096, 8 * 4096 };
    assert_int_equal(transfer(&f, BLKDEV_WRITE, 0, 4096, &out, 1, buffer), 0);
    assert_int_equal(transfer(&f, BLKDEV_READ, 0, 4096, &in, 1, buffer), 0);
    assert_memory_equal(mem, mem + 8 * 4096, 8 * 4096);
    /* Control: it is the table that is used, so outside of it there is nothing. */
    uint8_t stray[4096];
    struct iovec bad = { stray, sizeof(stray) };
    assert_int_equal(transfer(&f, BLKDEV_READ, 0, 0, &bad, 1, buffer), -EFAULT);
    f.dev.ops->buffer_remove(&f.dev, buffer);
    in = (struct iovec){ mem, 4096 };
    assert_true(transfer(&f, BLKDEV_READ, 0, 0, &in, 1, buffer) < 0);
    munmap(mem, 16 * 4096);
    close_file(&f, fd);
}

/* A file that was cut short behind our back: an error, never silence. */
static void file_ends_early(void **state)
{
    (void)state;
    static uint8_t mem[16384];
    struct blkdev_file f;
    int fd = temp_file(FILE_BYTES);
    open_file(&f, fd);
    assert_int_equal(ftruncate(fd, 4096 + 1000), 0);
    struct iovec one = { mem, 8192 };
    assert_int_equal(transfer(&f, BLKDEV_READ, 0, 0, &one, 1, -1), -EIO);
    struct iovec two[] = { { mem, 512 }, { mem + 512, 8192 } };
    assert_int_equal(transfer(&f, BLKDEV_READ, 0, 4096, two, 2, -1), -EIO);
    one = (struct iovec){ mem, 4096 };
    assert_int_equal(transfer(&f, BLKDEV_READ, 0, 65536, &one, 1, -1), -EIO);
    assert_int_equal(transfer(&f, BLKDEV_READ, 0, 0, &one, 1, -1), 0);
    close_file(&f, fd);
}

static void expect_bytes(int fd, uint64_t at, uint64_t bytes, uint8_t value)
{
    static uint8_t mem[FILE_BYTES];
    assert_int_equal(pread(fd, mem, bytes, (off_t)at), bytes);
    for (uint64_t i = 0; i < bytes; i++)
        assert_int_equal(mem[i], value);
}

static void discard_and_zero(struct blkdev_file *f, int fd)
{
    static const uint8_t ops[] = { BLKDEV_DISCARD, BLKDEV_ZEROES, BLKDEV_ZEROES };
    static uint8_t ones[FILE_BYTES];
    memset(ones, 1, sizeof(ones));
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(pwrite(fd, ones, sizeof(ones), 0), sizeof(ones));
        assert_int_equal(span(f, ops[i], i == 2 ? BLKDEV_MAY_UNMAP : 0, 512, 1 << 20), 0);
        expect_bytes(fd, 0, 512, 1);
        expect_bytes(fd, 512, 1 << 20, 0);
        expect_bytes(fd, 512 + (1 << 20), 4096, 1);
    }
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, FILE_BYTES);
}

static void discard_and_zero_in_a_file(void **state)
{
    (void)state;
    struct blkdev_file f;
    int fd = temp_file(FILE_BYTES);
    open_file(&f, fd);
    discard_and_zero(&f, fd);
    close_file(&f, fd);
}

/* Shared memory cannot zero a range by fallocate: the zeroes are written. */
static void zeroes_are_written_where_need_be(void **state)
{
    (void)state;
    struct blkdev_file f;
    int fd = memfd_create("disk", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, FILE_BYTES), 0);
    assert_int_not_equal(fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, 4096), 0);
    assert_int_equal(errno, EOPNOTSUPP);
    open_file(&f, fd);
    discard_and_zero(&f, fd);
    f.dev.ops->close(&f.dev);
    close(fd);
}

static void enospc_is_told(void **state)
{
    (void)state;
    char dir[] = "/tmp/bulkhead-test-XXXXXX", name[64];
    static uint8_t mem[256 << 10];
    struct blkdev_file f;
    if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0)
        skip(); /* needs a file system of its own */
    assert_non_null(mkdtemp(dir));
    assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    assert_int_equal(mount("disk", dir, "tmpfs", 0, "size=64k"), 0);
    snprintf(name, sizeof(name), "%s/disk", dir);
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(fd, FILE_BYTES), 0);
    open_file(&f, fd);
    struct iovec one = { mem, 4096 };
    assert_int_equal(transfer(&f, BLKDEV_WRITE, 0, 0, &one, 1, -1), 0);
    one = (struct iovec){ mem, sizeof(mem) }; /* a part fits, the rest does not */
    assert_int_equal(transfer(&f, BLKDEV_WRITE, 0, 0, &one, 1, -1), -ENOSPC);
    f.dev.ops->close(&f.dev);
    close(fd);
    assert_int_equal(umount(dir), 0);
    assert_int_equal(rmdir(dir), 0);
}

/* The ring is no way around seccomp. */
static void ring_is_restricted(void **state)
{
    (void)state;
    static uint8_t mem[512];
    struct io_uring_cqe *cqe;
    int fd = temp_file(FILE_BYTES);
    for (unsigned i = 0; i < 4; i++) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&uring.ring);
        if (i == 0)
            io_uring_prep_openat(sqe, AT_FDCWD, "/etc/passwd", O_RDONLY, 0);
        else if (i == 1)
            io_uring_prep_socket(sqe, AF_UNIX, SOCK_STREAM, 0, 0);
        else if (i == 2)
            io_uring_prep_splice(sqe, fd, 0, fd, 4096, sizeof(mem), 0);
        else
            io_uring_prep_nop(sqe);
        assert_int_equal(io_uring_submit_and_wait(&uring.ring, 1), 1);
        assert_int_equal(io_uring_wait_cqe(&uring.ring, &cqe), 0);
        assert_int_equal(cqe->res, -EACCES);
        io_uring_cqe_seen(&uring.ring, cqe);
    }
    assert_int_equal(io_uring_register_eventfd(&uring.ring, fd), -EACCES);
    assert_int_equal(io_uring_register_files(&uring.ring, &fd, 1), -EACCES);
    /* Control: what it is for works. */
    struct blkdev_file f;
    open_file(&f, fd);
    struct iovec one = { mem, sizeof(mem) };
    assert_int_equal(transfer(&f, BLKDEV_READ, 0, 0, &one, 1, -1), 0);
    close_file(&f, fd);
}

/* The whole way: ring, grants of each kind, file. */
static void below_a_ring(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < 3; kind++) {
        struct rig r;
        struct blkdev_file f;
        struct blkif_response rsp = { 0 };
        int fd = temp_file(DISK_BYTES);
        open_file(&f, fd);
        f.dev.done = &rig_sched.done;
        uring.done = &rig_sched.done;
        rig_open(&r, &(struct rig_options){ .grants = kind, .order = 2, .device = &f.dev });
        r.uring = &uring;
        rig_fill(rig_page(&r, 0), 64 * HYP_PAGE_SIZE, kind);
        for (unsigned write = 2; write-- > 0;) {
            for (unsigned i = 0; i < 64; i++) {
                struct blkif_request rq =
                    rig_rw(&r, write ? BLKIF_OP_WRITE : BLKIF_OP_READ, i * 8, write ? i : 100 + i, 1);
                rig_put(&r, &rq);
            }
            rig_serve(&r);
            for (unsigned i = 0; i < 64; i++) {
                assert_true(rig_take(&r, &rsp));
                assert_int_equal(rsp.status, BLKIF_RSP_OKAY);
            }
        }
        assert_memory_equal(rig_page(&r, 100), rig_page(&r, 0), 64 * HYP_PAGE_SIZE);
        struct blkif_request flush = { .operation = BLKIF_OP_FLUSH_DISKCACHE };
        assert_int_equal(rig_ask(&r, &flush), BLKIF_RSP_OKAY);
        rig_close(&r);
        uring.done = &done;
        close(fd);
        unlink(path);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(geometry),
        cmocka_unit_test(read_and_write),
        cmocka_unit_test(registered_buffer),
        cmocka_unit_test(file_ends_early),
        cmocka_unit_test(discard_and_zero_in_a_file),
        cmocka_unit_test(zeroes_are_written_where_need_be),
        cmocka_unit_test(enospc_is_told),
        cmocka_unit_test(ring_is_restricted),
        cmocka_unit_test(below_a_ring),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
