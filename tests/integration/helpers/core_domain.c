/* SPDX-License-Identifier: MIT */
/*
 * A program for the core's test to run in its jails, as the store and as
 * driver domains.  Static, because an empty root has no libraries.
 *
 * As "bulkhead-store": notes what the core says about domains and passes it on
 * through the toolstack's connection, as lines "+DOMID" and "-DOMID"; and, when
 * the toolstack connects, once "=N JOURNAL": how many lived when it started, and
 * how often a store was started with this journal.
 * As anything else: obeys lines of text that come through descriptor 6, and
 * answers each with a line.  Numbers are decimal; errors negative errno.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include "../../../hyp-shim/local/proto.h"

#define COMMANDS_FD 6
#define CHANNELS_MAX 8

/* ------------------------------------------------------------------- the store */

static int store_conn[65536];

static unsigned starts(void)
{
    unsigned n = 0;
    if (pread(STORE_JOURNAL_FD, &n, sizeof(n), 0) != (ssize_t)sizeof(n) || ++n == 0 ||
        pwrite(STORE_JOURNAL_FD, &n, sizeof(n), 0) != (ssize_t)sizeof(n))
        exit(2);
    return n;
}

static void store_hears(void)
{
    static unsigned living;
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct store_living word;
    struct iovec iov = { &word, sizeof(word) };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
                          .msg_controllen = sizeof(control) };
    ssize_t n = recvmsg(STORE_CONTROL_FD, &msg, 0);
    if (n == (ssize_t)sizeof(word) && word.op == STORE_CONTROL_LIVING) {
        living = word.n;
        return;
    }
    if (n != (ssize_t)sizeof(struct store_control))
        exit(0);
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    unsigned domid = word.n;
    char line[32];
    if (word.op == STORE_CONTROL_INTRODUCE && c) {
        if (domid == 0)
            snprintf(line, sizeof(line), "=%u %u\n", living, starts());
        else
            snprintf(line, sizeof(line), "+%u\n", domid);
        memcpy(&store_conn[domid], CMSG_DATA(c), sizeof(int));
    } else {
        close(store_conn[domid]);
        snprintf(line, sizeof(line), "-%u\n", domid);
    }
    if (store_conn[0] > 0 && write(store_conn[0], line, strlen(line)) < 0)
        store_conn[0] = 0; /* the toolstack went away; another comes */
}

_Noreturn static void store_main(void)
{
    signal(SIGPIPE, SIG_IGN);
    for (;;)
        store_hears();
}

/* --------------------------------------------------------------- a driver domain */

static struct hyp *hyp;
static struct hyp_evtchn *channels[CHANNELS_MAX];
static struct hyp_map *map;
static int device_fd = -1;

static int entries(const char *path)
{
    DIR *dir = opendir(path);
    if (!dir)
        return -errno;
    int n = 0;
    struct dirent *e;
    while ((e = readdir(dir)))
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(dir);
    return n;
}

static int try_open(const char *path, int flags)
{
    int fd = open(path, flags, 0600);
    if (fd < 0)
        return -errno;
    close(fd);
    return 0;
}

/* Grows, shrinks and unseals the memory behind a mapped pool's descriptor. */
static int raw_map(unsigned granter, unsigned ref, char *answer, size_t room)
{
    struct core_call_pool call = { { CORE_OP_POOL_MAP, 99 }, granter, ref };
    struct core_reply reply;
    union {
        char bytes[CMSG_SPACE(4 * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = { &reply, sizeof(reply) };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
                          .msg_controllen = sizeof(control) };
    if (send(DOMAIN_CORE_FD, &call, sizeof(call), 0) < 0 || recvmsg(DOMAIN_CORE_FD, &msg, 0) < 0)
        return -errno;
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    if (reply.error || !c)
        return reply.error;
    int fd;
    memcpy(&fd, CMSG_DATA(c), sizeof(fd));
    int grow = ftruncate(fd, 1 << 30) < 0 ? -errno : 0;
    int shrink = ftruncate(fd, 0) < 0 ? -errno : 0;
    int unseal = fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) < 0 ? -errno : 0;
    void *rw = mmap(NULL, HYP_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    int writable = rw == MAP_FAILED ? -errno : 0;
    snprintf(answer, room, "0 grow %d shrink %d seal %d write %d", grow, shrink, unseal, writable);
    close(fd);
    return 0;
}

static int next_event(char *answer, size_t room)
{
    struct pollfd p = { .fd = hyp_fd(hyp), .events = POLLIN };
    struct hyp_event ev;
    int got = hyp_next_event(hyp, &ev);
    if (got == 0 && poll(&p, 1, 5000) == 1)
        got = hyp_next_event(hyp, &ev);
    if (got == 1)
        snprintf(answer, room, "%d %u %u %d", ev.kind, ev.domid, ev.device, ev.error);
    return got == 1 ? 0 : -ETIME;
}

/* One that was asked for before comes along with its event. */
static int acquire(uint32_t device)
{
    struct hyp_event ev;
    int result = hyp_device_acquire(hyp, device, &device_fd);
    while (result == -ENOENT && hyp_next_event(hyp, &ev) == 1)
        if (ev.kind == HYP_EV_DEVICE && ev.device == device)
            result = hyp_device_acquire(hyp, device, &device_fd);
    return result;
}

static int copy_word(unsigned granter, unsigned ref, unsigned write_it, unsigned *word)
{
    int error = map ? 0 : hyp_map_open(hyp, (domid_t)granter, &map);
    struct hyp_copy piece = { .ref = ref, .bytes = sizeof(*word), .local = word, .to_grant = write_it != 0 };
    return error ? error : hyp_grant_copy(map, &piece, 1);
}

static int obey_channel(const char *verb, unsigned a, unsigned b)
{
    struct pollfd p;
    if (strcmp(verb, "bind") == 0)
        return hyp_evtchn_bind(hyp, (domid_t)a, b, &channels[0]);
    if (!channels[0])
        return -ENOENT;
    if (strcmp(verb, "ring") == 0)
        return hyp_evtchn_notify(channels[0]);
    p = (struct pollfd){ .fd = hyp_evtchn_fd(channels[0]), .events = POLLIN };
    return poll(&p, 1, 5000) == 1 ? p.revents : -ETIME;
}

static int escape(const char *how)
{
    if (strcmp(how, "user") == 0)
        return setuid(0) < 0 ? -errno : 0;
    if (strcmp(how, "mount") == 0)
        return mount("none", "/", "tmpfs", 0, NULL) < 0 ? -errno : 0;
    if (strcmp(how, "remount") == 0)
        return mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND, NULL) < 0 ? -errno : 0;
    if (strcmp(how, "parent") == 0)
        return getppid();
    if (strcmp(how, "pid") == 0)
        return getpid();
    if (strcmp(how, "store") == 0) { /* what the store connection is */
        int type = 0;
        socklen_t bytes = sizeof(type);
        return getsockopt(DOMAIN_STORE_FD, SOL_SOCKET, SO_TYPE, &type, &bytes) < 0 ? -errno : type;
    }
    if (strcmp(how, "fds") == 0) { /* the descriptors that it has, as bits */
        int bits = 0;
        for (int fd = 0; fd < 30; fd++)
            bits |= fcntl(fd, F_GETFD) >= 0 ? 1 << fd : 0;
        return bits;
    }
    if (strcmp(how, "passfd") == 0) { /* a descriptor as a gift to the core */
        union {
            char bytes[CMSG_SPACE(sizeof(int))];
            struct cmsghdr align;
        } control;
        memset(&control, 0, sizeof(control));
        struct core_call call = { CORE_OP_READY, 7 };
        struct iovec iov = { &call, sizeof(call) };
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
                              .msg_controllen = sizeof(control) };
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        int fd = STDIN_FILENO;
        memcpy(CMSG_DATA(c), &fd, sizeof(fd));
        struct core_reply reply;
        if (sendmsg(DOMAIN_CORE_FD, &msg, 0) < 0)
            return -errno;
        return recv(DOMAIN_CORE_FD, &reply, sizeof(reply), 0) < 0 ? -errno : reply.error;
    }
    return -ENOSYS;
}

static void obey(const char *line, char *answer, size_t room)
{
    char verb[32] = "", word[512] = "";
    int result = -ENOSYS;
    const char *rest = line + strcspn(line, " ");
    snprintf(verb, sizeof(verb), "%.*s", (int)(rest - line), line);
    snprintf(word, sizeof(word), "%s", rest + strspn(rest, " "));
    char *end = word;
    unsigned a = (unsigned)strtoul(end, &end, 10), b = (unsigned)strtoul(end, &end, 10);
    unsigned c = (unsigned)strtoul(end, &end, 10);
    answer[0] = '\0';
    if (strcmp(verb, "entries") == 0)
        result = entries(word);
    else if (strcmp(verb, "read") == 0)
        result = try_open(word, O_RDONLY);
    else if (strcmp(verb, "write") == 0)
        result = try_open(word, O_WRONLY | O_CREAT);
    else if (strcmp(verb, "escape") == 0)
        result = escape(word);
    else if (strcmp(verb, "rawmap") == 0)
        result = raw_map(a, b, answer, room);
    else if (strcmp(verb, "event") == 0)
        result = next_event(answer, room);
    else if (strcmp(verb, "peek") == 0 || strcmp(verb, "poke") == 0) {
        unsigned value = c;
        result = copy_word(a, b, strcmp(verb, "poke") == 0, &value);
        if (result == 0)
            snprintf(answer, room, "%u", value);
    } else if (strcmp(verb, "unmap") == 0) {
        hyp_map_close(map);
        map = NULL;
        result = 0;
    } else if (strcmp(verb, "bind") == 0 || strcmp(verb, "ring") == 0 || strcmp(verb, "heard") == 0)
        result = obey_channel(verb, a, b);
    else if (strcmp(verb, "acquire") == 0)
        result = acquire(a);
    else if (strcmp(verb, "close") == 0)
        result = close(device_fd) < 0 ? -errno : 0;
    else if (strcmp(verb, "reconnect") == 0) {
        result = hyp_store_connect(hyp);
        if (result >= 0)
            close(result);
    } else if (strcmp(verb, "restrict") == 0)
        result = hyp_restrict(hyp, a);
    else if (strcmp(verb, "ready") == 0)
        result = hyp_ready(hyp);
    else if (strcmp(verb, "exit") == 0)
        exit((int)a);
    if (answer[0] == '\0')
        snprintf(answer, room, "%d", result);
}

int main(int argc, char **argv)
{
    if (argc > 0 && strcmp(argv[0], "bulkhead-store") == 0)
        store_main();
    if (hyp_open(&hyp, NULL) < 0)
        return 99;
    for (;;) {
        char line[600], answer[256];
        ssize_t n = recv(COMMANDS_FD, line, sizeof(line) - 1, 0);
        if (n <= 0)
            return 0;
        line[n] = '\0';
        obey(line, answer, sizeof(answer));
        if (send(COMMANDS_FD, answer, strlen(answer), MSG_NOSIGNAL) < 0)
            return 0;
    }
}
