/* SPDX-License-Identifier: MIT */
/*
 * process.c - what the process of a domain has: namespaces and descriptors, by
 * /proc.  Looking there takes root, which whoever may ask bulkheadd is; so neither
 * the core nor the daemon need to do it.
 */
#include <ctype.h>
#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../frontends/door/vhost_user/channel.h"
#include "../../hyp-shim/local/netdev/link.h"
#include "cli.h"

struct fd_words {
    int fd;
    const char *what;
};

/* Descriptors that a domain's process starts with (proto.h, link.h, channel.h). */
static const struct fd_words started_with[] = {
    {1, "log"}, {2, "log"}, {3, "core connection"}, {4, "store connection"}, {5, "log"}, {-1, NULL},
};
static const struct fd_words in_net[] = {
    {LINK_CHANNEL_FD, "channel from the keeper of network interfaces"}, {-1, NULL}};
static const struct fd_words in_vhost[] = {{DOOR_CHANNEL_FD, "channel from bulkheadd"}, {-1, NULL}};
/* Where the NBD door (frontends/door/nbd.c) puts them for nbdkit. */
static const struct fd_words in_nbdkit[] = {
    {1, "log"},
    {2, "log"},
    {3, "door: listening socket nbd.sock"},
    {10, "core connection"},
    {11, "store connection"},
    {-1, NULL},
};

/* What is particular about the descriptors of a class. */
static const struct class_words {
    const char *cls;
    const struct fd_words *more; /* beside or, for nbdkit, in place of what all start with */
    bool alone;
    const char *pipe, *socket;
} classes[] = {
    {"nbd", in_nbdkit, true, "doorbell, or nbdkit's own pipe", "NBD client"},
    {"net", in_net, false, "doorbell", "socket of the uplink"},
    {"tap", in_net, false, "doorbell", "socket"},
    {"vhost-user", in_vhost, false, "doorbell", "VMM, or a listening socket"},
    {"", started_with, true, "doorbell", "socket"}, /* any other */
};

static const struct class_words *words_of(const char *cls)
{
    const struct class_words *w = classes;

    while (*w->cls && strcmp(w->cls, cls) != 0)
        w++;
    return w;
}

static const char *find(const struct fd_words *list, int fd)
{
    for (; list->what; list++)
        if (list->fd == fd)
            return list->what;
    return NULL;
}

/* A link text of /proc/PID/fd in words; NULL: the text itself says it. */
static const char *in_words(const struct class_words *cls, int fd, const char *link)
{
    static const struct {
        const char *begins, *what;
    } kinds[] = {
        {"/dev/null", "nothing (/dev/null)"},      {"anon_inode:[io_uring]", "io_uring"},
        {"anon_inode:[eventpoll]", "epoll"},       {"anon_inode:[eventfd]", "eventfd"},
        {"/memfd:bulkhead-pool", "granted pages"}, {"/memfd:", "memory"},
        {"anon_inode:[timerfd]", "timer"},         {"/dev/net/tun", "TAP device"},
    };
    const char *known;

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (strncmp(link, kinds[i].begins, strlen(kinds[i].begins)) == 0)
            return kinds[i].what;
    known = find(cls->more, fd);
    if (!known && !cls->alone)
        known = find(started_with, fd);
    if (known)
        return known;
    if (strncmp(link, "pipe:", 5) == 0)
        return cls->pipe;
    if (strncmp(link, "socket:", 7) == 0)
        return cls->socket;
    return *link == '/' ? "file" : NULL;
}

/* The devices of a driver domain, by path. */
static bool is_device(const json_t *info, const char *link)
{
    const json_t *e;
    size_t i;

    json_array_foreach(json_object_get(info, "devices"), i, e)
    {
        const char *path = json_string_value(json_object_get(e, "path"));

        if (path && strcmp(path, link) == 0)
            return true;
    }
    return false;
}

static bool link_of(int dir, const char *name, char out[PATH_MAX])
{
    ssize_t n = readlinkat(dir, name, out, PATH_MAX - 1);

    if (n < 0)
        return false;
    out[n] = '\0';
    for (char *c = out; *c; c++)
        if (iscntrl((unsigned char)*c))
            *c = '?';
    return true;
}

/* The next entry of a folder of /proc with its link text; false: no more. */
static bool next_link(DIR *dir, const char **name, char link[PATH_MAX])
{
    struct dirent *e;

    while (dir && (e = readdir(dir)))
        if (e->d_name[0] != '.' && link_of(dirfd(dir), e->d_name, link)) {
            *name = e->d_name;
            return true;
        }
    return false;
}

static json_t *namespaces(DIR *dir)
{
    json_t *out = json_object();
    char link[PATH_MAX];
    const char *name;

    while (next_link(dir, &name, link))
        json_object_set_new(out, name, json_string(link));
    return out;
}

static json_t *descriptors(DIR *dir, const json_t *info)
{
    const char *cls = json_string_value(json_object_get(info, "class")), *name;
    json_t *out = json_array();
    char link[PATH_MAX];

    while (next_link(dir, &name, link)) {
        int fd = (int)strtol(name, NULL, 10);
        const char *what = in_words(words_of(cls ? cls : ""), fd, link);

        json_array_append_new(out, json_pack("{s:i,s:o,s:s}", "fd", fd, "what",
                                             is_device(info, link) ? json_sprintf("disk %s", link)
                                                                   : json_string(what ? what : link),
                                             "link", link));
    }
    return out;
}

static FILE *status_of(long long pid)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%lld/status", pid);
    return pid > 0 ? fopen(path, "re") : NULL;
}

/* The process of that number is that of this uid: a domain's uid is never another's. */
static bool is_it(long long pid, long long uid)
{
    FILE *status = status_of(pid);
    char line[256];
    long long its = -1;

    while (status && its < 0 && fgets(line, sizeof(line), status))
        if (strncmp(line, "Uid:", 4) == 0)
            its = strtoll(line + 4, NULL, 10);
    if (status)
        fclose(status);
    return its >= 0 && its == uid;
}

static DIR *folder_of(long long pid, const char *name)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%lld/%s", pid, name);
    return pid > 0 ? opendir(path) : NULL;
}

void process_describe(json_t *info)
{
    long long pid = json_integer_value(json_object_get(info, "pid"));
    DIR *ns = folder_of(pid, "ns"), *fd = folder_of(pid, "fd");
    /* Looked at after the folders were opened, which are the process's for good. */
    bool ours = is_it(pid, json_integer_value(json_object_get(info, "uid")));

    json_object_set_new(info, "namespaces", namespaces(ours ? ns : NULL));
    json_object_set_new(info, "fds", descriptors(ours ? fd : NULL, info));
    if (ns)
        closedir(ns);
    if (fd)
        closedir(fd);
}
