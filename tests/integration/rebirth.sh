#!/bin/bash
# SPDX-License-Identifier: MIT
# A killed driver domain comes back, and the guests' disks with it: the same
# doors, the same data.  What was in flight may have failed, and said so.
. "$(dirname "$0")/lib.bash"
stack_start
driver disk0
image a.img 32M
image b.img 32M
guest g1 disk0 "$RUN/a.img"
guest g2 disk0 "$RUN/b.img"
head -c 32M /dev/urandom >"$RUN/pattern"
nbdcopy "$RUN/pattern" "$(uri g1)"

works() { nbdcopy "$(uri "$1")" "$RUN/back"; }
reborn() { [ "$(info disk0 .incarnation)" -gt "$1" ]; }

pid1=$(info g1 .pid) pid2=$(info g2 .pid)
for round in 1 2 3; do
    bh kill disk0 >/dev/null
    # The control: the old driver domain is gone, so this is another one.
    wait_for 10 reborn "$round" || fail "incarnation $((round + 1)) of disk0 does not come"
    wait_for 20 works g1 || fail "round $round: g1's disk does not come back"
    cmp "$RUN/pattern" "$RUN/back" || fail "round $round: g1's data is not what was written"
    wait_for 20 works g2 || fail "round $round: g2's disk does not come back"
done
[ "$(info g1 .pid)" = "$pid1" ] && [ "$(info g2 .pid)" = "$pid2" ] || fail "a door was started anew: its guest saw more than a pause"
nbdcopy "$RUN/pattern" "$(uri g2)"
cmp -n $((32 << 20)) "$RUN/pattern" "$RUN/b.img" || fail "what g2 wrote after the deaths is not in its image"
say "three deaths of the driver domain: two guests' disks came back each time, data intact, same doors"
