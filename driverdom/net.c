/* SPDX-License-Identifier: MIT */
/*
 * net.c - a net driver domain: acquire, jail, ready, loop.
 *
 * The launcher has already taken everything that needs privilege to take, and
 * the keeper of network interfaces has opened what only it may open.  What main
 * still holds it gives up on the way, and each step that fails ends the
 * process: a half-jailed driver domain does not exist.
 */
#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "../backends/net/netback.h"
#include "../backends/net/worker.h"
#include "../hyp-shim/crash.h"
#include "../hyp-shim/local/jail.h"
#include "../hyp-shim/local/netdev/link.h"
#include "../hyp-shim/log.h"
#include "serve.h"

#define HEAP_MIB     40u         /* DPDK's: packets take 35, eight workers and a port 3 */
#define LATE_BYTES   (1u << 20)  /* libc's, for what a PMD may want when it is late */
#define STATE_EVENTS 64          /* of the keeper, taken at a time                 */

static struct uplink uplink;
static uint32_t uplink_state; /* as the keeper said last */

/* ------------------------------------------------------------- what it is told */

static void home(char path[STORE_PATH_MAX], struct hyp *hyp)
{
    snprintf(path, STORE_PATH_MAX, "/local/domain/%u/uplink", hyp_domid(hyp));
}

static void read_devargs(struct hyp *hyp, struct store *store, char out[UPLINK_DEVARGS_MAX], uint16_t *mtu)
{
    char dir[STORE_PATH_MAX], path[STORE_PATH_MAX + 16];
    uint64_t number = NET_MTU_DEFAULT;

    home(dir, hyp);
    snprintf(path, sizeof(path), "%s/devargs", dir);
    int err = store_read(store, STORE_NO_TXN, path, out, UPLINK_DEVARGS_MAX);
    if (err == -ENOENT)
        out[0] = '\0';
    must(err == -ENOENT ? 0 : err, "reading uplink/devargs");
    err = store_read_number(store, STORE_NO_TXN, dir, "mtu", NET_MTU_MAX, &number);
    must(err == -ENOENT ? 0 : err, "reading uplink/mtu");
    must(number < NET_MTU_MIN ? -ERANGE : 0, "reading uplink/mtu");
    *mtu = (uint16_t)number;
}

static void await_device(struct hyp *hyp)
{
    struct pollfd p = { .fd = hyp_fd(hyp), .events = POLLIN };
    struct hyp_event ev;
    ppoll(&p, 1, NULL, NULL);
    int got = hyp_next_event(hyp, &ev);
    must(got, "the hypervisor is gone");
    if (got > 0 && ev.kind == HYP_EV_STOP)
        exit(0);
}

/* Capture files, in the order of the devargs. */
static void take_files(struct hyp *hyp, struct store *store, const char *devargs, int files[UPLINK_FILES_MAX])
{
    char dir[STORE_PATH_MAX], key[24];

    home(dir, hyp);
    for (unsigned i = 0; i < uplink_files(devargs); i++) {
        uint64_t number;
        int err;
        snprintf(key, sizeof(key), "files/%u", i);
        must(store_read_number(store, STORE_NO_TXN, dir, key, UINT32_MAX, &number), "reading uplink/files");
        while ((err = hyp_device_acquire(hyp, (uint32_t)number, &files[i])) == -EAGAIN || err == -ENOENT)
            await_device(hyp);
        must(err, "taking a capture file");
    }
}

/* ------------------------------------------------------------------- its state */

static const char *state_name(uint32_t state)
{
    return state == LINK_UP ? "up" : state == LINK_DOWN ? "down" : state == LINK_GONE ? "gone" : NULL;
}

/* In the store and in the log, once for each change. */
static void tell_state(struct hyp *hyp, struct store *store)
{
    static uint32_t told;
    char dir[STORE_PATH_MAX];
    const char *name = state_name(uplink_state);

    if (!name || uplink_state == told)
        return;
    told = uplink_state;
    home(dir, hyp);
    store_printf(store, STORE_NO_TXN, dir, "state", "%s", name);
    log_line("bulkhead-net: the uplink is %s", name);
}

static void tell_mac(struct hyp *hyp, struct store *store)
{
    const uint8_t *m = uplink.mac;
    char dir[STORE_PATH_MAX];

    home(dir, hyp);
    store_printf(store, STORE_NO_TXN, dir, "mac", "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3],
                 m[4], m[5]);
}

/* True while the keeper is there; without it the uplink works on. */
static bool hear_keeper(struct hyp *hyp, struct store *store)
{
    uint32_t state;
    int got = 0;

    for (unsigned i = 0; i < STATE_EVENTS && (got = uplink_next_state(LINK_CHANNEL_FD, &state)) != 0; i++) {
        if (got > 0)
            uplink_state = state;
        else if (got != -EPROTO)
            return false;
    }
    if (netback_active())
        tell_state(hyp, store);
    return true;
}

/* A spare keeps quiet about the uplink: it is another's.  Once it is ours, nothing is
 * to be acquired any more. */
static void settled(struct hyp *hyp, struct store *store)
{
    static bool told;

    if (told || !netback_active())
        return;
    told = true;
    must(hyp_restrict(hyp, HYP_MAY_MAP | HYP_MAY_EVTCHN), "giving up rights");
    if (!uplink.present)
        return;
    tell_mac(hyp, store);
    tell_state(hyp, store);
}

/* ----------------------------------------------------------------------- start */

/* A sealed domain's heap does not grow: one for all threads, with something left. */
static void reserve_heap(void)
{
    mallopt(M_ARENA_MAX, 1);
    mallopt(M_MMAP_THRESHOLD, 16 * LATE_BYTES);
    mallopt(M_TRIM_THRESHOLD, 16 * LATE_BYTES);
    free(malloc(LATE_BYTES));
}

static void start_uplink(struct hyp *hyp, struct store *store, int cpu)
{
    char devargs[UPLINK_DEVARGS_MAX], sentence[2 * UPLINK_DEVARGS_MAX];
    const char *why = "";
    int files[UPLINK_FILES_MAX] = { -1, -1 };
    struct rte_mempool *rx;
    uint16_t mtu;

    read_devargs(hyp, store, devargs, &mtu);
    take_files(hyp, store, devargs, files);
    int err = uplink_start_eal(cpu, HEAP_MIB + uplink_heap_mib(devargs), &why);
    must(err, why);
    err = net_packets_init(mtu, &rx, &why);
    must(err, why);
    err = uplink_open(&uplink, devargs, LINK_CHANNEL_FD, files, mtu, rx, sentence, sizeof(sentence));
    must(err, sentence);
    uplink.quiet = true; /* until netback.h's gate is ours */
    uplink_state = uplink.state;
    for (unsigned i = 0; i < UPLINK_FILES_MAX; i++)
        if (files[i] >= 0)
            close(files[i]); /* the port has its own */
}

int main(int argc, char **argv)
{
    const char *step = "";
    int cpu[NET_WORKERS_MAX];
    struct hyp *hyp;
    struct store *store;

    if (crash_listed(argc, argv))
        return 0;
    int err = jail_confine(&step);
    must(err, step);
    must(hyp_open(&hyp, NULL), "joining the hypervisor");
    must(store_open(&store, hyp), "joining the store");
    must(hyp_guard_memory_faults(hyp), "guarding against memory that goes away");
    reserve_heap();
    unsigned n = find_processors(cpu, NET_WORKERS_MAX);
    start_uplink(hyp, store, cpu[0]);
    int mail_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    must(mail_fd < 0 ? -errno : 0, "making the mailbox");
    must(net_workers_start(n, cpu, &uplink, mail_fd), "starting the worker threads");
    must(hyp_restrict(hyp, HYP_MAY_MAP | HYP_MAY_EVTCHN | HYP_MAY_DEVICE), "giving up rights");
    err = jail_seal(HYP_CLASS_NET, &step);
    must(err, step);

    must(netback_init(hyp, store, n, &uplink), "watching its part of the store");
    settled(hyp, store);
    must(hyp_ready(hyp), "telling that it is ready");
    const struct serve nics = { .mail = netback_mail, .tick = netback_tick, .timeout_ms = netback_timeout_ms,
                                .settled = settled, .fd = LINK_CHANNEL_FD, .hear = hear_keeper };
    serve(&nics, hyp, store, mail_fd);
    return 0;
}
