/* SPDX-License-Identifier: MIT */
#include "vublk_options.h"

#include <stdlib.h>
#include <string.h>

#define BS_MAX      (1u << 20)
#define SEGMENT_MIN 512u

struct flag {
    const char *name;
    size_t at;
};

static const struct flag flags[] = {
    {"--packed", offsetof(struct vublk_options, packed)},
    {"--verify", offsetof(struct vublk_options, verify)},
    {"--reconnect", offsetof(struct vublk_options, reconnect)},
    {"--no-inflight", offsetof(struct vublk_options, no_inflight)},
    {"--no-indirect", offsetof(struct vublk_options, direct)},
    {"--no-event-idx", offsetof(struct vublk_options, no_event_idx)},
};

/* True: it was one of the words that take no value. */
static bool take_flag(struct vublk_options *opt, const char *word)
{
    for (unsigned i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
        if (strcmp(word, flags[i].name) == 0) {
            *(bool *)((char *)opt + flags[i].at) = true;
            return true;
        }
    return false;
}

static int parse_bytes(const char *o, const char *v, uint64_t min, uint64_t max, uint64_t *out, char *err,
                       size_t n)
{
    *out = options_number(v, min, max);
    return *out && *out % 512 == 0
               ? 0
               : options_refuse(err, n, o, v, "must be a multiple of 512, within bounds");
}

static int parse_verify(struct vublk_options *opt, const char *o, const char *v, char *err, size_t n)
{
    uint64_t x;
    if (strcmp(o, "--span") == 0)
        return parse_bytes(o, v, 1u << 20, 1ull << 30, &opt->span, err, n);
    if (strcmp(o, "--hang-up") == 0) {
        opt->hang_up_ms = (unsigned)(x = options_number(v, 1, 60000));
        return x ? 0 : options_refuse(err, n, o, v, "must be 1 to 60000");
    }
    if (strcmp(o, "--patience") == 0) {
        opt->patience = (double)(x = options_number(v, 1, 3600));
        return x ? 0 : options_refuse(err, n, o, v, "must be 1 to 3600");
    }
    if (strcmp(o, "--seed") == 0) {
        opt->seed = x = options_number(v, 1, UINT64_MAX);
        return x ? 0 : options_refuse(err, n, o, v, "must be a number, from 1 on");
    }
    return options_common(&opt->common, o, v, err, n);
}

static int parse_value(void *of, const char *o, const char *v, char *err, size_t n)
{
    struct vublk_options *opt = of;
    uint64_t x = 0;
    int error;
    if (strcmp(o, "--device") == 0 || strcmp(o, "--socket") == 0) {
        *(o[2] == 'd' ? &opt->device : &opt->socket) = v;
        return *v ? 0 : options_refuse(err, n, o, v, "needs a value");
    }
    if (strcmp(o, "--rw") == 0 || strcmp(o, "--op") == 0)
        return options_op(v, &opt->op)
                   ? 0
                   : options_refuse(err, n, o, v, "must be randread, randwrite, read or write");
    if (strcmp(o, "--peers") == 0) {
        opt->qsd = strcmp(v, "qsd") == 0;
        return opt->qsd ? 0 : options_refuse(err, n, o, v, "the only peer of a vhost-user disk is qsd");
    }
    if (strcmp(o, "--wait") == 0) {
        opt->sleeps = strcmp(v, "sleep") == 0;
        return opt->sleeps || strcmp(v, "poll") == 0 ? 0
                                                     : options_refuse(err, n, o, v, "must be poll or sleep");
    }
    if (strcmp(o, "--bs") == 0 || strcmp(o, "--segment") == 0) {
        error = parse_bytes(o, v, SEGMENT_MIN, BS_MAX, &x, err, n);
        *(o[2] == 'b' ? &opt->bs : &opt->segment) = (uint32_t)x;
        return error;
    }
    if (strcmp(o, "--depth") == 0) {
        opt->depth = (unsigned)(x = options_number(v, 1, LOAD_DEPTH_MAX));
        return x ? 0 : options_refuse(err, n, o, v, "must be 1 to 512");
    }
    return parse_verify(opt, o, v, err, n);
}

/* What does not go together. */
static int judge(const struct vublk_options *opt, char *err, size_t n)
{
    if (opt->socket && opt->qsd)
        return options_refuse(err, n, "--peers", "qsd", "a socket is measured alone");
    if (!opt->verify && (opt->reconnect || opt->hang_up_ms || opt->span))
        return options_refuse(err, n, "--reconnect, --hang-up, --span", "", "belong to --verify");
    if (opt->verify && !opt->socket)
        return options_refuse(err, n, "--verify", "", "needs the --socket of the disk that is to be checked");
    return 0;
}

int vublk_options_parse(struct vublk_options *opt, int argc, char **argv, char *err, size_t err_bytes)
{
    char **rest = calloc((size_t)argc + 1, sizeof(*rest));
    int n = 0;
    if (!rest)
        return options_refuse(err, err_bytes, "options", "", "out of memory");
    for (int i = 0; i < argc; i++)
        if (i == 0 || !take_flag(opt, argv[i]))
            rest[n++] = argv[i];
    int error = options_walk(&opt->common, n, rest, parse_value, opt, err, err_bytes);
    free(rest);
    return error || opt->common.help ? error : judge(opt, err, err_bytes);
}
