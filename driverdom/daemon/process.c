/* SPDX-License-Identifier: MIT */
/* process.c - a domain's process: how it is asked of the core, and what its end is called. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon.h"

#define LAST_WORDS_BYTES (64u << 10)

enum hyp_class dom_class(const struct domain_spec *spec)
{
    static const enum hyp_class doors[] = {
        [POLICY_DOOR_NBD] = HYP_CLASS_NBD,
        [POLICY_DOOR_NATIVE] = HYP_CLASS_NATIVE,
        [POLICY_DOOR_TAP] = HYP_CLASS_TAP,
        [POLICY_DOOR_VHOST] = HYP_CLASS_VHOST,
    };

    if (spec->kind == POLICY_DRIVER)
        return spec->cls == POLICY_CLASS_NET ? HYP_CLASS_NET : HYP_CLASS_BLK;
    return doors[spec->door];
}

/* fds[0] is the domain's stderr, which it keeps as descriptor 5. */
static int make(struct daemon *d, struct domain *dom, struct log *log, domid_t *domid, const int *more_fds,
                unsigned n)
{
    struct hyp_domain_config cfg = {.class_id = dom_class(&dom->spec), .cpus = dom->spec.cpus};
    int fds[HYP_FDS_MAX], writer, rc;

    /* A guest's <memory> is the guest's own; what serves it is sized by its class. */
    if (dom->spec.kind == POLICY_DRIVER)
        cfg.memory_bytes = dom->spec.memory_bytes;
    snprintf(cfg.name, sizeof(cfg.name), "%s", dom->spec.name);
    if (cfg.class_id == HYP_CLASS_NATIVE)
        return hyp_domain_create(d->hyp, &cfg, NULL, 0, domid, dom->conn);
    log_pump(log, LAST_WORDS_BYTES);
    rc = log_pipe(log, &writer);
    if (rc)
        return rc;
    fds[0] = writer;
    for (unsigned i = 0; i < n; i++)
        fds[1 + i] = more_fds[i];
    rc = hyp_domain_create(d->hyp, &cfg, fds, 1 + n, domid, dom->conn);
    close(writer);
    return rc;
}

int dom_make(struct daemon *d, struct domain *dom, const int *more_fds, unsigned n)
{
    int rc = make(d, dom, &dom->log, &dom->domid, more_fds, n);

    dom->alive = !rc;
    return rc;
}

int dom_make_spare(struct daemon *d, struct domain *dom, const int *more_fds, unsigned n)
{
    int rc = make(d, dom, &dom->spare.log, &dom->spare.domid, more_fds, n);

    dom->spare.alive = !rc;
    return rc;
}

void cause_text(enum cause cause, int status, char out[32])
{
    static const char *const words[CAUSE_COUNT] = {[CAUSE_NONE] = "",
                                                   [CAUSE_HANG] = "hang",
                                                   [CAUSE_LIE] = "broken ring",
                                                   [CAUSE_PLANNED] = "planned",
                                                   [CAUSE_DETACHED] = "detached"};

    if (cause == CAUSE_SIGNAL && sigabbrev_np(status))
        snprintf(out, 32, "signal %s", sigabbrev_np(status));
    else if (cause == CAUSE_SIGNAL)
        snprintf(out, 32, "signal %d", status);
    else if (cause == CAUSE_EXIT)
        snprintf(out, 32, "exit %d", status);
    else
        snprintf(out, 32, "%s", words[cause]);
}
