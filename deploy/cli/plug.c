/* SPDX-License-Identifier: MIT */
/* plug.c - attach and detach: bulkhead-libvirt does it, so that this program needs no libvirt. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

#define PROGRAM "bulkhead-libvirt"

/* Beside us (a build tree), else ../libexec/bulkhead (an installed one). */
static bool find_program(char *path, size_t cap)
{
    char self[1024];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    char *slash;

    self[n > 0 ? n : 0] = '\0';
    slash = strrchr(self, '/');
    if (!slash)
        return false;
    *slash = '\0';
    for (int i = 0; i < 2; i++) {
        snprintf(path, cap, "%s%s/" PROGRAM, self, i ? "/../libexec/bulkhead" : "");
        if (!access(path, X_OK))
            return true;
    }
    fprintf(stderr,
            "bulkhead: " PROGRAM " is neither in %s nor in %s/../libexec/bulkhead: build or install it\n",
            self, self);
    return false;
}

int plug_run(const char *run_dir, bool json, int n, char **args)
{
    char program[1200], **argv = calloc((size_t)n + 5, sizeof(*argv));
    int argc = 0;

    if (!argv || !find_program(program, sizeof(program))) {
        free(argv);
        return CLI_FAILURE;
    }
    argv[argc++] = program;
    argv[argc++] = (char *)"--run-dir";
    argv[argc++] = (char *)run_dir;
    if (json)
        argv[argc++] = (char *)"--json";
    memcpy(argv + argc, args, (size_t)n * sizeof(*argv));
    execv(program, argv);
    fprintf(stderr, "bulkhead: cannot start %s: %s\n", program, strerror(errno));
    free(argv);
    return CLI_FAILURE;
}
