/* SPDX-License-Identifier: MIT */
#include "core.h"

#include <linux/capability.h>

#define CAPABILITY(name) (UINT64_C(1) << CAP_##name)

#define LIMITS(MIBS, FILES, TASKS) .memory = UINT64_C(MIBS) << 20, .files = (FILES), .tasks = (TASKS)
/* Driver domains differ in their programs only. */
#define DRIVER_DOMAIN \
    .user_namespace = true, .rights = HYP_MAY_MAP | HYP_MAY_EVTCHN | HYP_MAY_DEVICE, LIMITS(256, 4096, 128)
#define GUEST .rights = HYP_MAY_GRANT | HYP_MAY_EVTCHN, .grant_pages = 65536
/* A guest that a program of ours speaks for. */
#define DOOR  GUEST, .user_namespace = true

/*
 * The store stays in the machine's user namespace: it must see the uids of
 * those who connect to it.  It makes no calls: its socket is for our words.
 */
static const struct core_class classes[HYP_CLASS_COUNT] = {
    [HYP_CLASS_STORE] = { .program = "bulkhead-store", LIMITS(96, 1024, 64) },
    [HYP_CLASS_BLK] = { .program = "bulkhead-blk", DRIVER_DOMAIN },
    [HYP_CLASS_NBD] = { .program = "bulkhead-nbd", DOOR, LIMITS(512, 1024, 256), .host_files = true },
    [HYP_CLASS_NATIVE] = { GUEST },
    [HYP_CLASS_NET] = { .program = "bulkhead-net", DRIVER_DOMAIN },
    [HYP_CLASS_TAP] = { .program = "bulkhead-tap", DOOR, LIMITS(64, 1024, 64) },
    /* It makes network namespaces, and takes the machine's interfaces into them. */
    [HYP_CLASS_NETDEV] = { .program = "bulkhead-netdev", LIMITS(64, 1024, 64),
                           .capabilities = CAPABILITY(NET_ADMIN) | CAPABILITY(NET_RAW) |
                                           CAPABILITY(SYS_ADMIN) },
    /* The memory that a VMM shows it is shared and does not count; its rings have descriptors. */
    [HYP_CLASS_VHOST] = { .program = "bulkhead-vhost", DOOR, LIMITS(128, 4096, 64) },
};

const struct core_class *core_class(uint32_t class_id)
{
    return class_id >= HYP_CLASS_STORE && class_id < HYP_CLASS_COUNT ? &classes[class_id] : NULL;
}

uid_t core_uid(const struct domain *d)
{
    const struct core_class *cls = core_class(d->class_id);
    return cls && cls->capabilities ? 0 : LOCAL_UID_BASE + d->domid;
}
