/* SPDX-License-Identifier: MIT */
/*
 * log.h - what a domain says on stderr, kept in logs/NAME.log.
 *
 * The text is hostile: lines are cut at LOG_LINE_MAX, everything but printable
 * ASCII is written as \xNN, each line gets a time stamp, and a file that
 * reached LOG_FILE_MAX becomes NAME.log.1 (one is kept).  Relative to the
 * current directory, which is the run directory.
 */
#ifndef BULKHEAD_DAEMON_LOG_H
#define BULKHEAD_DAEMON_LOG_H

#include <stdbool.h>
#include <stddef.h>

#define LOG_LINE_MAX 1000
#define LOG_FILE_MAX (1u << 20)
#define LOG_NAME_MAX 64

struct log {
    char name[LOG_NAME_MAX];
    int pipe;         /* read end; -1: no writer                            */
    int file;         /* -1: not open                                       */
    size_t file_bytes;
    char line[LOG_LINE_MAX];
    size_t fill;
    bool echo;        /* also to our stderr (a daemon in the foreground)    */
};

void log_init(struct log *log, const char *name);
/* A new pipe; *writer is the caller's to pass on and close.  Who writes never waits: a line that
 * finds the pipe full, while there is no daemon, is lost. */
int log_pipe(struct log *log, int *writer);
/* Takes what is there, at most `budget` bytes. 0: the writers are gone and the pipe is closed. */
int log_pump(struct log *log, size_t budget);
void log_say(struct log *log, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void log_close(struct log *log);
/* Removes both files. */
void log_forget(struct log *log);
/* The old file and the new one, one after the other; the caller frees. NULL: no memory. */
char *log_text(const struct log *log, size_t *bytes);

#endif
