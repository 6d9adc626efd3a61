/* SPDX-License-Identifier: MIT */
/* Disk requests on their way: batches, parts, too little room, rings that stop. */
#include "test_vhost_disk.h"

/* What came before the chain that broke the ring is sent all the same, and answered. */
static void a_broken_ring_loses_nothing_that_came_before(void **state)
{
    (void)state;
    struct asked *a = ask(0, VIRTIO_BLK_T_IN, 0, 512, 512);
    struct vhost_chain bad = { .id = 1, .slots = 3 };
    fed[0].chain[fed[0].n++] = &bad;
    assert_int_equal(turn(), -EPROTO);
    assert_int_equal(far.nwaiting[0], 1);
    far_does_all(0);
    assert_true(turn() > 0);
    assert_int_equal(a->status, VIRTIO_BLK_S_OK);
    forget(a);
}

static void many_requests_are_one_doorbell_and_one_call(void **state)
{
    (void)state;
    struct asked *a[DEPTH];
    for (unsigned i = 0; i < DEPTH; i++)
        a[i] = ask(0, VIRTIO_BLK_T_IN, i, 512, 512);
    assert_int_equal(turn(), DEPTH);
    assert_int_equal(far.submits, 1);
    assert_int_equal(far.nwaiting[0], DEPTH);
    while (far.nwaiting[0] > 0) /* in another order */
        far_does(0, far.nwaiting[0] / 2, 0);
    assert_int_equal(turn(), DEPTH);
    assert_int_equal(fed[0].ndone, DEPTH);
    assert_int_equal(fed[0].published, 1);
    assert_int_equal(fed[0].calls, 1);
    fed[0].wants_call = false; /* a guest that looks by itself is not called */
    assert_int_equal(outcome(VIRTIO_BLK_T_IN, 0, NULL, 512), VIRTIO_BLK_S_OK);
    assert_int_equal(fed[0].published, 2);
    assert_int_equal(fed[0].calls, 1);
    for (unsigned i = 0; i < DEPTH; i++) {
        assert_memory_equal(a[i]->data, far.bytes + i * 512, 512);
        forget(a[i]);
    }
}

static void rings_spread_over_the_queues(void **state)
{
    (void)state;
    struct asked *a[3];
    for (unsigned r = 0; r < 3; r++)
        a[r] = ask(r, VIRTIO_BLK_T_IN, r, 512, 512);
    assert_int_equal(turn(), 3);
    assert_int_equal(far.nwaiting[0], 2);
    assert_int_equal(far.nwaiting[1], 1);
    settle();
    for (unsigned r = 0; r < 3; r++) {
        assert_int_equal(fed[r].ndone, 1);
        assert_memory_equal(a[r]->data, far.bytes + r * 512, 512);
        forget(a[r]);
    }
}

/* Longer than the driver domain takes, than the pool, and than the queue is deep. */
static void a_long_request_goes_in_parts(void **state)
{
    (void)state;
    uint32_t bytes = 40 * 4 * PAGE + 512;
    struct asked *r = ask(0, VIRTIO_BLK_T_IN, 1, bytes, 7777);
    assert_true(turn() > 0);
    assert_true(far.nwaiting[0] > 1);
    settle();
    assert_int_equal(r->status, VIRTIO_BLK_S_OK);
    assert_memory_equal(r->data, far.bytes + 512, bytes);
    assert_int_equal(far.nlog, 41);
    assert_int_equal(fed[0].ndone, 1);
    struct asked *w = ask(0, VIRTIO_BLK_T_OUT, 2, bytes, 5000);
    for (uint32_t i = 0; i < bytes; i++)
        w->data[i] = (uint8_t)(i / 3);
    settle();
    assert_int_equal(w->status, VIRTIO_BLK_S_OK);
    assert_memory_equal(far.bytes + 1024, w->data, bytes);
    forget(r);
    forget(w);
}

static void a_part_that_fails_fails_the_whole_once(void **state)
{
    (void)state;
    struct asked *r = ask(0, VIRTIO_BLK_T_IN, 0, 20 * 4 * PAGE, 4096);
    assert_true(turn() > 0);
    unsigned sent = far.nlog;
    assert_true(far.nwaiting[0] >= 3);
    far_does(0, 1, -EIO);
    assert_true(turn() > 0);
    assert_int_equal(fed[0].ndone, 0); /* others are still in flight */
    assert_int_equal(far.nlog, sent);  /* and no more are sent */
    assert_int_equal(r->status, 0xff);
    settle();
    assert_int_equal(fed[0].ndone, 1);
    assert_int_equal(r->status, VIRTIO_BLK_S_IOERR);
    forget(r);
}

/* Less than all of the pool is there: parts are as long as there is room. */
static void a_pool_in_pieces_is_used(void **state)
{
    (void)state;
    void *page[POOL_PAGES];
    for (unsigned i = 0; i < POOL_PAGES; i++)
        page[i] = blkfront_alloc(NULL, 0, PAGE);
    struct asked *r = ask(0, VIRTIO_BLK_T_IN, 0, 4 * PAGE, 4096);
    turn();
    assert_int_equal(far.nlog, 0); /* control: without a page nothing goes */
    for (unsigned i = 0; i < POOL_PAGES; i += 2)
        blkfront_free(NULL, 0, page[i]);
    settle();
    assert_int_equal(r->status, VIRTIO_BLK_S_OK);
    assert_memory_equal(r->data, far.bytes, r->bytes);
    for (unsigned i = 1; i < POOL_PAGES; i += 2)
        blkfront_free(NULL, 0, page[i]);
    forget(r);
}

static void what_blkfront_refuses_fails_alone(void **state)
{
    (void)state;
    far.refuse = true;
    struct asked *a = ask(0, VIRTIO_BLK_T_OUT, 0, 512, 512), *b = ask(0, VIRTIO_BLK_T_FLUSH, 0, 0, 1);
    assert_true(turn() > 0);
    assert_int_equal(a->status, VIRTIO_BLK_S_UNSUPP);
    assert_int_equal(b->status, VIRTIO_BLK_S_UNSUPP);
    assert_int_equal(fed[0].published, 1);
    far.refuse = false;
    assert_int_equal(outcome(VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_OK);
    forget(a);
    forget(b);
}

static void a_hypervisor_that_is_gone_is_told(void **state)
{
    (void)state;
    struct asked *a = ask(0, VIRTIO_BLK_T_IN, 0, 512, 512);
    far.gone = true;
    assert_int_equal(turn(), -ENOTCONN);
    far.gone = false;
    assert_true(turn() >= 0); /* the batch was kept */
    settle();
    assert_int_equal(a->status, VIRTIO_BLK_S_OK);
    forget(a);
}

static void a_ring_that_stops_is_finished(void **state)
{
    (void)state;
    struct asked *a = ask(0, VIRTIO_BLK_T_IN, 0, 512, 512);
    assert_true(turn() > 0);
    assert_int_equal(disk_class.stop(&disk, 0, false), -EAGAIN);
    struct asked *b = ask(0, VIRTIO_BLK_T_IN, 0, 512, 512); /* too late */
    struct asked *c = ask(1, VIRTIO_BLK_T_IN, 0, 512, 512); /* of another ring */
    assert_true(turn() > 0);
    assert_int_equal(far.nwaiting[0], 1);
    assert_int_equal(far.nwaiting[1], 1);
    assert_int_equal(disk_class.stop(&disk, 0, false), -EAGAIN);
    settle();
    assert_int_equal(a->status, VIRTIO_BLK_S_OK);
    assert_int_equal(b->status, 0xff);
    assert_int_equal(c->status, VIRTIO_BLK_S_OK);
    assert_int_equal(disk_class.stop(&disk, 0, false), 0);
    assert_int_equal(disk_class.stop(&disk, 0, false), 0);
    assert_int_equal(disk_class.start(&disk, 0), 0); /* control: it was only the stop */
    settle();
    assert_int_equal(b->status, VIRTIO_BLK_S_OK);
    forget(a);
    forget(b);
    forget(c);
}

/*
 * What is dropped touches the guest's memory no more, and is behind us before anything
 * new is begun: an old write must not land on a new one.
 */
static void orphans_come_home_before_anything_new(void **state)
{
    (void)state;
    struct asked *r = ask(0, VIRTIO_BLK_T_IN, 0, 512, 512), *w = ask(0, VIRTIO_BLK_T_OUT, 4, 512, 512);
    struct asked *l = ask(0, VIRTIO_BLK_T_OUT, 100, 30 * 4 * PAGE, 4096); /* only begun */
    assert_true(turn() > 0);
    unsigned sent = far.nlog;
    assert_int_equal(disk_class.stop(&disk, 0, true), 0);
    struct asked *again = ask(0, VIRTIO_BLK_T_OUT, 4, 512, 512);
    struct asked *other = ask(1, VIRTIO_BLK_T_IN, 0, 512, 512);
    memset(again->data, 0x77, 512);
    assert_int_equal(disk_class.start(&disk, 0), 0);
    assert_int_equal(turn(), 0);
    assert_int_equal(far.nlog, sent);
    struct pollfd fds[VHOST_CLASS_FDS];
    unsigned nfds = 0;
    assert_int_equal(disk_class.idle(&disk, fds, &nfds), 0);
    assert_int_equal(nfds, 1); /* it sleeps until they come */
    assert_true(!listening[0] && !listening[1]);
    while (far.nwaiting[0] > 1) {
        far_does(0, far.nwaiting[0] - 1, 0);
        turn();
        assert_int_equal(far.nlog, sent);
    }
    far_does(0, 0, 0); /* the last of them */
    assert_true(turn() > 0);
    assert_int_equal(far.nlog, sent + 2);
    settle();
    assert_int_equal(again->status, VIRTIO_BLK_S_OK);
    assert_int_equal(other->status, VIRTIO_BLK_S_OK);
    assert_int_equal(far.bytes[4 * 512], 0x77);
    assert_int_equal(r->status & w->status & l->status, 0xff); /* nobody hears of them */
    for (unsigned i = 0; i < 512; i++)
        assert_int_equal(r->data[i], UNTOUCHED);
    assert_int_equal(fed[0].ndone, 1);
    forget(r);
    forget(w);
    forget(l);
    forget(again);
    forget(other);
}

/* More than there is room for waits in the ring, and who serves it sleeps. */
static void a_full_queue_leaves_the_rest_in_the_ring(void **state)
{
    (void)state;
    struct asked *a[3 * DEPTH];
    struct pollfd fds[VHOST_CLASS_FDS];
    unsigned nfds = 0;
    assert_int_equal(disk_class.idle(&disk, fds, &nfds), 0);
    assert_int_equal(nfds, 0); /* nothing is in flight: only the guest can wake us */
    for (unsigned i = 0; i < 3 * DEPTH; i++)
        a[i] = ask(0, VIRTIO_BLK_T_IN, i, 512, 512);
    assert_int_equal(turn(), DEPTH);
    assert_int_equal(fed[0].next, DEPTH);
    assert_int_equal(disk_class.idle(&disk, fds, &nfds), 0);
    assert_int_equal(nfds, 1);
    assert_int_equal(fds[0].fd, 100);
    assert_false(listening[0]);
    far_does(0, 0, 0);
    assert_true(disk_class.idle(&disk, fds, &nfds) > 0);
    settle();
    assert_int_equal(fed[0].ndone, 3 * DEPTH);
    assert_int_equal(disk_class.idle(&disk, fds, &nfds), 0);
    assert_true(listening[0]);
    for (unsigned i = 0; i < 3 * DEPTH; i++)
        forget(a[i]);
}

/* A guest that fills its ring again and again, with what is answered at once. */
static void an_endless_ring_has_its_turn_like_others(void **state)
{
    (void)state;
    struct asked *a[DISK_TURN + 8], *other = ask(1, VIRTIO_BLK_T_GET_ID, 0, 20, 20);
    for (unsigned i = 0; i < DISK_TURN + 8; i++)
        a[i] = ask(0, VIRTIO_BLK_T_GET_ID, 0, 20, 20);
    assert_int_equal(turn(), DISK_TURN + 1);
    assert_int_equal(fed[0].ndone, DISK_TURN);
    assert_int_equal(fed[0].published, 1); /* it is answered meanwhile */
    assert_int_equal(fed[1].ndone, 1);
    settle();
    assert_int_equal(fed[0].ndone, DISK_TURN + 8);
    for (unsigned i = 0; i < DISK_TURN + 8; i++)
        forget(a[i]);
    forget(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_broken_ring_loses_nothing_that_came_before),
        T(many_requests_are_one_doorbell_and_one_call),
        T(rings_spread_over_the_queues),
        T(a_long_request_goes_in_parts),
        T(a_part_that_fails_fails_the_whole_once),
        T(a_pool_in_pieces_is_used),
        T(what_blkfront_refuses_fails_alone),
        T(a_hypervisor_that_is_gone_is_told),
        T(a_ring_that_stops_is_finished),
        T(orphans_come_home_before_anything_new),
        T(a_full_queue_leaves_the_rest_in_the_ring),
        T(an_endless_ring_has_its_turn_like_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
