/* SPDX-License-Identifier: MIT */
#include "core.h"

#include <linux/capability.h>

#define MIB (UINT64_C(1) << 20)
#define CAPABILITY(name) (UINT64_C(1) << CAP_##name)

/* Driver domains differ in their programs only. */
#define DRIVER_DOMAIN \
    .user_namespace = true, .rights = HYP_MAY_MAP | HYP_MAY_EVTCHN | HYP_MAY_DEVICE, \
    .memory = 256 * MIB, .files = 4096, .tasks = 128
#define GUEST .rights = HYP_MAY_GRANT | HYP_MAY_EVTCHN, .grant_pages = 65536

/*
 * The store stays in the machine's user namespace: it must see the uids of
 * those who connect to it.  It makes no calls: its socket is for our words.
 */
static const struct core_class classes[HYP_CLASS_COUNT] = {
    [HYP_CLASS_STORE] = { .program = "bulkhead-store", .memory = 96 * MIB, .files = 1024, .tasks = 64 },
    [HYP_CLASS_BLK] = { .program = "bulkhead-blk", DRIVER_DOMAIN },
    [HYP_CLASS_NBD] = { .program = "bulkhead-nbd", GUEST, .user_namespace = true, .host_files = true,
                        .memory = 512 * MIB, .files = 1024, .tasks = 256 },
    [HYP_CLASS_NATIVE] = { GUEST },
    [HYP_CLASS_NET] = { .program = "bulkhead-net", DRIVER_DOMAIN },
    [HYP_CLASS_TAP] = { .program = "bulkhead-tap", GUEST, .user_namespace = true,
                        .memory = 64 * MIB, .files = 1024, .tasks = 64 },
    /* It makes network namespaces, and takes the machine's interfaces into them. */
    [HYP_CLASS_NETDEV] = { .program = "bulkhead-netdev", .memory = 64 * MIB, .files = 1024, .tasks = 64,
                           .capabilities = CAPABILITY(NET_ADMIN) | CAPABILITY(NET_RAW) |
                                           CAPABILITY(SYS_ADMIN) },
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
