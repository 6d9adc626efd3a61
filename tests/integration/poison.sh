#!/bin/bash
# SPDX-License-Identifier: MIT
# Poison: a request of which every driver domain dies fails with an I/O error after three
# deaths, an event names it, and everything else goes on.
. "$(dirname "$0")/lib.bash"
need_root
programs "$RUN/programs"
install_program "$(helper bad_blk)" bulkhead-blk
stack_start
watch_events
driver disk0
for name in a b c; do image $name.img 32M; done
guest g1 disk0 "$RUN/a.img"
guest g2 disk0 "$RUN/b.img"
guest g3 disk0 "$RUN/c.img" nbd '' "max-deaths='1'"
door=$(info g1 .pid)
load g2 16M &
load=$!
last=$(((32 << 20) - 4096))
put() { qemu-io -f raw -t none -c "write -P 0x5a $2 4k" "$(uri "$1")" >"$RUN/put" 2>&1; }

# scene GUEST DEATHS
scene() {
    local was
    wait_for 30 spared disk0 || fail "disk0 has no spare"
    put "$1" $((last - 4096 * 8)) || fail "control: another block of $1 cannot be written: $(cat "$RUN/put")"
    was=$(incarnation disk0)
    if put "$1" $last; then fail "$1: the request that kills succeeded: $(cat "$RUN/put")"; fi
    grep -q 'Input/output error' "$RUN/put" || fail "$1: the guest was told: $(cat "$RUN/put")"
    wait_for 30 reborn disk0 "$was" || fail "disk0 does not come back"
    wait_for 10 happened poisoned ".name == \"$1\"" || fail "no event tells of the poison: $(cat "$RUN/events")"
    [ "$(told died '.name == "disk0"')" = "$2" ] || fail "it was $(told died '.name == "disk0"') deaths in all, not $2"
    kill -0 $load || fail "another guest saw an error"
    put "$1" $((last - 4096 * 8)) || fail "$1 cannot write any more: $(cat "$RUN/put")"
}
scene g1 3
told_so=$(last_told poisoned)
echo "$told_so" | has "$last" || fail "the event does not name the block at $last: $told_so"
cmp -s -n 4096 -i $last:0 "$RUN/a.img" /dev/zero || fail "the block that was refused was written"
scene g3 4 # one more, which is its limit
touch "$RUN/enough"
wait $load || fail "another guest saw an error"
[ "$(info g1 .pid)" = "$door" ] || fail "a door was started anew"
say "a request that kills fails after 3 deaths (after 1 where that is configured), by name: $(jq -c 'del(.time, .name, .domid, .incarnation)' <<<"$told_so"); others saw nothing"
