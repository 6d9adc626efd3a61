/* SPDX-License-Identifier: MIT */
/*
 * definition.c - what defines a domain: define and undefine; open and close for
 * guests of libvirt, whose definition comes and goes with them.
 *
 * A request that comes while a guest is on its way somewhere waits for its turn
 * (session_defer()) and is looked at anew then.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon.h"
#include "rundir.h"

/* What a guest was before `open` said otherwise. */
struct definition {
    struct domain_spec spec;
    bool opened;
    size_t bytes;
    char xml[];
};

static bool is_taken(struct daemon *d, const char *file, const struct domain_spec *spec,
                     const struct domain *besides, char why[DAEMON_SENTENCE_MAX])
{
    for (int i = 0; i < DAEMON_DOMAINS_MAX; i++) {
        const struct domain *dom = &d->domains[i];

        if (!dom->used || dom == besides)
            continue;
        if (!strcmp(dom->spec.name, spec->name)) {
            snprintf(why, DAEMON_SENTENCE_MAX,
                     "%.200s:%u: a domain named %s is already defined: undefine it first", file,
                     spec->name_line, spec->name);
            return true;
        }
        if (*spec->uuid && !strcmp(dom->spec.uuid, spec->uuid)) {
            snprintf(why, DAEMON_SENTENCE_MAX, "%.200s:%u: uuid %s already belongs to %s", file,
                     spec->name_line, spec->uuid, dom->spec.name);
            return true;
        }
    }
    return false;
}

/* Where QEMU is told to connect, it must find what is opened here. */
static bool sockets_right(const struct daemon *d, const char *file, const struct domain_spec *spec,
                          char why[DAEMON_SENTENCE_MAX])
{
    char sentence[DAEMON_SENTENCE_MAX] = "";
    unsigned line = 0;
    int rc = 0;

    if (spec->door != POLICY_DOOR_VHOST)
        return true;
    for (unsigned i = 0; !rc && i < spec->ndisks; i++) {
        line = spec->disks[i].line;
        rc = vhost_check_socket(d, spec->name, spec->disks[i].dev, spec->disks[i].socket, sentence);
    }
    for (unsigned i = 0; !rc && i < spec->nnics; i++) {
        line = spec->nics[i].line;
        rc = vhost_check_socket(d, spec->name, spec->nics[i].dev, spec->nics[i].socket, sentence);
    }
    if (rc)
        snprintf(why, DAEMON_SENTENCE_MAX, "%.200s:%u: %.400s", file, line, sentence);
    return !rc;
}

/* The document of a request, read.  0; else it is answered. */
static int parse(struct daemon *d, struct session *s, json_t *request, struct wanted *out,
                 struct policy_notes *notes)
{
    static struct domain_spec spec; /* large; one thread */
    const char *cmd = json_string_value(json_object_get(request, "cmd"));
    json_t *xml = json_object_get(request, "xml");
    char err[POLICY_ERR_MAX], why[DAEMON_SENTENCE_MAX];
    int rc;

    *out = (struct wanted){.spec = &spec,
                           .xml = json_string_value(xml),
                           .bytes = json_string_length(xml),
                           .file = json_string_value(json_object_get(request, "file"))};
    if (!out->xml || !out->file) {
        session_fail(s, 2, "%s needs \"file\" and \"xml\"", cmd);
        return -EINVAL;
    }
    rc = policy_parse(out->xml, out->bytes, out->file, &spec, err, notes);
    if (rc == -ENOENT && !strcmp(cmd, "open"))
        session_ok(s, json_pack("{s:b}", "mine", 0));
    else if (rc)
        session_fail(s, 1, "%s", err);
    else if (!sockets_right(d, out->file, &spec, why))
        session_fail(s, 1, "%s", why);
    else
        return 0;
    return -EINVAL;
}

/* Known from now on, and on disk. NULL: why not. */
static struct domain *add(struct daemon *d, const struct wanted *wanted, bool opened,
                          char why[DAEMON_SENTENCE_MAX])
{
    const char *name = wanted->spec->name;
    struct domain *dom;
    int rc;

    if (is_taken(d, wanted->file, wanted->spec, NULL, why))
        return NULL;
    dom = dom_new(d, wanted->spec);
    if (!dom) {
        snprintf(why, DAEMON_SENTENCE_MAX,
                 "%s is not defined: there are %d domains already, the most that bulkheadd keeps", name,
                 DAEMON_DOMAINS_MAX);
        return NULL;
    }
    rc = rundir_save_domain(name, wanted->xml, wanted->bytes, opened);
    if (rc) {
        dom->used = false;
        snprintf(why, DAEMON_SENTENCE_MAX, "%s is not defined: cannot write %s/domains/%s.xml: %s", name,
                 d->run_dir, name, strerror(-rc));
        return NULL;
    }
    dom->opened = opened;
    event_tell(d, "defined", dom, NULL);
    return dom;
}

static int forget(struct daemon *d, struct domain *dom)
{
    int rc = rundir_forget_domain(dom->spec.name);

    if (rc)
        return rc;
    event_tell(d, "undefined", dom, NULL);
    log_forget(&dom->log);
    log_forget(&dom->spare.log);
    driver_forget_gate(dom);
    definition_settled(dom);
    dom->used = false;
    return 0;
}

void definition_define(struct daemon *d, struct session *s, json_t *request)
{
    static struct policy_notes notes;
    char why[DAEMON_SENTENCE_MAX];
    struct wanted wanted;
    json_t *told;

    if (parse(d, s, request, &wanted, &notes))
        return;
    if (!add(d, &wanted, false, why)) {
        session_fail(s, 1, "%s", why);
        return;
    }
    told = json_array();
    for (unsigned i = 0; i < notes.n; i++)
        json_array_append_new(told, json_string(notes.text[i]));
    session_ok(s, json_pack("{s:s,s:s,s:s,s:o}", "name", wanted.spec->name, "kind",
                            policy_kind_name(wanted.spec->kind), "class", policy_class_name(wanted.spec),
                            "notes", told));
}

void definition_undefine(struct daemon *d, struct session *s, struct domain *dom)
{
    char name[POLICY_NAME_MAX];
    int rc;

    memcpy(name, dom->spec.name, sizeof(name));
    if (!dom_is_down(dom)) {
        session_fail(s, 1, "%s is %s: stop it first", name, dom_state_name(dom));
        return;
    }
    rc = forget(d, dom);
    if (rc)
        session_fail(s, 1, "cannot remove %s/domains/%s.xml: %s", d->run_dir, name, strerror(-rc));
    else
        session_ok(s, json_pack("{s:s}", "name", name));
}

/* ------------------------------------------------------------------------- open */

bool definition_is_settled(const struct domain *dom)
{
    switch (dom->state) {
    case ST_DEFINED:
        return !dom->forget && !dom->before;
    case ST_RUNNING:
        return dom->change.at == CHANGE_NONE;
    case ST_CRASHED:
    case ST_BACKOFF:
        return true;
    case ST_STARTING:
    case ST_STOPPING:
        return false;
    }
    return true;
}

void definition_settled(struct domain *dom)
{
    free(dom->before);
    dom->before = NULL;
    dom->forget = false;
}

static void become(struct domain *dom, const struct domain_spec *spec)
{
    dom->spec = *spec;
    memset(dom->vbd, 0, sizeof(dom->vbd));
    memset(dom->ahead, 0, sizeof(dom->ahead));
    split_init(dom);
}

/* Another definition for one that is down; the last one is kept until it runs. */
static int replace(struct daemon *d, struct domain *dom, const struct wanted *wanted,
                   char why[DAEMON_SENTENCE_MAX])
{
    const char *name = dom->spec.name;
    size_t bytes;
    char *xml = rundir_read_domain(name, &bytes);
    struct definition *before = xml ? malloc(sizeof(*before) + bytes) : NULL;
    int rc = before ? rundir_save_domain(name, wanted->xml, wanted->bytes, dom->opened) : -ENOMEM;

    if (rc) {
        snprintf(why, DAEMON_SENTENCE_MAX, "cannot write %s/domains/%s.xml: %s", d->run_dir, name,
                 strerror(-rc));
        free(before);
    } else {
        before->spec = dom->spec;
        before->opened = dom->opened;
        before->bytes = bytes;
        memcpy(before->xml, xml, bytes);
        dom->before = before;
        become(dom, wanted->spec);
    }
    free(xml);
    return rc;
}

void definition_tick(struct daemon *d, struct domain *dom)
{
    struct definition *before = dom->before;
    int rc = 0;

    if (dom->state != ST_DEFINED)
        return;
    if (dom->forget) {
        rc = forget(d, dom);
        session_answer(d, dom, WAIT_CLOSE, NULL); /* its place is nobody else's yet */
    } else if (before) { /* it did not start */
        rc = rundir_save_domain(dom->spec.name, before->xml, before->bytes, before->opened);
        become(dom, &before->spec);
    }
    if (rc)
        event_error(d, dom, "cannot put %s/domains/%s.xml back: %s", d->run_dir, dom->spec.name,
                    strerror(-rc));
    definition_settled(dom);
}

uint64_t definition_next_tick(const struct domain *dom)
{
    return dom->state == ST_DEFINED && (dom->forget || dom->before) ? 1 : 0;
}

/* As what its definition on disk says, whatever was being made of it. */
void definition_again(struct daemon *d, struct domain *dom)
{
    static struct domain_spec spec; /* large; one thread */
    char err[POLICY_ERR_MAX] = "it cannot be read";
    size_t bytes;
    char *xml = rundir_read_domain(dom->spec.name, &bytes);

    if (!xml || policy_parse(xml, bytes, dom->spec.name, &spec, err, NULL))
        event_error(d, dom, "%s/domains/%s.xml: %s", d->run_dir, dom->spec.name, err);
    else
        become(dom, &spec);
    free(xml);
}

static void open_down(struct daemon *d, struct session *s, struct domain *dom, const struct wanted *wanted)
{
    char why[DAEMON_SENTENCE_MAX];

    if (dom->state != ST_DEFINED && dom_stop(d, dom, why)) {
        session_fail(s, 1, "%s", why);
        return;
    }
    if (is_taken(d, wanted->file, wanted->spec, dom, why) || replace(d, dom, wanted, why)) {
        session_fail(s, 1, "%s", why);
        return;
    }
    if (!session_ask(d, s, dom, WAIT_START | WAIT_OPEN, dom_start))
        definition_tick(d, dom);
}

static void open_new(struct daemon *d, struct session *s, const struct wanted *wanted)
{
    char why[DAEMON_SENTENCE_MAX];
    struct domain *dom = add(d, wanted, true, why);

    if (!dom) {
        session_fail(s, 1, "%s", why);
        return;
    }
    dom->opens = 1;
    dom->forget = true; /* if it does not start */
    if (!session_ask(d, s, dom, WAIT_START | WAIT_OPEN, dom_start))
        definition_tick(d, dom);
}

static void open_running(struct daemon *d, struct session *s, struct domain *dom, const struct wanted *wanted)
{
    char why[DAEMON_SENTENCE_MAX];

    if (is_taken(d, wanted->file, wanted->spec, dom, why) || change_ask(d, dom, wanted, why)) {
        session_fail(s, 1, "%s", why);
        return;
    }
    s->wait = dom;
    s->wait_for = WAIT_CHANGE | WAIT_OPEN;
}

void definition_open(struct daemon *d, struct session *s, json_t *request)
{
    struct wanted wanted;
    struct domain *dom;

    if (parse(d, s, request, &wanted, NULL))
        return;
    if (wanted.spec->door != POLICY_DOOR_VHOST) {
        session_fail(s, 1,
                     "%.200s:%u: only guests with door='vhost-user' are opened: define %s, then start it",
                     wanted.file, wanted.spec->name_line, wanted.spec->name);
        return;
    }
    dom = dom_find(d, wanted.spec->name);
    if (dom)
        dom->opens++;
    if (dom && dom->spec.door != POLICY_DOOR_VHOST)
        session_fail(s, 1, "%.200s:%u: a domain named %s is already defined: undefine it first", wanted.file,
                     wanted.spec->name_line, wanted.spec->name);
    else if (dom && !definition_is_settled(dom))
        session_defer(s, request, dom->spec.name);
    else if (!dom)
        open_new(d, s, &wanted);
    else if (dom->state == ST_RUNNING)
        open_running(d, s, dom, &wanted);
    else
        open_down(d, s, dom, &wanted);
}

/* ------------------------------------------------------------------------ close */

/* Who closes by what it saw a moment ago names how often the guest had been opened then. */
static bool opened_since(const struct domain *dom, json_t *request)
{
    json_t *opens = json_object_get(request, "opens");

    return json_is_integer(opens) && json_integer_value(opens) != dom->opens;
}

void definition_close(struct daemon *d, struct session *s, json_t *request)
{
    const char *name = json_string_value(json_object_get(request, "name"));
    struct domain *dom = name ? dom_find(d, name) : NULL;

    if (!name) {
        session_fail(s, 2, "close needs \"name\"");
    } else if (!dom || dom->spec.door != POLICY_DOOR_VHOST) {
        session_ok(s, json_pack("{s:b}", "mine", dom != NULL && dom->spec.door == POLICY_DOOR_VHOST));
    } else if (opened_since(dom, request)) {
        session_ok(s, json_pack("{s:b}", "mine", 1));
    } else if (dom->state == ST_RUNNING || definition_is_settled(dom)) {
        dom->forget = dom->opened;
        if (dom->state == ST_DEFINED) {
            definition_tick(d, dom);
            session_ok(s, NULL);
        } else if (!session_ask(d, s, dom, dom->opened ? WAIT_CLOSE : WAIT_STOP, dom_stop)) {
            dom->forget = false;
        }
    } else {
        session_defer(s, request, name);
    }
}
