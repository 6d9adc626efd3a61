/* SPDX-License-Identifier: MIT */
/* Who waits for a processor is told from who stands still and who runs in circles. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "../../driverdom/daemon/cputime.h"

#define MS 1000000ull

static void waiting_is_told_from_standing_still(void **state)
{
    const struct cputime then = {
        .n = 2, .thread = {{.tid = 7, .ran = 700 * MS, .waited = 900 * MS}, {.tid = 8, .ran = 5 * MS}}};
    struct cputime now = then;
    (void)state;

    assert_false(cputime_starved(&then, &now, 250 * MS)); /* stopped, or asleep for ever */
    now.thread[0].waited += 60 * MS;
    assert_false(cputime_starved(&then, &now, 250 * MS)); /* a little */
    now.thread[0].waited += 10 * MS;
    assert_true(cputime_starved(&then, &now, 250 * MS));
    now.thread[1].ran += 200 * MS; /* another one of it works, and cannot answer for it */
    assert_true(cputime_starved(&then, &now, 250 * MS));
    now.thread[0].ran += 49 * MS;
    assert_true(cputime_starved(&then, &now, 250 * MS));
    now.thread[0].ran += MS;
    assert_false(cputime_starved(&then, &now, 250 * MS)); /* enough to have answered */
    now.thread[now.n++] = (struct cputime_thread){.tid = 9, .waited = 70 * MS}; /* a new one */
    assert_true(cputime_starved(&then, &now, 250 * MS));
}

/* Of the one thread that it has. */
static uint64_t ran(const struct cputime *of)
{
    assert_int_equal(of->n, 1);
    return of->thread[0].ran;
}

static void a_living_process_is_measured(void **state)
{
    struct cputime before, after;
    pid_t pid = fork();
    (void)state;

    if (pid == 0) {
        for (volatile uint64_t n = 0;; n++)
            ;
    }
    assert_true(cputime_read(pid, &before));
    do {
        usleep(1000);
        assert_true(cputime_read(pid, &after));
    } while (ran(&after) < ran(&before) + 60 * MS);
    assert_false(cputime_starved(&before, &after, 60 * MS)); /* it runs in circles */
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_false(cputime_read(pid, &after));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waiting_is_told_from_standing_still),
        cmocka_unit_test(a_living_process_is_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
