/* SPDX-License-Identifier: MIT */
#include "core.h"

#define MIB (UINT64_C(1) << 20)

static const char *const plain_env[] = { HYP_ENV_FDS "=3,4", NULL };
static const char *const host_env[] = { HYP_ENV_FDS "=3,4", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };

/*
 * The store stays in the machine's user namespace: it must see the uids of
 * those who connect to it.  It has no core connection and makes no calls.
 */
static const struct core_class classes[HYP_CLASS_COUNT] = {
    [HYP_CLASS_STORE] = {
        .program = "bulkhead-store",
        .memory = 96 * MIB, .files = 1024, .tasks = 64, .env = plain_env,
    },
    [HYP_CLASS_BLK] = {
        .program = "bulkhead-blk", .user_namespace = true,
        .rights = HYP_MAY_MAP | HYP_MAY_EVTCHN | HYP_MAY_DEVICE,
        .memory = 256 * MIB, .files = 4096, .tasks = 128, .env = plain_env,
    },
    [HYP_CLASS_NBD] = {
        .program = "bulkhead-nbd", .user_namespace = true, .host_files = true,
        .rights = HYP_MAY_GRANT | HYP_MAY_EVTCHN,
        .grant_pages = 65536, .memory = 512 * MIB, .files = 1024, .tasks = 256, .env = host_env,
    },
    [HYP_CLASS_NATIVE] = {
        .rights = HYP_MAY_GRANT | HYP_MAY_EVTCHN,
        .grant_pages = 65536,
    },
};

const struct core_class *core_class(uint32_t class_id)
{
    return class_id >= HYP_CLASS_STORE && class_id < HYP_CLASS_COUNT ? &classes[class_id] : NULL;
}
