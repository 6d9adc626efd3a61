/* SPDX-License-Identifier: MIT */
/*
 * The sockets that a PMD would open if it had the right to.  They belong to
 * the uplink's namespace and take no packet before the driver domain binds
 * them, which needs no right.
 */
#include "netdev.h"

#include <errno.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/if_link.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define XSK_QUEUES 64 /* of an interface that AF_XDP may be bound to */

static int opened(int fd)
{
    return fd < 0 ? -errno : fd;
}

void sockets_close(struct sockets *s)
{
    while (s->n > 0)
        close(s->fd[--s->n]);
}

static int keep(struct sockets *s, int fd)
{
    if (fd < 0)
        return fd;
    s->fd[s->n++] = fd;
    return 0;
}

int sockets_ask(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    /* It is not connected, and says so; the kernel shuts it all the same. */
    if (shutdown(fd, SHUT_RDWR) == 0 || errno == ENOTCONN)
        return fd;
    int err = -errno;
    close(fd);
    return err;
}

/* ------------------------------------------------------------------------ XDP */

static int bpf(int command, union bpf_attr *attr)
{
    return opened((int)syscall(SYS_bpf, command, attr, sizeof(*attr)));
}

static int xsk_map(void)
{
    union bpf_attr attr;
    memset(&attr, 0, sizeof(attr));
    attr.map_type = BPF_MAP_TYPE_XSKMAP;
    attr.key_size = attr.value_size = sizeof(uint32_t);
    attr.max_entries = XSK_QUEUES;
    memcpy(attr.map_name, "uplink", sizeof("uplink"));
    return bpf(BPF_MAP_CREATE, &attr);
}

/* A packet goes to the socket that the map has for its queue, or nowhere:
 *   return bpf_redirect_map(map, ctx->rx_queue_index, XDP_DROP); */
static int xdp_program(int map)
{
    const struct bpf_insn code[] = {
        { .code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = BPF_REG_2, .src_reg = BPF_REG_1,
          .off = offsetof(struct xdp_md, rx_queue_index) },
        { .code = BPF_LD | BPF_IMM | BPF_DW, .dst_reg = BPF_REG_1, .src_reg = BPF_PSEUDO_MAP_FD, .imm = map },
        { 0 }, /* second half of a 64-bit load */
        { .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_3, .imm = XDP_DROP },
        { .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_redirect_map },
        { .code = BPF_JMP | BPF_EXIT },
    };
    union bpf_attr attr;
    memset(&attr, 0, sizeof(attr));
    attr.prog_type = BPF_PROG_TYPE_XDP;
    attr.insns = (uintptr_t)code;
    attr.insn_cnt = sizeof(code) / sizeof(code[0]);
    attr.license = (uintptr_t) "MIT";
    memcpy(attr.prog_name, "uplink", sizeof("uplink"));
    return bpf(BPF_PROG_LOAD, &attr);
}

/* In the driver where it can, else in the kernel's general path. */
static int attach(int rtnl, int index, int program)
{
    struct rtnl_change change = RTNL_CHANGE;
    change.xdp = true;
    change.xdp_prog = program;
    int err = rtnl_change(rtnl, index, &change);
    if (err == 0)
        return 0;
    change.xdp_flags = XDP_FLAGS_SKB_MODE;
    return rtnl_change(rtnl, index, &change);
}

static int xdp_open(struct sockets *s, int rtnl, int index, const char *name, char why[LINK_WHY_MAX])
{
    int err = keep(s, opened(socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0)));
    if (err)
        return netdev_refuse(why, err,
                             "cannot open an AF_XDP socket for %s: %s; does the kernel have AF_XDP?", name,
                             strerrordesc_np(-err));
    int map = xsk_map();
    err = keep(s, map);
    int program = err ? err : xdp_program(map);
    if (program < 0)
        return netdev_refuse(why, program,
                             "cannot load the XDP program for %s: %s; does the kernel have BPF?", name,
                             strerrordesc_np(-program));
    err = attach(rtnl, index, program);
    close(program); /* the link holds it */
    if (err)
        return netdev_refuse(why, err,
                             "cannot attach an XDP program to %s: %s; a smaller MTU, or net_af_packet?", name,
                             strerrordesc_np(-err));
    return 0;
}

/* ---------------------------------------------------------------- AF_PACKET */

int sockets_take_nothing(int fd)
{
    struct sock_filter drop = { .code = BPF_RET | BPF_K, .k = 0 };
    const struct sock_fprog program = { .len = 1, .filter = &drop };
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) ? -errno : 0;
}

/* They take nothing before their driver domain serves: until then it is a spare. */
static int packet_open(struct sockets *s, int rtnl, int index, const char *name, char why[LINK_WHY_MAX])
{
    struct rtnl_change change = RTNL_CHANGE;
    change.xdp = true; /* of an earlier driver domain: it would eat everything */
    rtnl_change(rtnl, index, &change);
    int err = 0;
    for (int i = 0; i < 2 && err == 0; i++)
        err = keep(s, opened(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0)));
    for (unsigned i = 1; i < s->n && err == 0; i++)
        err = sockets_take_nothing(s->fd[i]);
    if (err)
        return netdev_refuse(why, err, "cannot open an AF_PACKET socket for %s: %s; modprobe af_packet?",
                             name, strerrordesc_np(-err));
    return 0;
}

int sockets_open(struct sockets *s, uint32_t kind, int rtnl, int index, const char *name,
                 char why[LINK_WHY_MAX])
{
    s->n = 0;
    int err = keep(s, sockets_ask());
    if (err)
        return netdev_refuse(why, err, "cannot open a socket for %s: %s", name, strerrordesc_np(-err));
    err =
        kind == LINK_KIND_XDP ? xdp_open(s, rtnl, index, name, why) : packet_open(s, rtnl, index, name, why);
    if (err)
        sockets_close(s);
    return err;
}
