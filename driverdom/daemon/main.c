/* SPDX-License-Identifier: MIT */
/*
 * bulkheadd: starts the core as root, or takes over one whose daemon died; gives
 * up every privilege, then watches over driver domains and guests and answers
 * the bulkhead command.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "options.h"
#include "setup.h"

static struct daemon daemon_state;

static int give_up(const char *why)
{
    fprintf(stderr, "bulkheadd: %s\n", why);
    return 1;
}

int main(int argc, char **argv)
{
    struct daemon *d = &daemon_state;
    struct options opt;
    struct rundir run;
    char why[DAEMON_SENTENCE_MAX] = "";
    int status, ready_fd = -1;

    /* What the caller left open is not ours to keep. */
    close_range(STDERR_FILENO + 1, ~0u, 0);
    if (!options_read(argc, argv, &opt, &status))
        return status;
    if (geteuid() != 0)
        return give_up("it must be started as root: it starts the core, then drops every privilege; try "
                       "sudo");
    if (!opt.foreground && launch_background(&ready_fd))
        return give_up("cannot go to the background");
    setup_init(d, opt.foreground);
    if (launch_find_group(opt.guest_group, DEFAULT_GUEST_GROUP, &d->guest_group, why, sizeof(why)))
        return give_up(why);
    snprintf(d->run_dir, sizeof(d->run_dir), "%s", opt.run_dir);
    launch_raise_limits();

    /* As root: the directory, and the core that stays root. */
    if (rundir_enter(&run, opt.run_dir, why, sizeof(why)))
        return give_up(why);
    d->listen_fd = run.listen_fd;
    d->signal_fd = daemon_signals();
    if (d->signal_fd < 0)
        return give_up("it cannot be told to stop: no descriptor for signals");
    if (setup_reach_core(d, &run, why, sizeof(why)))
        goto failed;

    /* From here on as nobody in particular. */
    if (launch_drop_privileges(d->guest_group, why, sizeof(why)) || setup_connect(d, why, sizeof(why)))
        goto failed;
    status = daemon_loop(d, ready_fd);
    if (d->core_ended)
        rundir_leave(&run);
    return status;
failed:
    status = give_up(why);
    /* What runs under an adopted core goes on; of a new one nothing is left. */
    if (!d->adopted) {
        setup_end_core(d);
        rundir_leave(&run);
    }
    return status;
}
