/* SPDX-License-Identifier: MIT */
/*
 * door.c - the sockets by which a guest's devices are reached: nbd.sock, whose
 * listening end the guest's own process gets, and attach.sock, where the
 * daemon hands a native guest's two connections to the first program that
 * comes; those of vhost-user guests are in vhost.c.  A door stays open while its
 * guest is being made anew: who connects then waits in the queue of the socket.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../hyp-shim/local/limits.h"
#include "../../hyp-shim/local/proto.h"
#include "../../hyp-shim/local/rights.h"
#include "daemon.h"
#include "rundir.h"

#define DOOR_PATH_MAX (POLICY_NAME_MAX + 32)

static void path_of(const struct domain *dom, char out[DOOR_PATH_MAX])
{
    snprintf(out, DOOR_PATH_MAX, "guests/%s/%s", dom->spec.name,
             dom->spec.door == POLICY_DOOR_NBD ? "nbd.sock" : "attach.sock");
}

int door_open(struct daemon *d, struct domain *dom, char why[DAEMON_SENTENCE_MAX])
{
    bool nbd = dom->spec.door == POLICY_DOOR_NBD;
    char path[DOOR_PATH_MAX];
    int fd;

    if (dom->spec.door == POLICY_DOOR_TAP) /* whose door is in a network namespace */
        return 0;
    if (dom->spec.door == POLICY_DOOR_VHOST)
        return vhost_open(dom, why);
    path_of(dom, path);
    if (dom->door_fd >= 0 && !access(path, F_OK))
        return 0;
    /* One that was kept for us, by a daemon that was killed while it closed it. */
    if (dom->door_fd >= 0)
        close(dom->door_fd);
    dom->door_fd = -1;
    *strrchr(path, '/') = '\0';
    if (mkdir(path, 0755) && errno != EEXIST) {
        fd = -errno;
    } else {
        path_of(dom, path);
        fd = rundir_listen(path, nbd ? SOCK_STREAM : SOCK_SEQPACKET, 0600);
    }
    if (fd < 0) {
        snprintf(why, DAEMON_SENTENCE_MAX, "cannot open the door %s/%s of %s: %s", d->run_dir, path,
                 dom->spec.name, strerror(-fd));
        return fd;
    }
    /* The NBD server accepts; it expects to wait there. */
    if (nbd)
        fcntl(fd, F_SETFL, 0);
    dom->door_fd = fd;
    return 0;
}

void door_close(struct domain *dom)
{
    bool vhost = dom->spec.door == POLICY_DOOR_VHOST;

    if (dom->door_fd < 0 && !vhost)
        return;
    if (dom->door_fd >= 0)
        close(dom->door_fd);
    dom->door_fd = -1;
    rundir_remove_guest(dom->spec.name);
}

void door_attach(struct daemon *d, struct domain *dom)
{
    struct attach_reply reply = {.version = CORE_PROTO_VERSION};
    struct ucred who;
    socklen_t n = sizeof(who);
    int client = accept4(dom->door_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (client < 0)
        return;
    if (getsockopt(client, SOL_SOCKET, SO_PEERCRED, &who, &n) || (who.uid != 0 && who.uid != LOCAL_UID_BASE))
        reply.error = -EACCES;
    else if (dom->attached || dom->conn[0] < 0)
        reply.error = -EBUSY;
    if (!rights_send(client, &reply, sizeof(reply), dom->conn, reply.error ? 0 : 2) && !reply.error) {
        close(dom->conn[0]);
        close(dom->conn[1]);
        dom->conn[0] = dom->conn[1] = -1;
        dom->attached = true;
        event_tell(d, "attached", dom, json_pack("{s:i}", "pid", (int)who.pid));
    }
    close(client);
}
