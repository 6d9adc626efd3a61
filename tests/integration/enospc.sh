#!/bin/bash
# SPDX-License-Identifier: MIT
# A full file system and an image that got shorter reach the guest as an I/O
# error; the guests beside it go on.
. "$(dirname "$0")/lib.bash"
need_root
mkdir "$RUN/small"
mount -t tmpfs -o size=16m tmpfs "$RUN/small" 2>/dev/null || skip "this machine does not let root mount a tmpfs"
mounts+=("$RUN/small")
truncate -s 64M "$RUN/small/full.img"
image other.img 64M
image short.img 16M
stack_start
driver disk0
guest full disk0 "$RUN/small/full.img"
guest other disk0 "$RUN/other.img"
guest short disk0 "$RUN/short.img"

verified_fio other 64M --loops=2 &
beside=$!
if qemu-io -f raw -c 'write -P 1 0 4M' "$(uri full)" | has failed; then
    fail "control: a write that fits failed"
fi
answer=$(timeout 60 qemu-io -f raw -c 'write -P 2 4M 30M' "$(uri full)" 2>&1) && [[ $answer != *failed* ]] &&
    fail "30 MiB fit into 12 MiB: $answer"
[[ $answer == *"No space left"* || $answer == *"Input/output error"* ]] || fail "a full disk is told as: $answer"
say "full file system: ${answer##*: }"
if qemu-io -f raw -c 'read -P 1 0 4M' "$(uri full)" | has -E 'failed|verification'; then
    fail "what was written before is not readable any more"
fi
say "what was acknowledged before is still there"

if qemu-io -f raw -c 'read -P 0 12M 1M' "$(uri short)" | has -E 'failed|verification'; then
    fail "control: a read of the whole image failed"
fi
truncate -s 8M "$RUN/short.img"
answer=$(timeout 60 qemu-io -f raw -c 'read -P 0 12M 1M' "$(uri short)" 2>&1) && [[ $answer != *failed* ]] &&
    fail "a read past the end of a truncated image gave data: $answer"
[[ $answer == *"Input/output error"* ]] || fail "a truncated image is told as: $answer"
say "truncated image: ${answer##*: }"
if qemu-io -f raw -c 'read -P 0 0 1M' "$(uri short)" | has -E 'failed|verification'; then
    fail "the rest of the truncated image is not readable"
fi

wait $beside || fail "the guest beside it was disturbed"
say "the guest beside it: verified"
[ "$(info disk0 .state)" = running ] || fail "the driver domain is $(info disk0 .state)"
