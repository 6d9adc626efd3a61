/* SPDX-License-Identifier: MIT */
/* memory.h: a guest's memory table, and what a VMM can do to it; guard.h beside it. */
#include "test_vhost.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

static struct vhost_memory mem;

static int begin(void **state)
{
    static struct guest g;
    guest_open(&g);
    vhost_memory_clear(&mem);
    *state = &g;
    return 0;
}

static int end(void **state)
{
    vhost_memory_clear(&mem);
    guest_close(*state);
    return 0;
}

static unsigned mappings(void)
{
    char line[512];
    unsigned n = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    assert_non_null(maps);
    while (fgets(line, sizeof(line), maps))
        n += strstr(line, "memfd:guest") != NULL;
    fclose(maps);
    return n;
}

/* n regions, one behind the other in the file, with a hole between them in the guest. */
static void regions(struct vhost_region_at *at, unsigned n, uint64_t bytes, uint64_t hole)
{
    for (unsigned i = 0; i < n; i++)
        at[i] = (struct vhost_region_at){ .guest = GUEST_AT + i * (bytes + hole), .bytes = bytes,
                                          .user = GUEST_USER + i * (bytes + hole), .offset = i * bytes };
}

static void test_look_up(void **state)
{
    struct guest *g = *state;
    struct vhost_region_at at[3];
    int fds[3] = { g->fd, g->fd, g->fd };
    struct iovec piece[4];
    regions(at, 3, 8192, 4096);
    struct vhost_region_at swapped[3] = { at[2], at[0], at[1] };
    assert_int_equal(vhost_memory_set(&mem, swapped, fds, 3), 0);
    memcpy(g->at + 8192 + 5, "there", sizeof("there"));
    for (unsigned round = 0; round < 2; round++) {
        assert_int_equal(vhost_memory_guest(&mem, at[1].guest + 5, 6, piece, 4), 1);
        assert_string_equal(piece[0].iov_base, "there");
        assert_string_equal(vhost_memory_user(&mem, at[1].user + 5, 6), "there");
        assert_ptr_equal(vhost_memory_hot(&mem, at[1].guest + 5, 6), piece[0].iov_base);
        /* Exactly to the end, and not a byte further. */
        assert_int_equal(vhost_memory_guest(&mem, at[2].guest, 8192, piece, 4), 1);
        assert_int_equal(vhost_memory_guest(&mem, at[2].guest, 8193, piece, 4), 0);
        assert_int_equal(vhost_memory_guest(&mem, at[0].guest - 1, 2, piece, 4), 0);
        assert_int_equal(vhost_memory_guest(&mem, at[0].guest + 8191, 2, piece, 4), 0); /* a hole */
        assert_non_null(vhost_memory_user(&mem, at[2].user, 8192));
        assert_null(vhost_memory_user(&mem, at[2].user, 8193));
        assert_null(vhost_memory_user(&mem, at[0].user - 1, 1));
        assert_null(vhost_memory_user(&mem, UINT64_MAX, 2));
        assert_null(vhost_memory_user(&mem, at[0].user + 8, UINT64_MAX));
        assert_int_equal(vhost_memory_guest(&mem, UINT64_MAX - 1, 16, piece, 4), 0);
        assert_int_equal(vhost_memory_guest(&mem, at[0].guest, UINT64_MAX, piece, 4), 0);
        assert_null(vhost_memory_hot(&mem, at[0].guest - 1, 1));
    }
    vhost_memory_clear(&mem);
    assert_null(vhost_memory_hot(&mem, 0, 0));
    assert_null(vhost_memory_user(&mem, at[0].user, 1));
    assert_int_equal(vhost_memory_guest(&mem, at[0].guest, 1, piece, 4), 0);
}

static void test_across(void **state)
{
    struct guest *g = *state;
    struct vhost_region_at at[3];
    int fds[3] = { g->fd, g->fd, g->fd };
    struct iovec piece[3];
    regions(at, 3, 4096, 0);
    assert_int_equal(vhost_memory_set(&mem, at, fds, 3), 0);
    assert_int_equal(vhost_memory_guest(&mem, at[0].guest + 4095, 4098, piece, 3), 3);
    assert_int_equal(piece[0].iov_len, 1);
    assert_int_equal(piece[1].iov_len, 4096);
    assert_int_equal(piece[2].iov_len, 1);
    assert_int_equal(vhost_memory_guest(&mem, at[0].guest + 4095, 4098, piece, 2), 0); /* no room */
    assert_int_equal(vhost_memory_guest(&mem, at[0].guest + 4095, 4097, piece, 2), 2);
    assert_int_equal(vhost_memory_guest(&mem, at[0].guest + 1, 3 * 4096, piece, 3), 0); /* past the end */
    assert_null(vhost_memory_user(&mem, at[0].user + 4095, 2)); /* not in one */
}

/* At the top of the address space nothing wraps. */
static void test_top(void **state)
{
    struct guest *g = *state;
    struct iovec piece[2];
    struct vhost_region_at at = { .guest = UINT64_MAX - 4095, .bytes = 4096, .user = UINT64_MAX - 4095 };
    assert_int_equal(vhost_memory_set(&mem, &at, &g->fd, 1), 0);
    assert_int_equal(vhost_memory_guest(&mem, UINT64_MAX, 1, piece, 2), 1);
    assert_int_equal(vhost_memory_guest(&mem, UINT64_MAX, 2, piece, 2), 0);
    assert_non_null(vhost_memory_user(&mem, UINT64_MAX, 1));
    assert_null(vhost_memory_user(&mem, UINT64_MAX, 2));
}

static void test_refused(void **state)
{
    struct guest *g = *state;
    assert_int_equal(guard_install(), 0); /* cmocka has put its own over it */
    const struct vhost_region_at good = guest_region();
    struct vhost_region_at bad[2] = { good, good };
    int fds[2] = { g->fd, g->fd };
    unsigned before = mappings();
    assert_int_equal(vhost_memory_set(&mem, &good, fds, 1), 0);
    assert_int_equal(mappings(), before + 1);
    struct {
        struct vhost_region_at at;
        int err;
    } cases[] = {
        { { good.guest, 0, good.user, 0 }, -EINVAL },
        { { UINT64_MAX - 4095, 4097, good.user, 0 }, -EINVAL },
        { { good.guest, 4097, UINT64_MAX - 4095, 0 }, -EINVAL },
        { { good.guest, GUEST_BYTES + 1, good.user, 0 }, -EINVAL },
        { { good.guest, GUEST_BYTES, good.user, 4096 }, -EINVAL },
        { { good.guest, 4096, good.user, UINT64_MAX - 4095 }, -EINVAL },
        { { good.guest, VHOST_REGION_BYTES_MAX + 1, good.user, 0 }, -EINVAL },
        { { good.guest, 4096, good.user, GUEST_BYTES }, -EINVAL },
    };
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(vhost_memory_set(&mem, &cases[i].at, fds, 1), cases[i].err);
        assert_int_equal(mem.n, 1); /* what was there stays */
        assert_non_null(vhost_memory_user(&mem, GUEST_USER, GUEST_BYTES));
        assert_int_equal(mappings(), before + 1);
    }
    /* Overlaps: in the guest, in the VMM. */
    bad[1].user += GUEST_BYTES;
    assert_int_equal(vhost_memory_set(&mem, bad, fds, 2), -EINVAL);
    bad[1] = good;
    bad[1].guest += GUEST_BYTES;
    assert_int_equal(vhost_memory_set(&mem, bad, fds, 2), -EINVAL);
    assert_int_equal(vhost_memory_add(&mem, &bad[1], g->fd), -EINVAL);
    bad[1].user += GUEST_BYTES;
    assert_int_equal(vhost_memory_add(&mem, &bad[1], g->fd), 0);
    assert_int_equal(mem.n, 2);
    vhost_memory_clear(&mem);
    assert_int_equal(mappings(), before);
    assert_false(vhost_memory_faulted(&mem));
}

/* Files that are no memory, or may not be written. */
static void test_files(void **state)
{
    struct guest *g = *state;
    struct vhost_region_at at = guest_region();
    char path[64];
    int pair[2], fd = -1;
    assert_int_equal(vhost_memory_set(&mem, &at, &fd, 1), -EBADF);
    assert_int_equal(pipe(pair), 0);
    assert_true(vhost_memory_set(&mem, &at, &pair[0], 1) < 0);
    close(pair[0]);
    close(pair[1]);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", g->fd);
    FILE *readable = fopen(path, "re");
    assert_non_null(readable);
    fd = fileno(readable);
    assert_int_equal(vhost_memory_set(&mem, &at, &fd, 1), -EACCES);
    fclose(readable);
    assert_int_equal(mem.n, 0);
    assert_int_equal(vhost_memory_set(&mem, &at, &g->fd, 1), 0);
}

/* An offset that is no page's. */
static void test_offset(void **state)
{
    struct guest *g = *state;
    struct vhost_region_at at = { .guest = GUEST_AT, .bytes = 100, .user = GUEST_USER, .offset = 4096 + 50 };
    memcpy(g->at + 4096 + 50 + 90, "odd", sizeof("odd"));
    assert_int_equal(vhost_memory_set(&mem, &at, &g->fd, 1), 0);
    assert_string_equal(vhost_memory_user(&mem, GUEST_USER + 90, 4), "odd");
    assert_null(vhost_memory_user(&mem, GUEST_USER + 90, 11));
}

static void test_slots(void **state)
{
    struct guest *g = *state;
    struct vhost_region_at at[VHOST_REGIONS_MAX + 1];
    unsigned before = mappings();
    regions(at, VHOST_REGIONS_MAX + 1, 4096, 4096);
    for (unsigned i = 0; i < VHOST_REGIONS_MAX; i++)
        assert_int_equal(vhost_memory_add(&mem, &at[(i * 7) % VHOST_REGIONS_MAX], g->fd), 0);
    assert_int_equal(vhost_memory_add(&mem, &at[VHOST_REGIONS_MAX], g->fd), -E2BIG);
    for (unsigned i = 1; i < VHOST_REGIONS_MAX; i++)
        assert_true(mem.region[i - 1].at.guest < mem.region[i].at.guest);
    struct vhost_region_at wrong = at[3];
    wrong.bytes++;
    assert_int_equal(vhost_memory_remove(&mem, &wrong), -ENOENT);
    wrong = at[3];
    wrong.user++;
    assert_int_equal(vhost_memory_remove(&mem, &wrong), -ENOENT);
    for (unsigned i = 0; i < VHOST_REGIONS_MAX; i++) {
        assert_non_null(vhost_memory_user(&mem, at[i].user, 4096));
        assert_int_equal(vhost_memory_remove(&mem, &at[i]), 0);
        assert_null(vhost_memory_user(&mem, at[i].user, 1));
    }
    assert_int_equal(vhost_memory_remove(&mem, &at[0]), -ENOENT);
    assert_int_equal(mem.n, 0);
    assert_int_equal(mappings(), before);
}

/* In huge pages, where the machine has some to give. */
static void test_huge(void **state)
{
    const size_t huge = (size_t)2 << 20;
    (void)state;
    assert_int_equal(guard_install(), 0);
    int fd = memfd_create("guest-huge", MFD_CLOEXEC | MFD_HUGETLB);
    if (fd < 0)
        return; /* the kernel has none at all */
    assert_int_equal(ftruncate(fd, (off_t)(2 * huge)), 0);
    struct vhost_region_at at = { .guest = huge, .bytes = huge + 4096, .user = huge, .offset = 0 };
    int err = vhost_memory_set(&mem, &at, &fd, 1);
    /* Not one page is free: refused, as a file that is too short. */
    assert_true(err == 0 || err == -EINVAL || err == -ENOMEM);
    if (err == 0) {
        assert_int_equal(mem.region[0].base_bytes, 2 * huge);
        memset(vhost_memory_user(&mem, huge, 4096), 1, 4096);
        assert_int_equal(vhost_memory_remove(&mem, &at), 0);
        /* It is unmapped, which fails for less than whole pages. */
        assert_int_equal(vhost_memory_set(&mem, &at, &fd, 1), 0);
    }
    close(fd);
}

/* Cut off by the VMM: zeroes and a mark, and the process lives. */
static void test_cut_off(void **state)
{
    struct guest *g = *state;
    assert_int_equal(guard_install(), 0); /* cmocka has put its own over it */
    struct vhost_region_at at = guest_region();
    assert_int_equal(vhost_memory_set(&mem, &at, &g->fd, 1), 0);
    char *there = vhost_memory_user(&mem, GUEST_USER, GUEST_BYTES);
    there[GUEST_BYTES - 1] = 'x';
    assert_false(vhost_memory_faulted(&mem));
    assert_int_equal(ftruncate(g->fd, 4096), 0);
    there[0] = 'y'; /* that page is there */
    assert_false(vhost_memory_faulted(&mem));
    assert_int_equal(__atomic_load_n(&there[GUEST_BYTES - 1], __ATOMIC_RELAXED), 0);
    assert_true(vhost_memory_faulted(&mem));
    there[GUEST_BYTES - 1] = 'z'; /* nobody sees it */
    assert_int_equal(ftruncate(g->fd, GUEST_BYTES), 0);
    assert_int_equal(g->at[GUEST_BYTES - 1], 0);
    vhost_memory_clear(&mem);
    assert_false(vhost_memory_faulted(&mem));
    assert_int_equal(vhost_memory_set(&mem, &at, &g->fd, 1), 0);
    assert_false(vhost_memory_faulted(&mem));
}

/* Any other SIGBUS still ends the process. */
static void test_other_faults(void **state)
{
    struct guest *g = *state;
    struct vhost_region_at at = guest_region();
    int status;
    for (int guarded = 0; guarded < 2; guarded++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            signal(SIGBUS, SIG_DFL);
            if (guard_install() || vhost_memory_set(&mem, &at, &g->fd, 1))
                _exit(1);
            char *there = guarded ? vhost_memory_user(&mem, GUEST_USER, GUEST_BYTES) : g->at;
            if (ftruncate(g->fd, 0))
                _exit(1);
            _exit(*(volatile char *)(there + 8192));
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        if (guarded)
            assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        else
            assert_true(!WIFEXITED(status) || WEXITSTATUS(status) != 0);
        assert_int_equal(ftruncate(g->fd, GUEST_BYTES), 0);
    }
}

/* The guard's table is full: refused, nothing is mapped. */
static void test_guard_full(void **state)
{
    struct guest *g = *state;
    static int number[GUARD_RANGES_MAX + 1];
    static char bytes[1];
    atomic_int faulted = 0;
    struct vhost_region_at at = guest_region();
    unsigned n = 0, before = mappings();
    while ((number[n] = guard_add(bytes, 1, &faulted)) >= 0)
        n++;
    assert_int_equal(number[n], -ENOSPC);
    assert_int_equal(n, GUARD_RANGES_MAX);
    assert_int_equal(vhost_memory_set(&mem, &at, &g->fd, 1), -ENOSPC);
    assert_int_equal(mappings(), before);
    while (n > 0)
        guard_remove(number[--n]);
    assert_int_equal(vhost_memory_set(&mem, &at, &g->fd, 1), 0);
}

#define with_guest(test) cmocka_unit_test_setup_teardown(test, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_guest(test_look_up), with_guest(test_across),  with_guest(test_top),
        with_guest(test_refused), with_guest(test_files),   with_guest(test_offset),
        with_guest(test_slots),   with_guest(test_huge),    with_guest(test_cut_off),
        with_guest(test_other_faults), with_guest(test_guard_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
