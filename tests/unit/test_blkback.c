/* SPDX-License-Identifier: MIT */
/*
 * The backend's control side: the handshake, what a frontend may write, and
 * how disks come and go.  Over the fake hypervisor, a real worker, and a store
 * that is a list of names in this process.
 */
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../../backends/blk/blkback.h"
#include "../../hyp-shim/xenbus.h"
#include "test_blk.h"
#include "test_backend.h"

#define PATIENCE_MS 30000
#define BE_ROOT     "/local/domain/2/backend/vbd"
#define B           BE_ROOT "/3/51712"
#define F           "/local/domain/3/device/vbd/51712"
#define QUEUES      2u

/* --------------------------------------------------------------------- the clock */

static long clock_ahead_ms;

/* Takes libc's place in this program. */
int clock_gettime(clockid_t clock, struct timespec *t)
{
    long err = syscall(SYS_clock_gettime, clock, t);
    t->tv_sec += clock_ahead_ms / 1000;
    return (int)err;
}

/* -------------------------------------------------------------------- the stage */

static struct hyp *back, *front;
static struct worker workers[QUEUES];
static int mail_fd;

static int raise_curtain(void **state)
{
    (void)state;
    nnodes = nwatches = nevents = 0;
    memset(workers, 0, sizeof(workers));
    back = fake_hyp_new(BACK_DOMID);
    front = fake_hyp_new(FRONT_DOMID);
    mail_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    for (unsigned i = 0; i < QUEUES; i++)
        assert_int_equal(worker_start(&workers[i], -1, mail_fd), 0);
    assert_int_equal(blkback_init(back, &the_store, workers, QUEUES), 0);
    return 0;
}

/* Takes what is there, waits for mail when asked to. */
static void settle(bool wait_for_mail)
{
    struct pollfd p = { .fd = mail_fd, .events = POLLIN };
    assert_int_equal(backend_store_events(), 0);
    assert_int_equal(backend_hyp_events(), 0);
    if (poll(&p, 1, wait_for_mail ? PATIENCE_MS : 0) == 1) {
        mail_clear(mail_fd);
        blkback_mail();
        assert_int_equal(backend_store_events(), 0);
    } else if (wait_for_mail) {
        fail_msg("no mail came");
    }
}

static void settle_until(const char *path, uint64_t value)
{
    settle(false);
    while (get(path) != value)
        settle(true);
}

static int drop_curtain(void **state)
{
    (void)state;
    store_rm(&the_store, STORE_NO_TXN, BE_ROOT);
    settle(false);
    while (backend_timeout_ms() >= 0)
        settle(true);
    for (unsigned i = 0; i < QUEUES; i++)
        worker_stop(&workers[i]);
    while (poll(&(struct pollfd){ .fd = mail_fd, .events = POLLIN }, 1, 0) == 1) {
        mail_clear(mail_fd);
        blkback_mail();
    }
    close(mail_fd);
    hyp_close(front);
    hyp_close(back);
    assert_int_equal(fake_hyp_reset(), 0);
    return 0;
}

/* What the toolstack does. */
static void make_vbd(const char *params, const char *mode)
{
    put(F "/state", "1");
    put(B "/params", params);
    put(B "/mode", mode);
    put(B "/state", "1");
    put(B "/frontend-id", "3");
    settle(false);
}

/* A frontend's pool, rings and channels for n queues. */
struct guest {
    struct hyp_pool *pool;
    struct hyp_evtchn *ch[QUEUES];
    struct ring_front ring[QUEUES];
    unsigned queues, pages;
};

static void guest_publish(struct guest *g, unsigned queues, unsigned order)
{
    char key[STORE_PATH_MAX];
    *g = (struct guest){ .queues = queues, .pages = 1u << order };
    assert_int_equal(hyp_pool_create(front, BACK_DOMID, queues * g->pages + 64, 0, &g->pool), 0);
    if (queues > 1)
        put_number(F "/multi-queue-num-queues", queues);
    if (order > 0)
        put_number(F "/ring-page-order", order);
    for (unsigned q = 0; q < queues; q++) {
        char dir[64] = F;
        if (queues > 1)
            snprintf(dir, sizeof(dir), F "/queue-%u", q);
        void *at = (uint8_t *)hyp_pool_base(g->pool) + (size_t)q * g->pages * HYP_PAGE_SIZE;
        size_t bytes = (size_t)g->pages * HYP_PAGE_SIZE;
        assert_true(ring_front_init(&g->ring[q], at, bytes, sizeof(struct blkif_request)));
        assert_int_equal(hyp_evtchn_alloc(front, BACK_DOMID, &g->ch[q]), 0);
        for (unsigned i = 0; i < g->pages; i++) {
            if (order > 0)
                snprintf(key, sizeof(key), "%s/ring-ref%u", dir, i);
            else
                snprintf(key, sizeof(key), "%s/ring-ref", dir);
            put_number(key, hyp_pool_ref(g->pool, q * g->pages + i));
        }
        snprintf(key, sizeof(key), "%s/event-channel", dir);
        put_number(key, hyp_evtchn_port(g->ch[q]));
    }
    put(F "/protocol", "x86_64-abi");
    put(F "/feature-persistent", "1");
}

static void guest_end(struct guest *g)
{
    for (unsigned q = 0; q < g->queues; q++)
        hyp_evtchn_close(g->ch[q]);
    assert_int_equal(hyp_pool_end(g->pool), 0); /* so nothing of it is mapped */
}

static int16_t guest_write(struct guest *g, unsigned q, uint64_t sector)
{
    struct blkif_response rsp = { 0 };
    struct blkif_request rq = { .operation = BLKIF_OP_WRITE, .nr_segments = 1, .id = sector,
                                .sector_number = sector };
    rq.seg[0].gref = hyp_pool_ref(g->pool, g->queues * g->pages + q);
    rq.seg[0].last_sect = 7;
    ring_front_put_request(&g->ring[q], &rq, sizeof(rq));
    if (ring_front_push(&g->ring[q]))
        hyp_evtchn_notify(g->ch[q]);
    while (ring_front_waiting(&g->ring[q]) == 0) {
        if (ring_front_idle(&g->ring[q]) != 0)
            break;
        struct pollfd p = { .fd = hyp_evtchn_fd(g->ch[q]), .events = POLLIN };
        assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
        hyp_evtchn_clear(g->ch[q]);
    }
    ring_front_copy_response(&g->ring[q], &rsp, sizeof(rsp));
    assert_int_equal(rsp.id, sector);
    return rsp.status;
}

/* ------------------------------------------------------------------------- tests */

static void features_then_connected_then_closed(void **state)
{
    (void)state;
    struct guest g;
    for (unsigned queues = 1; queues <= QUEUES; queues++) {
        for (unsigned order = 0; order <= BLK_MAX_RING_ORDER; order += 2) {
            make_vbd("ram:1048576", "w");
            assert_int_equal(get(B "/state"), XenbusStateInitWait);
            assert_int_equal(get(B "/feature-persistent"), 1);
            assert_int_equal(get(B "/feature-max-indirect-segments"), BLK_MAX_INDIRECT_SEGMENTS);
            assert_int_equal(get(B "/max-ring-page-order"), BLK_MAX_RING_ORDER);
            assert_int_equal(get(B "/multi-queue-max-queues"), QUEUES);
            guest_publish(&g, queues, order);
            put(F "/state", "3");
            settle(false);
            assert_int_equal(get(B "/state"), XenbusStateConnected);
            assert_int_equal(get(B "/sectors"), 2048);
            assert_int_equal(get(B "/sector-size"), 512);
            assert_int_equal(get(B "/info"), 0);
            put(F "/state", "4");
            settle(false);
            for (unsigned q = 0; q < queues; q++)
                assert_int_equal(guest_write(&g, q, 8 * q), BLKIF_RSP_OKAY);
            put(F "/state", "5");
            settle_until(B "/state", XenbusStateClosed);
            assert_int_equal(get(B "/stats/writes"), queues);
            assert_int_equal(get(B "/stats/write_bytes"), queues * HYP_PAGE_SIZE);
            guest_end(&g);
            store_rm(&the_store, STORE_NO_TXN, B);
            store_rm(&the_store, STORE_NO_TXN, F);
            settle(false);
            assert_int_equal(get(B "/state"), UINT64_MAX); /* and it stays removed */
        }
    }
}

static void readonly_disk_says_so(void **state)
{
    (void)state;
    make_vbd("ram:1048576", "r");
    assert_int_equal(get(B "/feature-discard"), 0);
    assert_int_equal(get(B "/feature-write-zeroes"), 0);
    struct guest g;
    guest_publish(&g, 1, 0);
    put(F "/state", "3");
    settle(false);
    assert_int_equal(get(B "/info"), VDISK_READONLY);
    assert_int_equal(guest_write(&g, 0, 0), BLKIF_RSP_ERROR);
    put(F "/state", "6");
    settle_until(B "/state", XenbusStateClosed);
    assert_int_equal(get(B "/stats/bad_readonly"), 1);
    guest_end(&g);
}

static void frontend_comes_back(void **state)
{
    (void)state;
    struct guest g;
    make_vbd("ram:1048576", "w");
    for (unsigned life = 0; life < 20; life++) {
        guest_publish(&g, 1, 1);
        put(F "/state", "3");
        settle(false);
        assert_int_equal(get(B "/state"), XenbusStateConnected);
        assert_int_equal(guest_write(&g, 0, 0), BLKIF_RSP_OKAY);
        put(F "/state", life & 1 ? "1" : "6"); /* in order, or started anew without a word */
        settle_until(B "/state", life & 1 ? XenbusStateInitWait : XenbusStateClosed);
        guest_end(&g);
        put(F "/state", "1");
        settle_until(B "/state", XenbusStateInitWait);
    }
    assert_int_equal(get(B "/stats/writes"), 20);
}

/* Removed while connected, and made again at once under the same name. */
static void removed_and_made_again(void **state)
{
    (void)state;
    struct guest g;
    make_vbd("ram:1048576", "w");
    guest_publish(&g, QUEUES, 1);
    put(F "/state", "3");
    settle(false);
    store_rm(&the_store, STORE_NO_TXN, B);
    store_rm(&the_store, STORE_NO_TXN, F);
    make_vbd("ram:2097152", "w");
    settle_until(B "/state", XenbusStateInitWait);
    guest_end(&g);
    guest_publish(&g, 1, 0);
    put(F "/state", "3");
    settle(false);
    assert_int_equal(get(B "/sectors"), 4096);
    assert_int_equal(guest_write(&g, 0, 4000), BLKIF_RSP_OKAY);
    put(F "/state", "6");
    settle_until(B "/state", XenbusStateClosed);
    guest_end(&g);
}

/* Everything a frontend can write wrong: refused, in words, nothing kept. */
static void hostile_nodes(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value;
    } lies[] = {
        { "ring-page-order", "5" },         { "ring-page-order", "4294967295" }, { "ring-page-order", "-1" },
        { "ring-page-order", "x" },         { "multi-queue-num-queues", "0" },
        { "multi-queue-num-queues", "3" },
        { "multi-queue-num-queues", "9999999999999999999999" },
        { "multi-queue-num-queues", "2" }, /* but there are no queue directories */
        { "ring-ref", "4294967295" },       { "ring-ref", "18446744073709551616" },
        { "ring-ref", "1e3" },
        { "ring-ref", "" },                 { "event-channel", "0" },            { "event-channel", "99999" },
        { "event-channel", "-5" },          { "protocol", "x86_32-abi" },        { "protocol", "" },
        { "ring-page-order", "1" }, /* but there is one reference */
    };
    for (unsigned i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        char key[STORE_PATH_MAX];
        struct guest g;
        make_vbd("ram:1048576", "w");
        guest_publish(&g, 1, 0);
        snprintf(key, sizeof(key), F "/%s", lies[i].key);
        put(key, lies[i].value);
        put(F "/state", "3");
        settle(false);
        assert_int_equal(get(B "/state"), XenbusStateClosed);
        assert_true(find_node(B "/error") >= 0);
        guest_end(&g);
        store_rm(&the_store, STORE_NO_TXN, F);
        store_rm(&the_store, STORE_NO_TXN, B);
        settle(false);
    }
}

/* A state that is none, at any time, changes nothing that matters. */
static void nonsense_states(void **state)
{
    (void)state;
    static const char *const nonsense[] = { "0", "9", "4294967299", "", "three", "-3" };
    make_vbd("ram:1048576", "w");
    for (unsigned i = 0; i < 6; i++) {
        put(F "/state", nonsense[i]);
        settle(false);
        assert_int_equal(get(B "/state"), XenbusStateInitWait);
    }
    struct guest g;
    guest_publish(&g, 1, 0);
    put(F "/state", "3");
    settle(false);
    assert_int_equal(guest_write(&g, 0, 0), BLKIF_RSP_OKAY);
    put(F "/state", "three");
    settle_until(B "/state", XenbusStateClosed);
    guest_end(&g);
}

static void liar_is_disconnected_and_counted(void **state)
{
    (void)state;
    struct guest g;
    make_vbd("ram:1048576", "w");
    guest_publish(&g, QUEUES, 0);
    put(F "/state", "3");
    settle(false);
    assert_int_equal(guest_write(&g, 1, 0), BLKIF_RSP_OKAY);
    ring_store(&g.ring[0].shared->req_prod, 0x80000000);
    hyp_evtchn_notify(g.ch[0]);
    settle_until(B "/state", XenbusStateClosed);
    assert_int_equal(get(B "/stats/broken"), 1);
    assert_true(find_node(B "/error") >= 0);
    guest_end(&g);
    /* Only a new start from the beginning is listened to. */
    put(F "/state", "4");
    settle(false);
    assert_int_equal(get(B "/state"), XenbusStateClosed);
    put(F "/state", "1");
    settle(false);
    assert_int_equal(get(B "/state"), XenbusStateInitWait);
}

static void frontend_dies(void **state)
{
    (void)state;
    struct guest g;
    make_vbd("ram:1048576", "w");
    guest_publish(&g, 1, 0);
    put(F "/state", "3");
    settle(false);
    hyp_close(front);
    settle_until(B "/state", XenbusStateClosed);
    front = fake_hyp_new(FRONT_DOMID);
    fake_hyp_reset();
}

/* It says Closing and serves until its frontend, which has finished, closes too. */
static void asked_to_stop(void **state)
{
    (void)state;
    struct guest g;
    make_vbd("ram:1048576", "w");
    guest_publish(&g, 1, 0);
    put(F "/state", "3");
    settle(false);
    assert_false(backend_stopped());
    fake_hyp_stop(back);
    settle(false);
    assert_int_equal(get(B "/state"), XenbusStateClosing);
    assert_int_equal(guest_write(&g, 0, 0), BLKIF_RSP_OKAY);
    backend_tick(); /* there is time left */
    settle(false);
    assert_false(backend_stopped());
    assert_int_equal(guest_write(&g, 0, 8), BLKIF_RSP_OKAY);
    put(F "/state", "6");
    settle_until(B "/state", XenbusStateClosed);
    assert_true(backend_stopped());
    put(F "/state", "1"); /* and nobody is served any more */
    settle(false);
    assert_int_equal(get(B "/state"), XenbusStateClosed);
    guest_end(&g);
}

static void stops_when_nobody_leaves(void **state)
{
    (void)state;
    struct guest g;
    make_vbd("ram:1048576", "w");
    guest_publish(&g, 1, 0);
    put(F "/state", "3");
    settle(false);
    fake_hyp_stop(back);
    settle(false);
    assert_true(backend_timeout_ms() > 0); /* it will look at the time */
    clock_ahead_ms = BACKEND_LEAVE_MS;
    backend_tick();
    settle_until(B "/state", XenbusStateClosed);
    clock_ahead_ms = 0;
    assert_true(backend_stopped());
    guest_end(&g);
}

/* ------------------------------------------------------------------------- spares */

/* A spare's directory; its frontend's is in the place that fe names. */
static void make_spare(const char *fe)
{
    char path[STORE_PATH_MAX];
    snprintf(path, sizeof(path), "%s/state", fe);
    put(path, "1");
    put(B "/params", "device:7");
    put(B "/mode", "w");
    put(B "/frontend", fe);
    put(B "/standby", "1");
    put(B "/state", "1");
    put(B "/frontend-id", "3");
    settle(false);
}

static void give_device(uint32_t number)
{
    int fd = memfd_create("disk", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, 1 << 20), 0);
    fake_hyp_device(back, number, fd);
}

/* Its rings as they are after a takeover: made anew, and rung. */
static void take_over(struct guest *g)
{
    for (unsigned q = 0; q < g->queues; q++) {
        void *at = (uint8_t *)hyp_pool_base(g->pool) + (size_t)q * g->pages * HYP_PAGE_SIZE;
        assert_true(ring_front_init(&g->ring[q], at, (size_t)g->pages * HYP_PAGE_SIZE,
                                    sizeof(struct blkif_request)));
        hyp_evtchn_notify(g->ch[q]);
    }
}

/* What a dead one left on the rings: requests that nobody may take. */
static void leave_dead_rings(struct guest *g)
{
    for (unsigned q = 0; q < g->queues; q++)
        ring_store(&g->ring[q].shared->req_prod, 0x80000000);
}

static void arm_guest(struct guest *g, unsigned queues)
{
    make_spare(F);
    assert_int_equal(get(B "/state"), XenbusStateInitWait);
    assert_int_equal(get(B "/multi-queue-max-queues"), QUEUES);
    assert_int_equal(get(B "/feature-persistent"), 1);
    assert_int_equal(get(B "/feature-discard"), UINT64_MAX); /* nobody knows yet */
    guest_publish(g, queues, 1);
    leave_dead_rings(g);
    put(F "/state", "3");
    settle(false);
    assert_int_equal(get(B "/state"), XenbusStateInitialised);
    assert_int_equal(get(B "/sectors"), UINT64_MAX);
    assert_int_equal(backend_timeout_ms(), -1);
}

static void serves_and_closes(struct guest *g)
{
    assert_int_equal(get(B "/state"), XenbusStateConnected);
    assert_int_equal(get(B "/sectors"), 2048);
    assert_int_equal(get(B "/feature-discard"), 1);
    put(F "/state", "4");
    settle(false);
    for (unsigned q = 0; q < g->queues; q++)
        assert_int_equal(guest_write(g, q, 8 * q), BLKIF_RSP_OKAY);
    put(F "/state", "5");
    settle_until(B "/state", XenbusStateClosed);
    assert_int_equal(get(B "/stats/writes"), g->queues);
    assert_int_equal(get(B "/stats/broken"), UINT64_MAX);
    guest_end(g);
    store_rm(&the_store, STORE_NO_TXN, B);
    store_rm(&the_store, STORE_NO_TXN, F);
    settle(false);
}

/* The pong says that every worker has done what its mail said before. */
static void let_workers_look(void)
{
    static uint64_t n;
    put_number("/local/domain/2/ping", ++n);
    settle_until("/local/domain/2/pong", n);
}

static void armed_then_the_device_then_the_doorbell(void **state)
{
    (void)state;
    struct guest g;
    for (unsigned queues = 1; queues <= QUEUES; queues++) {
        arm_guest(&g, queues);
        give_device(7);
        settle(false);
        let_workers_look(); /* and the dead one's rings break nothing */
        take_over(&g);
        serves_and_closes(&g);
    }
}

static void armed_then_the_doorbell_then_the_device(void **state)
{
    (void)state;
    struct guest g;
    arm_guest(&g, QUEUES);
    take_over(&g);
    put(F "/state", "4"); /* it has taken over, and may say so */
    let_workers_look();
    assert_int_equal(get(B "/state"), XenbusStateInitialised);
    assert_int_equal(ring_front_waiting(&g.ring[0]), 0);
    give_device(8); /* another one */
    settle(false);
    assert_int_equal(get(B "/state"), XenbusStateInitialised);
    give_device(7);
    settle(false);
    serves_and_closes(&g);
}

/* Rung with the dead one's ring still there: its own connection breaks, with words. */
static void frontend_that_rings_too_early(void **state)
{
    (void)state;
    struct guest g;
    arm_guest(&g, 1);
    hyp_evtchn_notify(g.ch[0]);
    let_workers_look();
    assert_int_equal(get(B "/state"), XenbusStateInitialised);
    give_device(7);
    settle_until(B "/state", XenbusStateClosed);
    assert_int_equal(get(B "/stats/broken"), 1);
    guest_end(&g);
}

static void device_before_the_frontend(void **state)
{
    (void)state;
    struct guest g;
    make_spare(F);
    assert_int_equal(get(B "/state"), XenbusStateInitWait);
    give_device(7);
    settle(false);
    assert_int_equal(get(B "/state"), XenbusStateInitWait);
    assert_int_equal(get(B "/feature-discard"), 1);
    guest_publish(&g, 1, 1);
    leave_dead_rings(&g); /* the offer may be older than the device */
    put(F "/state", "3");
    settle(false);
    let_workers_look();
    take_over(&g);
    serves_and_closes(&g);
}

static void frontend_that_closes_while_armed(void **state)
{
    (void)state;
    struct guest g;
    arm_guest(&g, 1);
    put(F "/state", "6");
    settle_until(B "/state", XenbusStateClosed);
    guest_end(&g);
    put(F "/state", "1"); /* and comes again */
    settle(false);
    assert_int_equal(get(B "/state"), XenbusStateInitWait);
    guest_publish(&g, 1, 1);
    put(F "/state", "3");
    settle(false);
    assert_int_equal(get(B "/state"), XenbusStateInitialised);
    put(F "/state", "6"); /* closed when the device comes */
    settle_until(B "/state", XenbusStateClosed);
    guest_end(&g);
    give_device(7);
    settle(false);
    assert_int_equal(get(B "/state"), XenbusStateClosed);
    put(F "/state", "1");
    settle(false);
    assert_int_equal(get(B "/feature-discard"), 1);
    guest_publish(&g, 1, 1);
    put(F "/state", "3");
    settle(false);
    serves_and_closes(&g);
}

static void frontend_that_dies_while_armed(void **state)
{
    (void)state;
    struct guest g;
    arm_guest(&g, 1);
    hyp_close(front);
    settle_until(B "/state", XenbusStateClosed);
    front = fake_hyp_new(FRONT_DOMID);
    fake_hyp_reset();
}

static void spare_that_is_released(void **state)
{
    (void)state;
    struct guest g;
    arm_guest(&g, QUEUES);
    fake_hyp_stop(back); /* has nobody to wait for */
    settle_until(B "/state", XenbusStateClosed);
    assert_true(backend_stopped());
    guest_end(&g);
    give_device(7); /* too late */
    settle(false);
    assert_int_equal(get(B "/state"), XenbusStateClosed);
}

static void armed_and_removed(void **state)
{
    (void)state;
    struct guest g;
    arm_guest(&g, QUEUES);
    store_rm(&the_store, STORE_NO_TXN, B);
    store_rm(&the_store, STORE_NO_TXN, F);
    settle(false);
    let_workers_look();
    settle(false);
    guest_end(&g);
    give_device(7);
    settle(false);
    assert_int_equal(get(B "/state"), UINT64_MAX);
}

static void device_that_is_no_disk(void **state)
{
    (void)state;
    struct guest g;
    arm_guest(&g, 1);
    fake_hyp_device(back, 7, memfd_create("empty", MFD_CLOEXEC));
    settle_until(B "/state", XenbusStateClosed);
    assert_true(find_node(B "/error") >= 0);
    guest_end(&g);
}

static void frontend_directory_in_its_second_place(void **state)
{
    (void)state;
    static const char *const second = "/local/domain/3/twin/vbd/51712";
    make_spare(second);
    put("/local/domain/3/twin/vbd/51712/state", "3"); /* nothing to read there: refused */
    settle(false);
    assert_int_equal(get(B "/state"), XenbusStateClosed);
    put("/local/domain/3/twin/vbd/51712/state", "1");
    settle(false);
    assert_int_equal(get(B "/state"), XenbusStateInitWait);
    put(F "/state", "3"); /* not that one */
    settle(false);
    assert_int_equal(get(B "/state"), XenbusStateInitWait);
}

static void frontend_directory_of_another(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "/local/domain/4/device/vbd/51712", "/local/domain/3/device/vbd/51728",
        "/local/domain/3/device/vif/51712", "/local/domain/3/twin/vbd/51712/",
        "/local/domain/3/other/vbd/51712",  "/local/domain/2/ping",
        "/",                                "",
    };
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        make_spare(wrong[i]);
        assert_int_equal(get(B "/state"), XenbusStateClosed);
        assert_true(find_node(B "/error") >= 0);
        store_rm(&the_store, STORE_NO_TXN, B);
        store_rm(&the_store, STORE_NO_TXN, "/local");
        settle(false);
    }
}

/* ------------------------------------------------------------------------ no store */

/* Nothing that a store says by its absence changes anything. */
static void store_goes_and_comes(void **state)
{
    (void)state;
    static const int errors[] = { -ENOTCONN, -EAGAIN };
    struct guest g;
    make_vbd("ram:1048576", "w");
    guest_publish(&g, 1, 0);
    put(F "/state", "3");
    settle(false);
    for (unsigned i = 0; i < 2; i++) {
        store_error = errors[i];
        fire("", "");
        fire(F "/state", "peer.1");
        fire(BE_ROOT, "own");
        settle(false);
        backend_tick();
        assert_int_equal(guest_write(&g, 0, 8 * i), BLKIF_RSP_OKAY);
        assert_true(backend_serving());
        store_error = 0;
        fire("", "");
        settle(false);
        assert_int_equal(get(B "/state"), XenbusStateConnected);
        backend_tick();
        assert_int_equal(get(B "/stats/writes"), i + 1);
    }
    put(F "/state", "6"); /* told while nobody could hear it */
    nevents = 0;
    fire("", "");
    settle_until(B "/state", XenbusStateClosed);
    guest_end(&g);
}

/* ---------------------------------------------------------------------- heartbeat */

static void ping_comes_back_from_every_worker(void **state)
{
    (void)state;
    struct guest g;
    for (unsigned i = 0; i < 3; i++)
        let_workers_look(); /* asleep */
    make_vbd("ram:1048576", "w");
    guest_publish(&g, QUEUES, 0);
    put(F "/state", "3");
    settle(false);
    let_workers_look();
    assert_int_equal(guest_write(&g, 0, 0), BLKIF_RSP_OKAY);
    for (unsigned i = 1000; i < 1010; i++) /* of those that come meanwhile the last one counts */
        put_number("/local/domain/2/ping", i);
    settle_until("/local/domain/2/pong", 1009);
    put("/local/domain/2/ping", "x");
    settle(false);
    assert_int_equal(get("/local/domain/2/pong"), 1009);
    put(F "/state", "6");
    settle_until(B "/state", XenbusStateClosed);
    guest_end(&g);
}

/* XSA-349: a frontend that writes a watched node without end.  The store
 * client merges what it cannot keep; a merged event loses no change. */
static void xsa_349_flood_of_watch_events(void **state)
{
    (void)state;
    struct guest g;
    make_vbd("ram:1048576", "w");
    guest_publish(&g, 1, 0);
    put(F "/state", "3");
    nevents = 0; /* as if that one were among those merged */
    fire("", "");
    settle(false);
    assert_int_equal(get(B "/state"), XenbusStateConnected);
    for (unsigned i = 0; i < 900; i++)
        put(F "/state", "4");
    settle(false);
    assert_int_equal(get(B "/state"), XenbusStateConnected);
    assert_int_equal(guest_write(&g, 0, 0), BLKIF_RSP_OKAY);
    put(F "/state", "5");
    settle_until(B "/state", XenbusStateClosed);
    guest_end(&g);
}

static void bad_params_are_told(void **state)
{
    (void)state;
    static const char *const bad[] = { "ram:", "ram:0", "ram:511", "ram:-512", "ram:512k", "disk:1", "",
                                       "device:4294967296", "device:x" };
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        make_vbd(bad[i], "w");
        assert_int_equal(get(B "/state"), XenbusStateClosed);
        assert_true(find_node(B "/error") >= 0);
        store_rm(&the_store, STORE_NO_TXN, B);
        settle(false);
    }
    make_vbd("ram:512", "w");
    assert_int_equal(get(B "/state"), XenbusStateInitWait);
}

/* The order of a handshake is the frontend's; ours is not written too often. */
static void statistics_only_when_changed(void **state)
{
    (void)state;
    struct guest g;
    make_vbd("ram:1048576", "w");
    assert_int_equal(backend_timeout_ms(), -1);
    guest_publish(&g, 1, 0);
    put(F "/state", "3");
    settle(false);
    assert_int_equal(backend_timeout_ms(), BACKEND_TICK_MS);
    guest_write(&g, 0, 0);
    backend_tick();
    assert_int_equal(get(B "/stats/writes"), 1);
    put(B "/stats/writes", "77"); /* would be overwritten by a needless write */
    backend_tick();
    assert_int_equal(get(B "/stats/writes"), 77);
    guest_write(&g, 0, 8);
    backend_tick();
    assert_int_equal(get(B "/stats/writes"), 2);
    put(F "/state", "5");
    settle_until(B "/state", XenbusStateClosed);
    guest_end(&g);
}

int main(void)
{
#define STAGED(test) cmocka_unit_test_setup_teardown(test, raise_curtain, drop_curtain)
    const struct CMUnitTest tests[] = {
        STAGED(features_then_connected_then_closed),
        STAGED(readonly_disk_says_so),
        STAGED(frontend_comes_back),
        STAGED(removed_and_made_again),
        STAGED(hostile_nodes),
        STAGED(nonsense_states),
        STAGED(liar_is_disconnected_and_counted),
        STAGED(frontend_dies),
        STAGED(asked_to_stop),
        STAGED(stops_when_nobody_leaves),
        STAGED(armed_then_the_device_then_the_doorbell),
        STAGED(armed_then_the_doorbell_then_the_device),
        STAGED(frontend_that_rings_too_early),
        STAGED(device_before_the_frontend),
        STAGED(frontend_that_closes_while_armed),
        STAGED(frontend_that_dies_while_armed),
        STAGED(spare_that_is_released),
        STAGED(armed_and_removed),
        STAGED(device_that_is_no_disk),
        STAGED(frontend_directory_in_its_second_place),
        STAGED(frontend_directory_of_another),
        STAGED(store_goes_and_comes),
        STAGED(ping_comes_back_from_every_worker),
        STAGED(xsa_349_flood_of_watch_events),
        STAGED(bad_params_are_told),
        STAGED(statistics_only_when_changed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
