/* SPDX-License-Identifier: MIT */
/*
 * vhost.c - a vhost-user guest's door, as the daemon sees it: a listening socket for
 * each device, which the door's process gets, and what is said over its channel
 * (frontends/door/vhost_user/channel.h).
 *
 * The daemon keeps its end of the channel and none of the sockets: a door that is made
 * anew gets new ones under the same names, and the VMM connects again by itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../frontends/door/vhost_user/channel.h"
#include "../../hyp-shim/local/rights.h"
#include "daemon.h"
#include "rundir.h"

#define SOCKET_PATH_MAX (POLICY_NAME_MAX + POLICY_IFNAME_MAX + 16)
#define ANSWERS_MAX     (4 * SPLITS_MAX) /* that may wait: at most two for each device */

_Static_assert(DOOR_DISKS_MAX >= POLICY_DISKS_MAX, "a door takes all disks that a guest may have");
_Static_assert(DOOR_NICS_MAX >= POLICY_NICS_MAX, "and all NICs");
_Static_assert(DOOR_DEV_BYTES >= POLICY_IFNAME_MAX, "with their names");

static void socket_path(const struct domain *dom, unsigned i, char out[SOCKET_PATH_MAX])
{
    snprintf(out, SOCKET_PATH_MAX, "guests/%s/%s.sock", dom->spec.name, dom->split[i].dev);
}

int vhost_check_socket(const struct daemon *d, const char *name, const char *dev, const char *path,
                       char why[DAEMON_SENTENCE_MAX])
{
    char right[sizeof(d->run_dir) + SOCKET_PATH_MAX];

    snprintf(right, sizeof(right), "%s/guests/%s/%s.sock", d->run_dir, name, dev);
    if (strlen(right) >= POLICY_SOCKET_MAX) {
        snprintf(why, DAEMON_SENTENCE_MAX,
                 "the path of the socket of %s, %s, would be too long for a socket (%d bytes): give the "
                 "guest or its device a shorter name",
                 dev, right, POLICY_SOCKET_MAX - 1);
        return -ENAMETOOLONG;
    }
    if (!*path || !strcmp(path, right))
        return 0;
    snprintf(why, DAEMON_SENTENCE_MAX, "the socket of %s is path='%s' in <source>, not '%.150s'", dev, right,
             path);
    return -EINVAL;
}

int vhost_open(struct domain *dom, char why[DAEMON_SENTENCE_MAX])
{
    char dir[POLICY_NAME_MAX + 16];
    int pair[2];

    vhost_hang_up(dom);
    keeper_close_channel(dom->channel);
    rundir_remove_guest(dom->spec.name); /* sockets of the last door: nobody listens there */
    snprintf(dir, sizeof(dir), "guests/%s", dom->spec.name);
    if ((mkdir(dir, 0755) && errno != EEXIST) ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
        int rc = -errno;

        snprintf(why, DAEMON_SENTENCE_MAX, "cannot make the sockets of %s: %s", dom->spec.name,
                 strerror(-rc));
        return rc;
    }
    dom->door_fd = pair[0];
    dom->channel[1] = pair[1];
    return 0;
}

void vhost_hang_up(struct domain *dom)
{
    if (dom->door_fd >= 0)
        close(dom->door_fd);
    dom->door_fd = -1;
}

static int say(const struct domain *dom, const struct door_order *order, const int *fd)
{
    return dom->door_fd < 0 ? -ENOTCONN
                            : rights_send(dom->door_fd, order, sizeof(*order), fd, fd ? 1 : 0);
}

static struct door_order order_for(const struct domain *dom, unsigned i, enum door_op op)
{
    struct door_order order = {
        .version = DOOR_VERSION, .op = op, .cls = split_is_disk(i) ? DOOR_BLK : DOOR_NET};

    snprintf(order.dev, sizeof(order.dev), "%s", dom->split[i].dev);
    return order;
}

int vhost_offer(const struct daemon *d, const struct domain *dom, unsigned i)
{
    struct door_order order = order_for(dom, i, DOOR_OPEN);
    char path[SOCKET_PATH_MAX];
    int fd, rc = 0;

    socket_path(dom, i, path);
    fd = rundir_listen(path, SOCK_STREAM, 0660);
    if (fd < 0)
        return fd;
    /* Until here it was of our own group. */
    if (d->guest_group && chown(path, (uid_t)-1, d->guest_group))
        rc = -errno;
    if (!rc)
        rc = say(dom, &order, &fd);
    close(fd);
    if (rc)
        unlink(path);
    return rc;
}

int vhost_withdraw(const struct domain *dom, unsigned i)
{
    const struct door_order order = order_for(dom, i, DOOR_CLOSE);

    return say(dom, &order, NULL);
}

void vhost_unlink(const struct domain *dom, unsigned i)
{
    char path[SOCKET_PATH_MAX];

    socket_path(dom, i, path);
    unlink(path);
}

int vhost_begin(const struct daemon *d, const struct domain *dom)
{
    const struct door_order ready = {.version = DOOR_VERSION, .op = DOOR_READY};
    int rc = 0;

    for (unsigned i = 0; !rc && split_next(dom, &i); i++)
        rc = vhost_offer(d, dom, i);
    return rc ? rc : say(dom, &ready, NULL);
}

/* What it says is cleaned, and bounded by its packet. */
static void hear_answer(struct daemon *d, struct domain *dom, const struct door_answer *answer)
{
    char why[DAEMON_SENTENCE_MAX], text[DOOR_WHY_BYTES + 1], dev[DOOR_DEV_BYTES + 1];
    unsigned i;

    snprintf(dev, sizeof(dev), "%.*s", DOOR_DEV_BYTES, answer->dev);
    i = split_find(dom, dev);
    if (answer->version != DOOR_VERSION || answer->error > 0 || i == SPLITS_MAX)
        return;
    snprintf(text, sizeof(text), "%.*s", DOOR_WHY_BYTES,
             *answer->why ? answer->why : strerror(-answer->error));
    policy_clean_text(text);
    snprintf(why, sizeof(why), "%s %s of %s: %s", dom->split[i].word, dom->split[i].dev, dom->spec.name,
             text);
    if (dom->state != ST_STARTING)
        change_answered(d, dom, i, answer->op == DOOR_OPEN, answer->error ? why : NULL);
    else if (answer->error && answer->op == DOOR_OPEN)
        dom_start_failed(d, dom, why);
}

void vhost_hear(struct daemon *d, struct domain *dom)
{
    for (unsigned budget = ANSWERS_MAX; budget && dom->door_fd >= 0; budget--) {
        struct door_answer answer;
        struct rights none;
        int flags;
        ssize_t n = rights_receive(dom->door_fd, &answer, sizeof(answer), &none, 0, &flags);

        if (n == -EAGAIN || n == -EINTR)
            return;
        if (n <= 0) {
            vhost_hang_up(dom); /* its death is told by the core */
            return;
        }
        if (n == sizeof(answer) && !(flags & MSG_TRUNC))
            hear_answer(d, dom, &answer);
    }
    if (dom->door_fd < 0)
        return;
    event_error(d, dom, "its door answers more than it was asked: killed");
    vhost_hang_up(dom);
    hyp_domain_destroy(d->hyp, dom->domid);
}
