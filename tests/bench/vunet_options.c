/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "frame.h"
#include "vunet.h"

#define SIZE_MAX_USUAL 1514u /* an MTU of 1500 */

static int parse_value(void *of, const char *o, const char *v, char *err, size_t n)
{
    struct vunet_options *opt = of;
    if (strcmp(o, "--size") == 0) {
        opt->size = (uint32_t)options_number(v, FRAME_MIN, SIZE_MAX_USUAL);
        return opt->size ? 0 : options_refuse(err, n, o, v, "must be 64 to 1514");
    }
    if (strcmp(o, "--direction") == 0) {
        opt->rx = strcmp(v, "rx") == 0;
        return opt->rx || strcmp(v, "tx") == 0 ? 0 : options_refuse(err, n, o, v, "must be tx or rx");
    }
    if (strcmp(o, "--peers") == 0) {
        opt->vhost = strcmp(v, "vhost") == 0;
        return opt->vhost ? 0 : options_refuse(err, n, o, v, "the only peer of a vhost-user NIC is vhost");
    }
    return options_common(&opt->common, o, v, err, n);
}

int vunet_options_parse(struct vunet_options *opt, int argc, char **argv, char *err, size_t err_bytes)
{
    char **rest = calloc((size_t)argc + 1, sizeof(*rest));
    int n = 0;
    if (!rest)
        return options_refuse(err, err_bytes, "options", "", "out of memory");
    for (int i = 0; i < argc; i++) {
        if (i > 0 && strcmp(argv[i], "--packed") == 0)
            opt->packed = true;
        else
            rest[n++] = argv[i];
    }
    int error = options_walk(&opt->common, n, rest, parse_value, opt, err, err_bytes);
    free(rest);
    return error;
}
