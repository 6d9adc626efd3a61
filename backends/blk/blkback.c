/* SPDX-License-Identifier: MIT */
/* blkback.c - a disk's queues go to the workers and come back. */
#include "vbd.h"

static struct blkback blkback;

static struct vbd *vbd_of(struct backend_device *d)
{
    return (struct vbd *)d;
}

static int open_disk(struct backend_device *d, const char **what)
{
    return vbd_disk_open(vbd_of(d), what);
}

static void close_disk(struct backend_device *d)
{
    vbd_disk_close(vbd_of(d));
}

static int write_features(struct backend_device *d)
{
    return vbd_write_features(vbd_of(d), blkback.nworkers);
}

static int connect_vbd(struct backend_device *d, const char **what)
{
    return vbd_connect(vbd_of(d), blkback.nworkers, what);
}

/* To the worker of each queue, about it. */
static void post_all(struct backend_device *d, enum mail_kind kind)
{
    struct vbd *v = vbd_of(d);
    unsigned first = (unsigned)(v - blkback.vbd);
    for (unsigned i = 0; i < v->nqueues; i++)
        mail_post(&blkback.workers[(first + i) % blkback.nworkers].in, kind, v->queue[i].q);
}

static void arm(struct backend_device *d)
{
    vbd_of(d)->armed = true;
    post_all(d, MAIL_ARM);
}

static void attach(struct backend_device *d)
{
    post_all(d, MAIL_ATTACH);
}

static void detach(struct backend_device *d)
{
    post_all(d, MAIL_DETACH);
}

/* Who was armed has not heard of what only the disk knows. */
static int write_geometry(struct backend_device *d)
{
    struct vbd *v = vbd_of(d);
    int err = v->armed ? write_features(d) : 0;
    v->armed = false;
    return err < 0 ? err : vbd_write_geometry(v);
}

static unsigned ping(void)
{
    for (unsigned i = 0; i < blkback.nworkers; i++)
        mail_post(&blkback.workers[i].in, MAIL_PING, NULL);
    return blkback.nworkers;
}

static void returned(struct vbd *v, struct blk_queue *q)
{
    bool all = true;
    for (unsigned i = 0; i < v->nqueues; i++) {
        if (v->queue[i].q == q)
            vbd_queue_end(v, &v->queue[i]);
        all &= v->queue[i].q == NULL;
    }
    if (!all)
        return;
    v->nqueues = 0;
    v->armed = false;
    backend_closed(&v->dev);
}

void blkback_mail(void)
{
    struct mail m;

    for (unsigned i = 0; i < blkback.nworkers; i++) {
        while (mail_take(&blkback.workers[i].out, &m)) {
            struct blk_queue *q = m.what;
            if (m.kind == MAIL_PONG)
                heartbeat_answered();
            else if (m.kind == MAIL_DETACHED)
                returned(q->owner, q);
            else
                backend_broken(&((struct vbd *)q->owner)->dev, q->why);
        }
    }
}

static void write_stats(struct backend_device *d)
{
    vbd_write_stats(vbd_of(d));
}

static const struct backend_class vbd_class = {
    .name = "vbd",
    .device_bytes = sizeof(struct vbd),
    .devices_max = BLKBACK_VBDS_MAX,
    .open = open_disk,
    .close = close_disk,
    .write_features = write_features,
    .connect = connect_vbd,
    .arm = arm,
    .attach = attach,
    .detach = detach,
    .write_geometry = write_geometry,
    .write_stats = write_stats,
    .ping = ping,
};

int blkback_init(struct hyp *hyp, struct store *store, struct worker *workers, unsigned nworkers)
{
    blkback = (struct blkback){ .workers = workers, .nworkers = nworkers };
    return backend_init(&vbd_class, hyp, store, blkback.vbd);
}
