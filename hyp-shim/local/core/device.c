/* SPDX-License-Identifier: MIT */
/*
 * Devices: files and block devices that the toolstack assigns to driver
 * domains.
 *
 * Each assignment is a fresh open by a process of its own, which then takes a
 * lock on it that belongs to that open alone: the fence.  The kernel drops a
 * dead owner's lock when its last I/O is done, not before.  A file system that
 * hangs, hangs the opener.  What it opened waits here until the owner asks for it,
 * or goes to an owner that has asked already; the core's copy is closed by a process
 * of its own too, because closing can wait for the file system.
 */
#include "core.h"

#include <sys/file.h>
#include <sys/socket.h>

/* --------------------------------------------------------------------- helpers */

void helper_reap(struct core *core)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < core->nhelpers; i++) {
        int status;
        /* One that is newer than this poll is asked next time. */
        if (core->poll[POLL_HELPER + i].revents && core->ops->reap(core->helpers[i], &status) == 1)
            core_close(&core->helpers[i]);
        else
            core->helpers[kept++] = core->helpers[i];
    }
    core->nhelpers = kept;
}

void helper_close(struct core *core, int *fd)
{
    int pidfd = -1;
    if (*fd >= 0 && core->nhelpers < CORE_HELPERS_MAX && core->ops->close_slow(*fd, &pidfd) == 0)
        core->helpers[core->nhelpers++] = pidfd;
    else
        core_close(fd); /* no process to be had */
    *fd = -1;
}

/* ------------------------------------------------------------------- the table */

static struct device *device_find(struct core *core, const struct domain *owner, uint32_t number)
{
    EACH(dev, core->devices)
        if (dev->state != DEVICE_FREE && dev->owner == owner && dev->number == number)
            return dev;
    return NULL;
}

static void device_free(struct core *core, struct device *dev)
{
    if (dev->state == DEVICE_OPENING)
        core->ops->kill(dev->pidfd);
    core_close(&dev->pidfd);
    helper_close(core, &dev->sock); /* a descriptor may still be in there */
    helper_close(core, &dev->fd);
    dev->owner->devices--;
    memset(dev, 0, sizeof(*dev));
    dev->sock = dev->pidfd = dev->fd = -1;
}

static struct device *device_new(struct core *core)
{
    EACH(dev, core->devices)
        if (dev->state == DEVICE_FREE && core->nhelpers < CORE_HELPERS_MAX / 2)
            return dev;
    return NULL;
}

/* --------------------------------------------------------------------- opening */

static void decided(struct core *core, struct device *dev, int error)
{
    dev->at_ns = monotonic_ns();
    dev->error = error;
    dev->state = error ? DEVICE_FAILED : DEVICE_OPEN;
    dev->tell_owner = error == 0;
    core->domains[0].news = dev->owner->news = dev->tell_toolstack = true;
    core_close(&dev->pidfd);
    core_close(&dev->sock);
}

void device_opened(struct core *core, struct device *dev)
{
    int32_t said;
    struct rights got;
    int flags;
    ssize_t n = rights_receive(dev->sock, &said, sizeof(said), &got, 1, &flags);
    if (n == -EAGAIN || n == -EINTR)
        return;
    if (got.n == 1) {
        dev->fd = got.fd[0];
        dev->by_threads = said & OPENER_BY_THREADS;
    }
    if (n != (ssize_t)sizeof(said) || said < 0 || (said & OPENER_LOCKED))
        decided(core, dev, n != (ssize_t)sizeof(said) ? -EIO : said < 0 ? said : dev->fd < 0 ? -EMFILE : 0);
}

void device_domain_died(struct core *core, struct domain *d, bool told)
{
    EACH(dev, core->devices)
        if (dev->state != DEVICE_FREE && dev->owner == d &&
            (told || dev->state != DEVICE_ACQUIRED || !dev->by_threads))
            device_free(core, dev);
    core->fences_due = true;
}

bool device_pass_fences(struct core *core)
{
    bool given = false;
    EACH_OF(dev, core->devices, core->fences_due ? CORE_DEVICES_MAX : 0)
        if (dev->state == DEVICE_ACQUIRED && dev->by_threads && dev->owner->state == DOMAIN_DEAD)
            dev->by_threads = flock(dev->fd, LOCK_UN) < 0; /* child.c says why */
    /* Who waits for such a lock has it now, and need not wait for its opener to wake. */
    EACH_OF(dev, core->devices, core->fences_due ? CORE_DEVICES_MAX : 0)
        if (dev->state == DEVICE_OPENING && dev->by_threads && flock(dev->fd, LOCK_EX | LOCK_NB) == 0) {
            decided(core, dev, 0);
            given = true;
        }
    core->fences_due = false;
    return given;
}

struct device *device_event(struct core *core, const struct domain *to)
{
    bool toolstack = to == core->domains;
    EACH(dev, core->devices)
        if (toolstack ? dev->tell_toolstack : dev->tell_owner && dev->owner == to)
            return dev;
    return NULL;
}

void device_event_sent(struct core *core, struct device *dev, const struct domain *to)
{
    if (to != core->domains) {
        dev->tell_owner = false;
        if (dev->wanted && !dev->by_threads)
            helper_close(core, &dev->fd);
        dev->state = dev->wanted ? DEVICE_ACQUIRED : DEVICE_OPEN;
        return;
    }
    dev->tell_toolstack = false;
    if (dev->state == DEVICE_FAILED)
        device_free(core, dev);
}

/* ----------------------------------------------------------------------- calls */

int device_call_assign(struct core *core, struct call *call)
{
    const struct core_call_assign *in = &call->in->assign;
    if (in->zero != 0 || (in->flags & ~(HYP_DEVICE_RDONLY | HYP_DEVICE_DIRECT)) || in->path[0] != '/' ||
        !memchr(in->path, 0, sizeof(in->path)))
        return core_refuse(core, call, REFUSED_FIELD);
    struct domain *owner = domain_find(core, in->domid);
    if (!owner || !(owner->rights & HYP_MAY_DEVICE))
        return core_refuse(core, call, REFUSED_DOMID);
    if (device_find(core, owner, in->device))
        return -EEXIST;
    if (owner->devices >= CORE_DEVICES_EACH)
        return core_refuse(core, call, REFUSED_QUOTA);
    struct device *dev = device_new(core);
    if (!dev)
        return core_refuse(core, call, REFUSED_FULL);
    int pidfd = -1, sock = -1;
    int error = core->ops->open_device(in, &sock, &pidfd);
    if (error)
        return error;
    *dev = (struct device){ .state = DEVICE_OPENING, .owner = owner, .number = in->device,
                            .rdonly = in->flags & HYP_DEVICE_RDONLY, .sock = sock, .fd = -1,
                            .pidfd = fcntl(pidfd, F_DUPFD_CLOEXEC, 0) };
    core->helpers[core->nhelpers++] = pidfd;
    owner->devices++;
    call->costly = true;
    return 0;
}

int device_call_release(struct core *core, struct call *call)
{
    struct domain *owner = domain_find(core, call->in->device.domid);
    if (!owner)
        return core_refuse(core, call, REFUSED_DOMID);
    struct device *dev = device_find(core, owner, call->in->device.device);
    if (!dev)
        return core_refuse(core, call, REFUSED_DEVICE);
    device_free(core, dev);
    return 0;
}

int device_call_acquire(struct core *core, struct call *call)
{
    const struct core_call_device *in = &call->in->device;
    if (in->domid != call->from->domid)
        return core_refuse(core, call, REFUSED_DOMID);
    struct device *dev = device_find(core, call->from, in->device);
    if (!dev || dev->state == DEVICE_FAILED || dev->state == DEVICE_ACQUIRED)
        return core_refuse(core, call, REFUSED_DEVICE);
    dev->wanted = true;
    if (dev->state == DEVICE_OPENING || dev->tell_owner)
        return -EAGAIN; /* it comes with the event */
    int fd = dev->by_threads ? fcntl(dev->fd, F_DUPFD_CLOEXEC, 0) : dev->fd;
    if (fd < 0)
        return -errno;
    core_attach(&call->out, fd);
    if (!dev->by_threads)
        dev->fd = -1;
    call->out.slow = !dev->by_threads; /* else ours is never the last */
    dev->state = DEVICE_ACQUIRED;
    call->costly = true;
    return 0;
}
