#!/bin/bash
# SPDX-License-Identifier: MIT
# The tools of libnbd and QEMU on a guest's disk: nbdinfo, nbdcopy, qemu-img.
. "$(dirname "$0")/lib.bash"
stack_start
driver disk0
image vda.img 48M
image other.img 48M
guest g1 disk0 "$RUN/vda.img"
guest g2 disk0 "$RUN/other.img"

size=$(nbdinfo --size "$(uri g1)")
[ "$size" = $((48 << 20)) ] || fail "nbdinfo says $size bytes"
nbdinfo --json "$(uri g1)" | jq -e '.exports[0] | ."is_read_only" == false and .can_flush == true' >/dev/null ||
    fail "nbdinfo does not tell a writable disk that can flush"
say "nbdinfo: $size bytes, writable, can flush"

head -c 48M /dev/urandom >"$RUN/random"
nbdcopy --flush "$RUN/random" "$(uri g1)"
nbdcopy "$(uri g1)" "$RUN/back"
cmp "$RUN/random" "$RUN/back" || fail "nbdcopy brought back something else"
cmp "$RUN/random" "$RUN/vda.img" || fail "the image is not what the guest wrote"
say "nbdcopy in and out: equal, and so is the image"

qemu-img convert -q -n -f raw -O raw "$(uri g1)" "$(uri g2)"
qemu-img compare -q -f raw -F raw "$(uri g1)" "$(uri g2)" || fail "qemu-img compare sees a difference after convert"
say "qemu-img convert from guest to guest, compare: equal"
qemu-io -f raw -c 'write -P 7 1M 64k' "$(uri g2)" >/dev/null
if qemu-img compare -q -f raw -F raw "$(uri g1)" "$(uri g2)"; then
    fail "qemu-img compare sees no difference where there is one"
fi
say "control: one changed block is seen"

qemu-io -f raw -c 'write -P 5 0 1M' -c 'write -z 0 64k' -c 'read -P 0 0 64k' -c 'read -P 5 64k 960k' -c flush "$(uri g2)" |
    grep -i 'failed' && fail "zeroes"
say "write zeroes: only what was named is zero"

image ro.img 4M
guest g3 disk0 "$RUN/ro.img" nbd '<readonly/>'
[ "$(nbdinfo --json "$(uri g3)" | jq '.exports[0].is_read_only')" = true ] || fail "a read-only disk is told as writable"
if qemu-io -f raw -c 'write -P 1 0 4k' "$(uri g3)" >/dev/null 2>&1; then
    fail "a read-only disk took a write"
fi
cmp -s <(head -c 4M /dev/zero) "$RUN/ro.img" || fail "a read-only image changed"
say "read-only: told, and kept"
