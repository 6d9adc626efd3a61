/* SPDX-License-Identifier: MIT */
/*
 * A driver domain made of the input, against the block frontend: what it writes
 * to the store (features, size) and then whatever it likes, wherever it can reach:
 * responses, indices, any byte of rings and descriptor pages, doorbells.
 *
 * Must hold: terms that were accepted are possible ones; a request that was
 * accepted has exactly one result, through however many connections; -EIO is what
 * a backend said, or what that many ended ones earn; no result comes for any
 * other; the frontend writes to no data page; nothing is left behind.
 */
static const char *const feature_keys[] = {
    "multi-queue-max-queues", "max-ring-page-order", "feature-max-indirect-segments",
    "feature-persistent", "feature-grant-copy", "feature-flush-cache", "feature-write-fua",
    "feature-discard", "feature-write-zeroes", "discard-granularity", "sectors", "sector-size",
    "physical-sector-size", "info",
};

#include "fuzz_front.h"

#include "../../frontends/blkterms.h"
#include "../../frontends/disk.h"

#define PAGES 32 /* of data */

/* False: refused, as it should be now and then. */
static bool agree(struct blkfront *disk)
{
    static const struct device_class cls = { .noun = "disk" };
    struct device *d = &disk->device;
    memset(disk, 0, sizeof(*disk));
    make_device(d, &cls);
    disk->want.pool_pages = PAGES;
    disk->want.ring_pages = 1u << byte() % 5;
    disk->want.queues = byte();
    disk->want.grants = byte() % 4;
    if (blkterms_accept_offer(&d->live) || blkterms_accept_device(&d->live)) {
        must(d->error < 0 && d->why[0]);
        return false;
    }
    const struct blkqueue_terms *t = &disk->terms;
    must(d->nqueues >= 1 && d->nqueues <= BLK_MAX_QUEUES && disk->data_pages == PAGES);
    must(disk->ring_pages >= 1 && disk->ring_pages <= disk->want.ring_pages
         && !(disk->ring_pages & (disk->ring_pages - 1)));
    must(t->max_segments >= BLKIF_MAX_SEGMENTS_PER_REQUEST && t->max_segments <= PAGES);
    must(t->sector_bytes >= 512 && t->sector_bytes <= 4096 && !(t->sector_bytes & (t->sector_bytes - 1)));
    must(t->disk_bytes > 0 && t->disk_bytes <= INT64_MAX && t->disk_bytes % t->sector_bytes == 0);
    must(disk->info.physical_bytes >= t->sector_bytes && disk->info.bytes == t->disk_bytes);
    return true;
}

/* ------------------------------------------------------- frontend and backend */

static struct {
    struct hyp *front, *back;
    struct hyp_pool *pool;
    struct hyp_map *map;
    struct blkqueue q;
    uint32_t shared_pages; /* rings and descriptors */
    uint8_t *view;         /* the pool as the backend sees it */
    struct ring_back ring;
    struct hyp_evtchn *doorbell;
    struct blkif_request seen[16]; /* requests that the backend remembers */
    unsigned nseen;
} w;

/* Requests that wait for their one result. */
static bool open_request[4096];
static unsigned next_cookie, nopen;
static bool gone;

static void attach(void)
{
    struct hyp_evtchn *channel;
    must(hyp_evtchn_alloc(w.front, BACK, &channel) == 0);
    must(blkqueue_attach(&w.q, channel) == 0);
    must(hyp_evtchn_bind(w.back, FRONT, hyp_evtchn_port(channel), &w.doorbell) == 0);
    must(ring_back_attach(&w.ring, w.view, w.q.ring_pages * HYP_PAGE_SIZE, sizeof(struct blkif_request)));
    w.nseen = 0;
    queue_start(&w.q.queue);
}

static void up(struct blkfront *d, int control_fd)
{
    memset(&w, 0, sizeof(w));
    memset(open_request, 0, sizeof(open_request));
    next_cookie = nopen = 0;
    gone = false;
    uint32_t slots = blkqueue_slots(d->ring_pages);
    w.front = fake_hyp_new(FRONT);
    w.back = fake_hyp_new(BACK);
    w.shared_pages = d->ring_pages + slots;
    must(hyp_pool_create(w.front, BACK, w.shared_pages + PAGES, 0, &w.pool) == 0);
    struct blkqueue_place place = { .ring_page = 0, .ring_pages = d->ring_pages, .desc_page = d->ring_pages,
                                    .data_page = w.shared_pages, .data_pages = PAGES };
    must(blkqueue_init(&w.q, w.pool, &place, &d->terms, control_fd) == 0);
    must(hyp_map_open(w.back, FRONT, &w.map) == 0);
    w.view = hyp_map_persistent(w.map, hyp_pool_ref(w.pool, 0));
    must(w.view != NULL);
    memset(w.q.data, DATA, w.q.data_bytes);
    attach();
}

static bool aged; /* something was past its limit once */

static void reap(unsigned n)
{
    struct blkfront_result out[64];
    int got = blkqueue_reap(&w.q, out, n < 64 ? n : 64);
    must(got >= 0 && got <= 64);
    for (int i = 0; i < got; i++) {
        must(out[i].cookie < next_cookie && open_request[out[i].cookie]);
        must(out[i].error == -EIO || (aged && out[i].error == -ETIMEDOUT) || (gone ? out[i].error == -ENOTCONN
                                           : out[i].error == 0 || out[i].error == -EOPNOTSUPP));
        open_request[out[i].cookie] = false;
        nopen--;
    }
    must(nopen == w.q.inflight);
}

static void submit(const struct blkfront *d)
{
    struct blkfront_io ios[8];
    unsigned n = 1 + byte() % 8;
    uint32_t sector = d->terms.sector_bytes;
    if (next_cookie + n > sizeof(open_request))
        return;
    for (unsigned i = 0; i < n; i++) {
        uint8_t how = byte();
        ios[i] = (struct blkfront_io){ .op = how % 6, .flags = how >> 6 == 3, .cookie = next_cookie + i };
        ios[i].bytes = sector * (1 + byte());
        ios[i].length = sector * (uint64_t)word();
        ios[i].offset = how & 32 ? 0 : (uint64_t)word() * sector;
        ios[i].buf = w.q.data + (how & 16 ? 0 : word() % (w.q.data_bytes + 4096));
    }
    int taken = blkqueue_submit(&w.q, ios, n);
    must(taken <= (int)n);
    for (int i = 0; i < taken; i++) {
        must(ios[i].op <= BLKFRONT_ZEROES);
        open_request[ios[i].cookie] = true;
    }
    if (taken > 0) {
        nopen += (unsigned)taken;
        next_cookie += (unsigned)taken;
    }
    must(nopen == w.q.inflight);
}

/* -------------------------------------------------- what the backend gets up to */

static void remember_requests(void)
{
    for (int n = ring_back_waiting(&w.ring); n > 0; n--) {
        struct blkif_request req;
        ring_back_copy_request(&w.ring, &req);
        w.seen[w.nseen++ % 16] = req;
    }
}

static void respond(struct blkif_response rsp)
{
    ring_back_put_response(&w.ring, &rsp, sizeof(rsp));
    if (ring_back_push(&w.ring))
        hyp_evtchn_notify(w.doorbell);
}

/* The right answer to some request it has seen, with one thing changed perhaps. */
static void answer(void)
{
    uint8_t how = byte();
    const struct blkif_request *req = &w.seen[how % 16];
    struct blkif_response rsp;
    memset(&rsp, 0, sizeof(rsp));
    rsp.id = req->id;
    rsp.operation = req->operation;
    switch (how >> 4) {
    case 0: rsp.id ^= 1ull << byte() % 64; break;
    case 1: rsp.operation = byte(); break;
    case 2: rsp.status = (int16_t)word(); break;
    case 3: rsp.status = BLKIF_RSP_ERROR; break;
    case 4: rsp.status = BLKIF_RSP_EOPNOTSUPP; break;
    case 5: rsp.id -= (uint64_t)byte() << 16; break;
    default: break;
    }
    respond(rsp);
}

static void scribble(void)
{
    uint32_t at = word() % (w.shared_pages * HYP_PAGE_SIZE);
    uint32_t n = byte();
    if (n > w.shared_pages * HYP_PAGE_SIZE - at)
        n = w.shared_pages * HYP_PAGE_SIZE - at;
    take(w.view + at, n);
}

/* The fence of a new connection is before it, or behind. */
static void reconnect(bool fenced)
{
    hyp_evtchn_close(w.doorbell);
    queue_detach(&w.q.queue);
    attach();
    if (fenced)
        blkqueue_fenced(&w.q);
}

static void grow_old(void)
{
    for (uint32_t i = 0; w.q.limit_ms && i < w.q.slots; i++)
        w.q.since[i] = 0;
    aged |= w.q.limit_ms != 0;
}

static void turn(const struct blkfront *d)
{
    struct blkif_response raw;
    switch (byte() % 13) {
    case 0:
    case 1: submit(d); break;
    case 2: reap(1 + byte() % 64); break;
    case 3: remember_requests(); break;
    case 4:
    case 5: answer(); break;
    case 6:
        take(&raw, sizeof(raw));
        respond(raw);
        break;
    case 7:
        ring_store(&w.ring.shared->rsp_prod, word());
        break;
    case 8: scribble(); break;
    case 9:
        hyp_evtchn_notify(w.doorbell);
        must(blkqueue_idle(&w.q) >= 0);
        blkqueue_wait(&w.q, 0);
        break;
    case 10: queue_hush(&w.q.queue); break;
    case 11: blkqueue_fenced(&w.q); break;
    case 12: grow_old(); break;
    }
    if (queue_drained(&w.q.queue) && left > 0 && byte() & 1)
        reconnect(byte() & 1);
}

/* ------------------------------------------------------------------- the end */

/* The truth at last, in a connection of its own: all that is open is done, or poisoned. */
static void serve_all(void)
{
    queue_stop(&w.q.queue);
    reap(64);
    must(queue_drained(&w.q.queue));
    reconnect(true);
    must(blkqueue_idle(&w.q) >= 0);
    for (bool some = true; some;) {
        some = false;
        for (int n = ring_back_waiting(&w.ring); n > 0; n--, some = true) {
            struct blkif_request req;
            struct blkif_response rsp;
            ring_back_copy_request(&w.ring, &req);
            memset(&rsp, 0, sizeof(rsp));
            rsp.id = req.id;
            rsp.operation = req.operation;
            respond(rsp);
        }
        for (unsigned before = nopen + 1; nopen < before;) {
            before = nopen;
            reap(64);
        }
    }
    must(nopen == 0);
}

/* No end in order either: whatever is open fails. */
static void lose_all(void)
{
    queue_stop(&w.q.queue);
    gone = true;
    queue_set_gone(&w.q.queue);
    for (unsigned turn = 0; nopen > 0; turn++) {
        must(turn < 1024);
        reap(7);
    }
    reap(64);
}

static void down(bool honest)
{
    if (honest)
        serve_all();
    else
        lose_all();
    queue_stop(&w.q.queue);
    reap(64);
    blkqueue_drop(&w.q);
    must(queue_drained(&w.q.queue) && w.q.inflight == 0 && w.q.free_slots == w.q.slots);
    hyp_evtchn_close(w.doorbell);
    queue_detach(&w.q.queue);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct blkfront d;
    in = data;
    left = size;
    take_features();
    if (!agree(&d))
        return 0;
    int control_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    up(&d, control_fd);
    aged = false;
    if (byte() & 1)
        must(blkqueue_limit(&w.q, 1000) == 0);
    for (int i = 0; left > 0 && i < 512; i++)
        turn(&d);
    down(size & 1);
    for (size_t i = 0; i < w.q.data_bytes; i++)
        must(w.q.data[i] == DATA);
    hyp_map_close(w.map);
    blkqueue_destroy(&w.q);
    must(hyp_pool_end(w.pool) == 0);
    hyp_close(w.front);
    hyp_close(w.back);
    must(fake_hyp_reset() == 0);
    close(control_fd);
    return 0;
}
