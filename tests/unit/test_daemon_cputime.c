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
    const struct cputime then = {.ran = 700 * MS, .waited = 900 * MS};
    struct cputime now = then;
    (void)state;

    assert_false(cputime_starved(&then, &now, 250 * MS)); /* stopped, or asleep for ever */
    now.waited += 60 * MS;
    assert_false(cputime_starved(&then, &now, 250 * MS)); /* a little */
    now.waited += 10 * MS;
    assert_true(cputime_starved(&then, &now, 250 * MS));
    now.ran += 49 * MS;
    assert_true(cputime_starved(&then, &now, 250 * MS));
    now.ran += MS;
    assert_false(cputime_starved(&then, &now, 250 * MS)); /* enough to have answered */
    now.ran = 0; /* a busy thread ended */
    assert_true(cputime_starved(&then, &now, 250 * MS));
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
    } while (after.ran < before.ran + 60 * MS);
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
