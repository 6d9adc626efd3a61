/* SPDX-License-Identifier: MIT */
/* cli.h - the bulkhead command: what its files say to each other. */
#ifndef BULKHEAD_CLI_H
#define BULKHEAD_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#define CLI_FAILURE 1
#define CLI_MISUSE  2

#define CLI_DEFAULT_RUN_DIR "/run/bulkhead"

/* Reads the command line, does what it says; returns the exit status. */
int cli_run(int argc, char **argv);

/* ---------------------------------------------------------- connection.c */

struct connection {
    int fd;
    char *buf;
    size_t bytes, room;
};

/* Says why not, on stderr, unless quiet. 0 or CLI_FAILURE. */
int connection_open(struct connection *c, const char *run_dir, bool quiet);
/* The same, silently: 0 or a negative errno.  What takes longer than seconds to be sent or to
 * come then fails with EAGAIN; 0: waits. */
int connection_try(struct connection *c, const char *run_dir, unsigned seconds);
/* What connection_try() failed for, and what to do: one sentence. */
void connection_why(const char *run_dir, int error, char *why, size_t cap);
void connection_close(struct connection *c);
int connection_send(struct connection *c, json_t *request); /* steals it */
/* The next line as an object (the caller's), NULL when there is no more. */
json_t *connection_next(struct connection *c);

/* ------------------------------------------------------------- process.c */

/* Adds "namespaces" and "fds" to what the daemon said of a domain. */
void process_describe(json_t *info);

/* ---------------------------------------------------------------- plug.c */

/* attach, detach and what follows: args[0 .. n-1].  Does not return where bulkhead-libvirt is
 * there; CLI_FAILURE after saying why not. */
int plug_run(const char *run_dir, bool json, int n, char **args);

/* ---------------------------------------------------------------- show.c */

void show_list(const json_t *domains, FILE *out);
void show_info(const json_t *info, FILE *out);
void show_json(const json_t *object, FILE *out);

#endif
