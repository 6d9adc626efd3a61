/* SPDX-License-Identifier: MIT */
#include "netdev.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define NETNS_FOLDER "/run/netns"

static int machine = -1;
static int sysctl = -1; /* the folder; held open, so that it stays the one that the jail knows */

/* A descriptor of the namespace in which we are: any socket knows its own. */
static int here(void)
{
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (s < 0)
        return -errno;
    int fd = ioctl(s, SIOCGSKNS);
    int err = fd < 0 ? -errno : 0;
    close(s);
    return err ? err : fd;
}

int netns_init(void)
{
    machine = here();
    sysctl = open("/proc/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return machine < 0 ? machine : 0;
}

int netns_machine(void)
{
    return machine;
}

unsigned netns_paths(int paths[NETNS_PATHS_MAX])
{
    static const char *const folders[] = { NETNS_FOLDER, "/dev/net" };
    unsigned n = 0;
    if (sysctl >= 0)
        paths[n++] = sysctl;
    for (unsigned i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        /* The jail knows folders, not names: one that is made later would be another. */
        if (mkdir(folders[i], 0755) == 0 && chmod(folders[i], 0755) < 0)
            netdev_log("cannot let others see %s: %s", folders[i], strerrordesc_np(errno));
        int fd = open(folders[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0)
            paths[n++] = fd;
    }
    return n;
}

int netns_enter(int fd)
{
    return setns(fd, CLONE_NEWNET) < 0 ? -errno : 0;
}

void netns_back(void)
{
    if (setns(machine, CLONE_NEWNET) == 0)
        return;
    netdev_log("cannot go back to the machine's network namespace: %s; it ends", strerrordesc_np(errno));
    _exit(1);
}

/* An interface that comes here does not answer router advertisements.  Where
 * /proc/sys is not ours to write, rtnl_change.no_ipv6 is what is left. */
static void no_ipv6_here(void)
{
    int fd = openat(sysctl, "net/ipv6/conf/default/disable_ipv6", O_WRONLY | O_CLOEXEC);
    if (fd >= 0 && write(fd, "1", 1) != 1)
        netdev_log("cannot turn IPv6 off for an uplink: %s", strerrordesc_np(errno));
    netdev_close(&fd);
}

int netns_new(void)
{
    if (unshare(CLONE_NEWNET) < 0)
        return -errno;
    int fd = here();
    no_ipv6_here();
    netns_back();
    return fd;
}

int netns_named(const char *name, char why[LINK_WHY_MAX])
{
    char path[sizeof(NETNS_FOLDER) + 1 + LINK_NETNS_MAX];
    if (strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return netdev_refuse(why, -EINVAL, "\"%s\" is no name of a network namespace", name);
    snprintf(path, sizeof(path), NETNS_FOLDER "/%s", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0)
        return fd;
    if (errno == ENOENT)
        return netdev_refuse(why, -ENOENT, "there is no network namespace %s; make it: ip netns add %s", name,
                             name);
    return netdev_refuse(why, -errno, "cannot open the network namespace %s: %s", name,
                         strerrordesc_np(errno));
}
