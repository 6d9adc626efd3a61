/* SPDX-License-Identifier: MIT */
#include "rundir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "../../hyp-shim/local/limits.h"

/* Longest path that a client must be able to connect() to below RUN. */
#define LONGEST_BELOW (sizeof("/guests/") - 1 + POLICY_NAME_MAX - 1 + sizeof("/attach.sock") - 1)

#define FILE_PATH_MAX (POLICY_NAME_MAX + 32)

static const char *const own_dirs[] = {"domains", "logs", "guests", "gates", "state"};

static int say(char *why, size_t cap, int error, const char *what, const char *path)
{
    snprintf(why, cap, "%s %s: %s", what, path, strerror(-error));
    return error;
}

/* A directory with other directories in it is someone else's: taking /etc over would be a disaster. */
static int check_is_ours(int fd, const char *path, char *why, size_t cap)
{
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    struct dirent *e;
    int rc = 0;

    if (!dir) {
        if (copy >= 0)
            close(copy);
        return say(why, cap, -EIO, "cannot read", path);
    }
    while (!rc && (e = readdir(dir))) {
        struct stat st;
        int ours = !strcmp(e->d_name, ".") || !strcmp(e->d_name, "..");

        for (size_t i = 0; i < sizeof(own_dirs) / sizeof(own_dirs[0]); i++)
            ours |= !strcmp(e->d_name, own_dirs[i]);
        if (!ours && !fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) && S_ISDIR(st.st_mode)) {
            snprintf(why, cap,
                     "%s holds a directory '%.60s' that is not bulkheadd's: give it a directory of its own",
                     path, e->d_name);
            rc = -ENOTEMPTY;
        }
    }
    closedir(dir);
    return rc;
}

static int open_locked(const char *path, char *why, size_t cap)
{
    struct stat st;
    int fd, rc;

    if (mkdir(path, 0755) && errno != EEXIST)
        return say(why, cap, -errno, "cannot make the run directory", path);
    fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return say(why, cap, -errno, "cannot open the run directory", path);
    if (flock(fd, LOCK_EX | LOCK_NB)) {
        snprintf(why, cap, "another bulkheadd already runs in %s: stop it first, or give another --run-dir",
                 path);
        rc = -EBUSY;
    } else if (fstat(fd, &st) || (st.st_uid != 0 && st.st_uid != LOCAL_UID_BASE)) {
        snprintf(why, cap, "the run directory %s belongs to uid %u: it must be root's or bulkheadd's own",
                 path, (unsigned)st.st_uid);
        rc = -EPERM;
    } else {
        rc = st.st_uid == LOCAL_UID_BASE ? 0 : check_is_ours(fd, path, why, cap);
    }
    if (!rc && (fchown(fd, LOCAL_UID_BASE, LOCAL_UID_BASE) || fchmod(fd, 0755)))
        rc = say(why, cap, -errno, "cannot take over the run directory", path);
    if (rc) {
        close(fd);
        return rc;
    }
    return fd;
}

int rundir_listen(const char *path, int type, unsigned mode)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd;

    if (strlen(path) >= sizeof(addr.sun_path))
        return -ENAMETOOLONG;
    memcpy(addr.sun_path, path, strlen(path) + 1);
    fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    unlink(path);
    if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) || (mode && chmod(path, mode)) || listen(fd, 64)) {
        int rc = -errno;

        close(fd);
        return rc;
    }
    return fd;
}

/* A directory of plain files. */
static void remove_files(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *e;

    while (dir && (e = readdir(dir)))
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            unlinkat(dirfd(dir), e->d_name, 0);
    if (dir)
        closedir(dir);
}

void rundir_remove_guest(const char *name)
{
    char path[FILE_PATH_MAX];

    snprintf(path, sizeof(path), "guests/%.*s", POLICY_NAME_MAX, name);
    remove_files(path);
    rmdir(path);
}

static void remove_guests(void)
{
    DIR *dir = opendir("guests");
    struct dirent *e;

    while (dir && (e = readdir(dir))) {
        if (policy_name_ok(e->d_name))
            rundir_remove_guest(e->d_name);
    }
    if (dir)
        closedir(dir);
}

/* With the daemon's uid. */
static int furnish(struct rundir *run, const char *path, char *why, size_t cap)
{
    for (size_t i = 0; i < sizeof(own_dirs) / sizeof(own_dirs[0]); i++)
        if (mkdir(own_dirs[i], 0755) && errno != EEXIST)
            return say(why, cap, -errno, "cannot make a directory in", path);
    run->listen_fd = rundir_listen("bulkheadd.sock", SOCK_STREAM, 0600);
    return run->listen_fd < 0 ? say(why, cap, run->listen_fd, "cannot listen on bulkheadd.sock in", path) : 0;
}

static int furnish_core(struct rundir *run, const char *path, char *why, size_t cap)
{
    remove_guests();
    remove_files("state");
    run->store_fd = rundir_listen("store.sock", SOCK_STREAM, 0666);
    return run->store_fd < 0 ? say(why, cap, run->store_fd, "cannot listen on store.sock in", path) : 0;
}

static int as_daemon(int (*furnish_it)(struct rundir *, const char *, char *, size_t), struct rundir *run,
                     const char *path, char *why, size_t cap)
{
    int rc;

    umask(022);
    if (setegid(LOCAL_UID_BASE) || seteuid(LOCAL_UID_BASE))
        return say(why, cap, -errno, "cannot take on the daemon's uid in", path);
    rc = furnish_it(run, path, why, cap);
    if (seteuid(0) || setegid(0))
        return say(why, cap, -errno, "cannot go back to root in", path);
    return rc;
}

int rundir_enter(struct rundir *run, const char *path, char *why, size_t cap)
{
    struct sockaddr_un addr;

    *run = (struct rundir){.fd = -1, .listen_fd = -1, .store_fd = -1, .core_fd = -1};
    if (*path != '/') {
        snprintf(why, cap, "the run directory '%s' is relative: it must begin with /", path);
        return -EINVAL;
    }
    if (strlen(path) + LONGEST_BELOW >= sizeof(addr.sun_path)) {
        snprintf(why, cap, "the run directory %s is too long: sockets below it allow %zu bytes", path,
                 sizeof(addr.sun_path) - LONGEST_BELOW - 1);
        return -ENAMETOOLONG;
    }
    run->fd = open_locked(path, why, cap);
    if (run->fd < 0)
        return run->fd;
    if (fchdir(run->fd))
        return say(why, cap, -errno, "cannot enter", path);
    return as_daemon(furnish, run, path, why, cap);
}

int rundir_for_core(struct rundir *run, const char *path, char *why, size_t cap)
{
    int rc = as_daemon(furnish_core, run, path, why, cap);

    if (rc)
        return rc;
    umask(077); /* root's alone from its first moment: no chmod() by name here */
    run->core_fd = rundir_listen(RUNDIR_CORE_SOCKET, SOCK_SEQPACKET, 0);
    umask(022);
    if (run->core_fd < 0)
        return say(why, cap, run->core_fd, "cannot listen on " RUNDIR_CORE_SOCKET " in", path);
    return 0;
}

void rundir_leave(struct rundir *run)
{
    remove_guests();
    remove_files("state");
    remove_files("gates");
    rmdir("guests");
    rmdir("state");
    rmdir("gates");
    unlink("bulkheadd.sock");
    unlink("store.sock");
    unlink(RUNDIR_CORE_SOCKET);
    close(run->fd);
}

static int write_whole(int fd, const char *data, size_t len)
{
    while (len) {
        ssize_t n = write(fd, data, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

static void path_of(char out[FILE_PATH_MAX], const char *dir, const char *name, const char *suffix)
{
    snprintf(out, FILE_PATH_MAX, "%s/%.*s%s", dir, POLICY_NAME_MAX, name, suffix);
}

/* Seen whole or not at all; lasting: after a crash of the machine too. */
static int save(const char *dir, const char *name, const char *suffix, const char *data, size_t len,
                bool lasting)
{
    char path[FILE_PATH_MAX], fresh[FILE_PATH_MAX];
    int fd, rc;

    path_of(fresh, dir, "", ".new");
    path_of(path, dir, name, suffix);
    fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (fd < 0)
        return -errno;
    rc = write_whole(fd, data, len);
    if (!rc && lasting && fsync(fd))
        rc = -errno;
    close(fd);
    if (!rc && rename(fresh, path))
        rc = -errno;
    if (rc)
        unlink(fresh);
    return rc;
}

static char *read_whole(const char *path, size_t max, size_t *len)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    char *buf = fd < 0 ? NULL : malloc(max + 1);
    ssize_t n = 0;

    *len = 0;
    while (buf && *len <= max && (n = read(fd, buf + *len, max + 1 - *len)) > 0)
        *len += (size_t)n;
    if (fd >= 0)
        close(fd);
    if (buf && (n < 0 || *len > max)) {
        free(buf);
        buf = NULL;
    }
    return buf;
}

static int forget(const char *dir, const char *name, const char *suffix)
{
    char path[FILE_PATH_MAX];

    path_of(path, dir, name, suffix);
    return unlink(path) && errno != ENOENT ? -errno : 0;
}

/* The mark is there before what it marks, and goes after it. */
int rundir_save_domain(const char *name, const char *xml, size_t len, bool opened)
{
    int rc = opened ? save("domains", name, ".opened", "", 0, true) : forget("domains", name, ".opened");

    return rc ? rc : save("domains", name, ".xml", xml, len, true);
}

char *rundir_read_domain(const char *name, size_t *len)
{
    char path[FILE_PATH_MAX];

    path_of(path, "domains", name, ".xml");
    return read_whole(path, POLICY_XML_MAX, len);
}

bool rundir_was_opened(const char *name)
{
    char path[FILE_PATH_MAX];

    path_of(path, "domains", name, ".opened");
    return !access(path, F_OK);
}

int rundir_forget_domain(const char *name)
{
    int rc = forget("domains", name, ".xml");

    return rc ? rc : forget("domains", name, ".opened");
}

int rundir_save_state(const char *name, const char *text, size_t len)
{
    return save("state", name, ".json", text, len, false);
}

char *rundir_read_state(const char *name, size_t *len)
{
    char path[FILE_PATH_MAX];

    path_of(path, "state", name, ".json");
    return read_whole(path, RUNDIR_STATE_MAX, len);
}

void rundir_forget_state(const char *name)
{
    forget("state", name, ".json");
}

/* Of a definition that was being made, or forgotten. */
static void forget_lonely_mark(const char *file)
{
    char path[FILE_PATH_MAX], name[POLICY_NAME_MAX];
    size_t n = strlen(file), end = sizeof(".opened") - 1;

    if (n <= end || n - end >= sizeof(name) || strcmp(file + n - end, ".opened") != 0)
        return;
    memcpy(name, file, n - end);
    name[n - end] = '\0';
    path_of(path, "domains", name, ".xml");
    if (access(path, F_OK))
        forget("domains", name, ".opened");
}

void rundir_each_domain(void (*each)(void *data, const char *name, const char *xml, size_t len), void *data)
{
    DIR *dir = opendir("domains");
    struct dirent *e;

    while (dir && (e = readdir(dir))) {
        char name[POLICY_NAME_MAX], path[POLICY_NAME_MAX + 32], *xml;
        size_t n = strlen(e->d_name), len;

        forget_lonely_mark(e->d_name);
        if (n < 5 || n - 4 >= sizeof(name) || strcmp(e->d_name + n - 4, ".xml") != 0)
            continue;
        memcpy(name, e->d_name, n - 4);
        name[n - 4] = '\0';
        if (!policy_name_ok(name))
            continue;
        snprintf(path, sizeof(path), "domains/%s.xml", name);
        xml = read_whole(path, POLICY_XML_MAX, &len);
        each(data, name, xml, len);
        free(xml);
    }
    if (dir)
        closedir(dir);
}
