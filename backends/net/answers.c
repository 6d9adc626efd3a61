/* SPDX-License-Identifier: MIT */
/*
 * answers.c - the wrapped calls of the PMDs.
 *
 * The linker sends each call of a function in `wrapped` to __wrap_NAME here;
 * __real_NAME is the one of libc or of libxdp.
 */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <xdp/xsk.h>

#include "answers.h"
#include "eal.h"

#define FILE_BUFFER (64u << 10)

static struct answers *now;
static int never_wait = -1;

void answers_begin(struct answers *a)
{
    now = a;
}

void answers_end(void)
{
    now = NULL;
}

void answers_never_wait(int fd)
{
    never_wait = fd;
}

/* Hands out socket i, once. */
static int hand_out(unsigned i)
{
    int fd = now->socket[i];
    now->socket[i] = -1;
    if (fd < 0)
        errno = EMFILE;
    return fd;
}

static int hand_out_next(unsigned from, unsigned to)
{
    for (unsigned i = from; i <= to; i++)
        if (now->socket[i] >= 0)
            return hand_out(i);
    errno = EMFILE;
    return -1;
}

static bool opening(uint32_t kind)
{
    return now && now->link.kind == kind;
}

/* ------------------------------------------------------------------- sockets */

/* net_af_packet opens one socket to ask for the interface and one to work
 * with; every PMD opens and closes AF_INET sockets to set flags. */
WRAP(int, socket, int domain, int type, int protocol)
{
    if (!now || now->link.kind == 0)
        return __real_socket(domain, type, protocol);
    if (domain == AF_INET)
        return fcntl(now->socket[0], F_DUPFD_CLOEXEC, 3);
    if (domain == AF_PACKET && now->link.kind == LINK_KIND_PACKET)
        return hand_out_next(1, 2);
    if (domain == AF_XDP && now->link.kind == LINK_KIND_XDP)
        return hand_out(1);
    errno = EACCES; /* net_tap would make queueing disciplines over netlink */
    return -1;
}

/* A fan-out group is keyed by a process id that each incarnation has, so that
 * the old one would go on getting half of the frames; and it reassembles IP
 * fragments into frames that are then cut off. */
WRAP(int, setsockopt, int fd, int level, int name, const void *value, socklen_t bytes)
{
    if (opening(LINK_KIND_PACKET) && level == SOL_PACKET && name == PACKET_FANOUT)
        return 0;
    return __real_setsockopt(fd, level, name, value, bytes);
}

/* What the keeper knows is told; what it has set is set. */
static int answer_ioctl(unsigned long request, void *arg)
{
    struct ifreq *ifr = arg;

    switch (request) {
    case SIOCGIFINDEX:
        ifr->ifr_ifindex = (int)now->link.ifindex;
        return 0;
    case SIOCGIFHWADDR:
        memset(&ifr->ifr_hwaddr, 0, sizeof(ifr->ifr_hwaddr));
        ifr->ifr_hwaddr.sa_family = ARPHRD_ETHER;
        memcpy(ifr->ifr_hwaddr.sa_data, now->link.mac, sizeof(now->link.mac));
        return 0;
    case SIOCGIFFLAGS:
        ifr->ifr_flags = IFF_UP | IFF_RUNNING | IFF_BROADCAST | IFF_MULTICAST | IFF_PROMISC;
        return 0;
    case TUNSETIFF: /* the descriptor is one of the device already */
    case SIOCSIFFLAGS:
    case SIOCSIFHWADDR:
    case SIOCSIFMTU:
        return 0;
    default: /* SIOCETHTOOL: how many queues? one */
        errno = EOPNOTSUPP;
        return -1;
    }
}

int __real_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, void *arg);
int __wrap_ioctl(int fd, unsigned long request, void *arg)
{
    if (!now || now->link.kind == 0 || request == TUNGETFEATURES || request == TUNSETQUEUE)
        return __real_ioctl(fd, request, arg);
    return answer_ioctl(request, arg);
}

WRAP(unsigned, if_nametoindex, const char *name)
{
    if (now && now->link.kind && strcmp(name, now->link.name) == 0)
        return now->link.ifindex;
    return __real_if_nametoindex(name);
}

/* The ring of a packet socket is the kernel's memory, which is never swapped:
 * locking it only takes a limit that may not be there. */
void *answers_mmap64(void *at, size_t bytes, int prot, int flags, int fd, off_t offset)
{
    if (opening(LINK_KIND_PACKET) && (flags & MAP_LOCKED))
        flags = (flags & ~MAP_LOCKED) | MAP_POPULATE;
    return __real_mmap64(at, bytes, prot, flags, fd, offset);
}

/* net_af_packet waits for a free frame without limit. */
WRAP(int, poll, struct pollfd *fds, nfds_t n, int ms)
{
    return __real_poll(fds, n, n == 1 && fds->fd >= 0 && fds->fd == never_wait ? 0 : ms);
}

/* ------------------------------------------------------------------- net_tap */

int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, mode_t mode);
int __wrap_open64(const char *path, int flags, mode_t mode)
{
    if (opening(LINK_KIND_TAP) && strcmp(path, "/dev/net/tun") == 0)
        return hand_out_next(1, 2);
    return __real_open64(path, flags, mode);
}

/* It would take a signal for each frame that comes, to know when to look. Told
 * that all signals are taken, it looks when it is asked. */
WRAP(int, sigaction, int signo, const struct sigaction *act, struct sigaction *old)
{
    int err = __real_sigaction(signo, act, old);
    if (opening(LINK_KIND_TAP) && err == 0 && !act && old && old->sa_handler == SIG_DFL)
        old->sa_handler = SIG_IGN;
    return err;
}

/* ------------------------------------------------------------------ net_pcap */

/* Opened again it starts from the front. */
WRAP(FILE *, fopen, const char *path, const char *mode)
{
    static char buffer[UPLINK_FILES_MAX][FILE_BUFFER];

    for (unsigned i = 0; now && i < UPLINK_FILES_MAX; i++) {
        if (!now->path[i] || strcmp(path, now->path[i]) != 0)
            continue;
        int fd = fcntl(now->file[i], F_DUPFD_CLOEXEC, 3);
        FILE *f = NULL;
        if (fd >= 0 && lseek(fd, 0, SEEK_SET) == 0 && (mode[0] != 'w' || ftruncate(fd, 0) == 0))
            f = fdopen(fd, mode);
        if (f)
            setvbuf(f, buffer[i], _IOFBF, FILE_BUFFER); /* no allocation at the first packet */
        else if (fd >= 0)
            close(fd);
        return f;
    }
    return __real_fopen(path, mode);
}

/* ---------------------------------------------------------------- net_af_xdp */

/* The keeper loaded and attached the program; its map is told our socket. */
WRAP(int, xsk_socket__create, struct xsk_socket **xsk, const char *name, __u32 queue, struct xsk_umem *umem,
     struct xsk_ring_cons *rx, struct xsk_ring_prod *tx, const struct xsk_socket_config *cfg)
{
    if (!opening(LINK_KIND_XDP))
        return __real_xsk_socket__create(xsk, name, queue, umem, rx, tx, cfg);
    struct xsk_socket_config without_program = *cfg;
    without_program.libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD;
    int err = __real_xsk_socket__create(xsk, name, queue, umem, rx, tx, &without_program);
    if (err)
        return err;
    int fd = xsk_socket__fd(*xsk);
    return bpf_map_update_elem(now->socket[2], &queue, &fd, 0) ? -errno : 0;
}
