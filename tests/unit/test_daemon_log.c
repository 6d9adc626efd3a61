/* SPDX-License-Identifier: MIT */
/* A domain's log: hostile text is escaped, the files are bounded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../driverdom/daemon/log.h"

static char dir[64];

static int enter(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/bulkhead-log.XXXXXX");
    return !mkdtemp(dir) || chdir(dir) || mkdir("logs", 0755);
}

static int leave(void **state)
{
    (void)state;
    return rmdir("logs") || chdir("/") || rmdir(dir);
}

static char *text_of(const struct log *log)
{
    size_t bytes;
    char *text = log_text(log, &bytes);

    assert_non_null(text);
    assert_int_equal(strlen(text), bytes);
    return text;
}

static void escapes_what_a_terminal_would_obey(void **state)
{
    static const char said[] = "plain\n\x1b[31mred\x07\xff\nno end";
    struct log log;
    int writer;
    char *text;

    (void)state;
    log_init(&log, "d");
    assert_int_equal(log_pipe(&log, &writer), 0);
    assert_int_equal(write(writer, said, sizeof(said) - 1), sizeof(said) - 1);
    assert_int_equal(log_pump(&log, 4096), 1);
    close(writer);
    assert_int_equal(log_pump(&log, 4096), 0);
    text = text_of(&log);
    assert_non_null(strstr(text, "Z plain\n"));
    assert_non_null(strstr(text, "Z \\x1b[31mred\\x07\\xff\n"));
    assert_non_null(strstr(text, "Z no end\n"));
    free(text);
    log_forget(&log);
}

static void a_forged_line_has_a_stamp_of_its_own(void **state)
{
    struct log log;
    char *text;

    (void)state;
    log_init(&log, "d");
    log_say(&log, "one\n2026-01-01T00:00:00.000Z forged\r");
    text = text_of(&log);
    assert_non_null(strstr(text, "one\\x0a2026-01-01T00:00:00.000Z forged\\x0d\n"));
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
    free(text);
    log_forget(&log);
}

static void long_lines_are_cut(void **state)
{
    char *said = malloc(3 * LOG_LINE_MAX), *text;
    struct log log;
    int writer;

    (void)state;
    memset(said, 'x', 3 * LOG_LINE_MAX);
    log_init(&log, "d");
    assert_int_equal(log_pipe(&log, &writer), 0);
    assert_int_equal(write(writer, said, 3 * LOG_LINE_MAX), 3 * LOG_LINE_MAX);
    close(writer);
    while (log_pump(&log, 700))
        ;
    text = text_of(&log);
    for (const char *line = text; *line; line = strchr(line, '\n') + 1)
        assert_int_equal(strcspn(line, "\n"), 25 + LOG_LINE_MAX);
    assert_int_equal(strlen(text), 3 * (25 + LOG_LINE_MAX + 1));
    free(text);
    free(said);
    log_forget(&log);
}

/* The pump takes no more than it was given leave to: a flood waits in its pipe. */
static void a_flood_waits(void **state)
{
    char said[2000], *text;
    struct log log;
    int writer;

    (void)state;
    memset(said, '\n', sizeof(said));
    memset(said, 'y', 1500);
    log_init(&log, "d");
    assert_int_equal(log_pipe(&log, &writer), 0);
    assert_int_equal(write(writer, said, sizeof(said)), sizeof(said));
    assert_int_equal(log_pump(&log, 100), 1);
    text = text_of(&log);
    assert_string_equal(text, "");
    free(text);
    assert_int_equal(log_pump(&log, 1000), 1);
    text = text_of(&log);
    assert_int_equal(strlen(text), 25 + LOG_LINE_MAX + 1);
    free(text);
    close(writer);
    log_forget(&log);
}

static void files_are_bounded(void **state)
{
    char line[901];
    struct log log;
    struct stat st;

    (void)state;
    memset(line, 'z', sizeof(line) - 1);
    line[sizeof(line) - 1] = '\0';
    log_init(&log, "d");
    for (unsigned i = 0; i < 5 * LOG_FILE_MAX / 900; i++)
        log_say(&log, "%s", line);
    assert_int_equal(stat("logs/d.log", &st), 0);
    assert_true(st.st_size > 0 && st.st_size <= LOG_FILE_MAX);
    assert_int_equal(stat("logs/d.log.1", &st), 0);
    assert_true(st.st_size > LOG_FILE_MAX / 2 && st.st_size <= LOG_FILE_MAX);
    assert_int_not_equal(stat("logs/d.log.2", &st), 0);
    log_forget(&log);
    assert_int_not_equal(stat("logs/d.log", &st), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(escapes_what_a_terminal_would_obey),
        cmocka_unit_test(a_forged_line_has_a_stamp_of_its_own),
        cmocka_unit_test(long_lines_are_cut),
        cmocka_unit_test(a_flood_waits),
        cmocka_unit_test(files_are_bounded),
    };

    return cmocka_run_group_tests(tests, enter, leave);
}
