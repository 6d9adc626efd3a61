/* SPDX-License-Identifier: MIT */
/*
 * tap.c - a guest behind TAP doors: a network namespace uses NICs that a driver
 * domain serves.
 *
 * The core starts this program as the guest's process, with no path, no
 * capability and no network of its own.  The keeper made the TAP devices in the
 * guest's namespace and sends their descriptors.  main gives up the rest on the
 * way; each step that fails ends the process.
 *
 * One thread for each NIC; the first NIC has the main thread.
 */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "../../hyp-shim/local/jail.h"
#include "../../hyp-shim/local/netdev/link.h"
#include "tap_link.h"
#include "../../hyp-shim/log.h"
#include "tap_pump.h"

#define NICS_MAX   8
#define NAME_BYTES LINK_NAME_MAX
#define STACK_BYTES (256 * 1024)

static char names[NICS_MAX * NAME_BYTES];
static struct netfront *nics[NICS_MAX];
static struct pump pumps[NICS_MAX];
static struct pump_stop stop = { .fd = -1 };
static atomic_bool failed; /* a pump came to an end of its own */
static sem_t started, sealed, ended;

static _Noreturn void fail(const char *sentence)
{
    log_line("bulkhead-tap: %s", sentence);
    exit(1);
}

static void must(int err, const char *what)
{
    if (err >= 0)
        return;
    log_line("bulkhead-tap: %s: %s; this guest ends", what, strerrordesc_np(-err));
    exit(1);
}

static void ask_to_stop(void)
{
    static const uint64_t one = 1;
    atomic_store(&stop.asked, true);
    if (write(stop.fd, &one, sizeof(one)) < 0)
        return; /* full: it is readable already */
}

static void told(void *name, enum netfront_news news)
{
    switch (news) {
    case NETFRONT_UP:
        log_line("bulkhead-tap: %s: connected to its driver domain again", (const char *)name);
        break;
    case NETFRONT_DOWN:
        log_line("bulkhead-tap: %s: lost its driver domain; packets wait in the interface's queue until it is back",
                (const char *)name);
        break;
    case NETFRONT_STOP:
    case NETFRONT_GONE:
        ask_to_stop();
        break;
    }
}

static void run(struct pump *p)
{
    int err = pump_run(p);
    if (err == -ENODEV)
        log_line("bulkhead-tap: %s: the interface is gone from the guest's network namespace; this guest ends", p->name);
    else if (err == -ENOTCONN)
        log_line("bulkhead-tap: %s: the hypervisor is gone; this guest ends", p->name);
    else if (err)
        log_line("bulkhead-tap: %s: %s; this guest ends", p->name, strerrordesc_np(-err));
    if (err)
        atomic_store(&failed, true);
    ask_to_stop();
}

static void wait_for(sem_t *times, unsigned n)
{
    while (n > 0)
        n -= sem_wait(times) == 0;
}

/* What a thread calls as it begins and as it ends is not on the door's list: it has
 * begun before the seal, and ends with the process. */
static void *run_thread(void *pump)
{
    sem_post(&started);
    wait_for(&sealed, 1);
    run(pump);
    sem_post(&ended);
    wait_for(&sealed, 1); /* nobody posts it again */
    return NULL;
}

static void start_threads(unsigned n)
{
    pthread_attr_t attr;
    pthread_t thread;
    must(-pthread_attr_init(&attr), "starting threads");
    must(-pthread_attr_setstacksize(&attr, STACK_BYTES), "starting threads");
    for (unsigned i = 1; i < n; i++)
        must(-pthread_create(&thread, &attr, run_thread, &pumps[i]), "starting a NIC's thread");
    pthread_attr_destroy(&attr);
    wait_for(&started, n - 1);
}

/* Descriptors, NICs, what each can do. */
static unsigned open_nics(void)
{
    char why[256];
    int taps[NICS_MAX], n = netfront_list(NULL, names, sizeof(names), why, sizeof(why));
    if (n < 0)
        fail(why);
    if (n == 0)
        fail("the guest has no NIC: add an <interface> to its XML");
    if (n > NICS_MAX || tap_receive(LINK_CHANNEL_FD, taps, (unsigned)n, why, sizeof(why)))
        fail(n > NICS_MAX ? "the guest has too many NICs" : why);
    char *name = names;
    for (int i = 0; i < n; i++, name += strlen(name) + 1) {
        struct netfront_options opt = { .device = name, .queues = 1, .notify = told, .arg = name };
        if (netfront_open(&nics[i], &opt, why, sizeof(why)))
            fail(why);
        must(tap_agree(taps[i], netfront_info(nics[i])), "agreeing on offloads with the TAP device");
        must(pump_init(&pumps[i], name, nics[i], taps[i], &stop),
             "making room for the longest packet (raise pool-pages)");
    }
    return (unsigned)n;
}

static void tell_counts(const struct pump *p)
{
    uint64_t dropped = 0;
    for (int i = 0; i < PUMP_DROPS; i++)
        dropped += p->dropped[i];
    log_line("bulkhead-tap: %s: %llu packets to the NIC, %llu to the TAP, %llu dropped here", p->name,
            (unsigned long long)p->to_nic, (unsigned long long)p->to_tap, (unsigned long long)dropped);
}

int main(void)
{
    const char *step = "";

    must(jail_confine(&step), step);
    stop.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    must(stop.fd < 0 ? -errno : 0, "making a way to end");
    must(sem_init(&started, 0, 0) | sem_init(&sealed, 0, 0) | sem_init(&ended, 0, 0), "making a way to end");
    unsigned n = open_nics();
    start_threads(n);
    must(jail_seal(HYP_CLASS_TAP, &step), step);

    for (unsigned i = 1; i < n; i++)
        sem_post(&sealed);
    run(&pumps[0]);
    wait_for(&ended, n - 1);
    for (unsigned i = 0; i < n; i++)
        tell_counts(&pumps[i]);
    if (atomic_load(&failed))
        return 1; /* its driver domains see a death */
    for (unsigned i = 0; i < n; i++)
        netfront_close(nics[i]);
    return 0;
}
