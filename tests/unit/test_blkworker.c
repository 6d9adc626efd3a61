/* SPDX-License-Identifier: MIT */
/*
 * A real worker thread: its mailbox, its sleep, and what frontends can do to
 * it.  Also built with the thread sanitizer.
 */
#include <sys/eventfd.h>
#include <unistd.h>

#include "../../backends/blk/worker.h"
#include "test_blk.h"

#define PATIENCE_MS 30000
#define MAILS       200000u

/* ------------------------------------------------------------------- mailbox */

static struct mailbox box;
static uint32_t payload[MAILS]; /* written before the mail about it is posted */

static void *post_all(void *unused)
{
    (void)unused;
    for (uint32_t i = 0; i < MAILS; i++) {
        payload[i] = i ^ 0x5555;
        while (!mail_post(&box, MAIL_ATTACH, (struct blk_queue *)&payload[i]))
            sched_yield();
    }
    mail_post(&box, MAIL_STOP, NULL);
    return NULL;
}

static void mailbox_loses_and_repeats_nothing(void **state)
{
    (void)state;
    pthread_t thread;
    struct mail m = { 0 };
    box.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    assert_int_equal(pthread_create(&thread, NULL, post_all, NULL), 0);
    for (uint32_t next = 0; m.kind != MAIL_STOP;) {
        struct pollfd p = { .fd = box.wake_fd, .events = POLLIN };
        assert_true(poll(&p, 1, PATIENCE_MS) == 1); /* no ring is lost */
        mail_clear(box.wake_fd);
        while (mail_take(&box, &m) && m.kind != MAIL_STOP) {
            assert_ptr_equal(m.what, &payload[next]);
            assert_int_equal(payload[next], next ^ 0x5555);
            next++;
        }
        if (m.kind == MAIL_STOP)
            assert_int_equal(next, MAILS);
    }
    pthread_join(thread, NULL);
    assert_false(mail_waiting(&box));
    close(box.wake_fd);
}

static void full_mailbox_says_so(void **state)
{
    (void)state;
    static struct mailbox full;
    struct mail m;
    full.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    for (unsigned i = 0; i < MAIL_SLOTS; i++)
        assert_true(mail_post(&full, MAIL_ATTACH, NULL));
    assert_false(mail_post(&full, MAIL_ATTACH, NULL));
    assert_true(mail_take(&full, &m));
    assert_true(mail_post(&full, MAIL_STOP, NULL));
    close(full.wake_fd);
}

/* -------------------------------------------------------------------- worker */

static struct worker worker;
static int control_fd;

static void start(void)
{
    memset(&worker, 0, sizeof(worker));
    control_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    assert_int_equal(worker_start(&worker, -1, control_fd), 0);
}

static void stop(void)
{
    worker_stop(&worker);
    close(control_fd);
}

static enum mail_kind next_mail(struct blk_queue *about)
{
    struct mail m;
    while (!mail_take(&worker.out, &m)) {
        struct pollfd p = { .fd = control_fd, .events = POLLIN };
        assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
        mail_clear(control_fd);
    }
    assert_ptr_equal(m.what, about);
    return m.kind;
}

/* A rig whose queue a worker has; its own scheduler is not used. */
static void lend(struct rig *r)
{
    blk_sched_remove(&rig_sched, r->q);
    blk_queue_close(r->q);
    assert_true(mail_post(&worker.in, MAIL_ATTACH, r->q));
}

static void take_back(struct rig *r)
{
    assert_true(mail_post(&worker.in, MAIL_DETACH, r->q));
    assert_int_equal(next_mail(r->q), MAIL_DETACHED);
}

static void submit(struct rig *r)
{
    if (ring_front_push(&r->ring))
        hyp_evtchn_notify(r->front_ch);
}

/* Sleeps on the doorbell as a frontend does. */
static void await(struct rig *r, struct blkif_response *rsp)
{
    while (!rig_take(r, rsp)) {
        if (ring_front_idle(&r->ring) > 0)
            continue;
        struct pollfd p = { .fd = hyp_evtchn_fd(r->front_ch), .events = POLLIN };
        assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
        hyp_evtchn_clear(r->front_ch);
    }
}

static void open_two(struct rig *a, struct rig *b, struct hyp *hyp[3])
{
    blk_sched_init(&rig_sched);
    hyp[0] = fake_hyp_new(BACK_DOMID);
    hyp[1] = fake_hyp_new(FRONT_DOMID);
    hyp[2] = fake_hyp_new(FRONT_DOMID + 1);
    rig_open_between(a, &(struct rig_options){ .order = 1 }, hyp[1], hyp[0]);
    rig_open_between(b, &(struct rig_options){ .order = 1 }, hyp[2], hyp[0]);
}

static void close_two(struct rig *a, struct rig *b, struct hyp *hyp[3])
{
    rig_close_queue(a);
    rig_close_queue(b);
    for (unsigned i = 0; i < 3; i++)
        hyp_close(hyp[i]);
    assert_int_equal(fake_hyp_reset(), 0);
}

/* Asleep, woken by a doorbell, answers by a doorbell: many times over. */
static void doorbells_wake_both_sides(void **state)
{
    (void)state;
    struct rig r;
    struct blkif_response rsp = { 0 };
    rig_open(&r, &(struct rig_options){ 0 });
    start();
    lend(&r);
    for (unsigned i = 0; i < 3000; i++) {
        struct blkif_request rq = rig_rw(&r, i & 1 ? BLKIF_OP_READ : BLKIF_OP_WRITE, i % 100, 0, 1);
        rig_put(&r, &rq);
        submit(&r);
        await(&r, &rsp);
        assert_int_equal(rsp.id, rq.id);
        assert_int_equal(rsp.status, BLKIF_RSP_OKAY);
        if (i % 100 == 0)
            usleep(2000); /* long enough for the worker to fall asleep */
    }
    take_back(&r);
    stop();
    rig_close(&r);
}

/* XSA-350: a frontend that connects and disconnects fast, with requests under
 * way, made blkback use a thread that had ended. */
static void xsa_350_fast_connect_and_disconnect(void **state)
{
    (void)state;
    start();
    for (unsigned round = 0; round < 300; round++) {
        struct rig r;
        rig_open(&r, &(struct rig_options){ .grants = round % 3, .order = 1 });
        lend(&r);
        for (unsigned i = 0; i < 1 + round % 40; i++) {
            struct blkif_request rq = rig_rw(&r, BLKIF_OP_WRITE, i, i, 2);
            rig_put(&r, &rq);
        }
        submit(&r);
        take_back(&r);
        rig_close(&r);
    }
    stop();
}

/* XSA-332: a frontend that rings and rings.  It is muted; the other guest of
 * the same worker is served as before. */
static void xsa_332_storm_of_doorbells(void **state)
{
    (void)state;
    struct rig stormy, calm;
    struct hyp *hyp[3];
    struct blkif_response rsp = { 0 };
    open_two(&stormy, &calm, hyp);
    start();
    lend(&stormy);
    lend(&calm);
    uint64_t storms = 0;
    unsigned served = 0;
    for (unsigned i = 0; i < 2000000 && (storms == 0 || served < 100); i++) {
        hyp_evtchn_notify(stormy.front_ch);
        if (i % 64 == 0) {
            struct blkif_request rq = rig_rw(&calm, BLKIF_OP_READ, 0, 0, 1);
            rig_put(&calm, &rq);
            submit(&calm);
            await(&calm, &rsp);
            served++;
        }
        if (i % 16 == 0)
            usleep(50);
        storms = __atomic_load_n(&stormy.q->count.storms, __ATOMIC_RELAXED);
    }
    assert_true(storms > 0);
    assert_true(served >= 100);
    assert_int_equal(__atomic_load_n(&calm.q->count.storms, __ATOMIC_RELAXED), 0);
    /* It is slowed, not shut out. */
    struct blkif_request rq = rig_rw(&stormy, BLKIF_OP_READ, 0, 0, 1);
    rig_put(&stormy, &rq);
    submit(&stormy);
    await(&stormy, &rsp);
    take_back(&stormy);
    take_back(&calm);
    stop();
    close_two(&stormy, &calm, hyp);
}

static void liar_is_reported_once(void **state)
{
    (void)state;
    struct rig liar, honest;
    struct hyp *hyp[3];
    struct blkif_response rsp = { 0 };
    open_two(&liar, &honest, hyp);
    start();
    lend(&liar);
    lend(&honest);
    ring_store(&liar.ring.shared->req_prod, 5000);
    hyp_evtchn_notify(liar.front_ch);
    assert_int_equal(next_mail(liar.q), MAIL_BROKEN);
    for (unsigned i = 0; i < 50; i++) {
        struct blkif_request rq = rig_rw(&honest, BLKIF_OP_READ, 0, 0, 1);
        rig_put(&honest, &rq);
        submit(&honest);
        await(&honest, &rsp);
        assert_int_equal(rsp.status, BLKIF_RSP_OKAY);
    }
    take_back(&liar); /* the next mail, so it was told once */
    take_back(&honest);
    stop();
    close_two(&liar, &honest, hyp);
}

/* The other end of the doorbell goes away: no busy loop, no harm to others. */
static void frontend_vanishes(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, &(struct rig_options){ 0 });
    start();
    lend(&r);
    hyp_evtchn_close(r.front_ch);
    for (unsigned i = 0; i < 1000 && !__atomic_load_n(&r.q->deaf, __ATOMIC_RELAXED); i++)
        usleep(10000);
    assert_true(__atomic_load_n(&r.q->deaf, __ATOMIC_RELAXED));
    take_back(&r);
    stop();
    assert_int_equal(hyp_evtchn_alloc(r.front_hyp, BACK_DOMID, &r.front_ch), 0);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mailbox_loses_and_repeats_nothing),
        cmocka_unit_test(full_mailbox_says_so),
        cmocka_unit_test(doorbells_wake_both_sides),
        cmocka_unit_test(xsa_350_fast_connect_and_disconnect),
        cmocka_unit_test(xsa_332_storm_of_doorbells),
        cmocka_unit_test(liar_is_reported_once),
        cmocka_unit_test(frontend_vanishes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
