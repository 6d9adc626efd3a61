#!/bin/bash
# SPDX-License-Identifier: MIT
# Four guests at once on one driver domain, each verified, none sees another's data.
. "$(dirname "$0")/lib.bash"
stack_start
driver disk0
for n in 1 2 3 4; do
    image $n.img 32M
    guest g$n disk0 "$RUN/$n.img"
done
pids=()
for n in 1 2 3 4; do
    verified_fio g$n 32M --bsrange=4k-32k --randseed=$n &
    pids+=($!)
done
for pid in "${pids[@]}"; do
    wait "$pid" || fail "a guest's fio failed beside the others"
done
say "fio on four guests at once: verified"

pids=()
for n in 1 2 3 4; do
    head -c 32M /dev/urandom >"$RUN/$n.random"
    nbdcopy --flush "$RUN/$n.random" "$(uri g$n)" &
    pids+=($!)
done
for pid in "${pids[@]}"; do
    wait "$pid" || fail "nbdcopy"
done
for n in 1 2 3 4; do
    cmp "$RUN/$n.random" "$RUN/$n.img" || fail "guest $n's image holds something else"
    nbdcopy "$(uri g$n)" - | cmp - "$RUN/$n.random" || fail "guest $n reads something else"
done
say "four different images at once: each where it belongs"
[ "$(bh --json list | jq '[.[] | select(.class == "blk" and .incarnation > 1)] | length')" = 0 ] ||
    fail "the driver domain died on the way"
