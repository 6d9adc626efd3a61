#!/bin/bash
# SPDX-License-Identifier: MIT
# A killed driver domain comes back, and the guests' disks with it: the same
# doors, the same data, and not one request that failed or was lost.
. "$(dirname "$0")/lib.bash"
KILLS=${REBIRTH_KILLS:-20}
stack_start
driver disk0 2
image a.img 32M
image b.img 32M
guest g1 disk0 "$RUN/a.img"
guest_xml g2 disk0 "$RUN/b.img" nbd '' "grants='copy'" | sed "s|cache=|queues='2' cache=|" >"$RUN/g2.xml"
bh define "$RUN/g2.xml"
bh start g2
head -c 32M /dev/urandom >"$RUN/pattern"
nbdcopy "$RUN/pattern" "$(uri g1)"

pid1=$(info g1 .pid) pid2=$(info g2 .pid)

# ---------------------------------------------------- 1. guests that were at rest
for round in 1 2 3; do
    bh kill disk0 >/dev/null
    # No waiting: who asks while it is dead is answered when it is back.
    nbdcopy "$(uri g1)" "$RUN/back" || fail "round $round: g1 got an error"
    cmp "$RUN/pattern" "$RUN/back" || fail "round $round: g1's data is not what was written"
    # The control: the old driver domain is gone, so this is another one.
    wait_for 10 reborn disk0 "$round" || fail "round $round: disk0 was not killed"
done
nbdcopy "$RUN/pattern" "$(uri g2)"
cmp -n $((32 << 20)) "$RUN/pattern" "$RUN/b.img" || fail "what g2 wrote after the deaths is not in its image"
say "three deaths: two guests' disks came back each time, data intact"

# -------------------------------------------------------- 2. guests under full load
load g1 32M &
load1=$!
load g2 32M --bsrange=4k-128k --fsync=32 &
load2=$!
for ((n = 0; n < KILLS; n++)); do
    was=$(info disk0 .incarnation)
    sleep 0.$((RANDOM % 8 + 2))
    kill -9 "$(info disk0 .pid)"
    # Most are not left to the back-off, which would grow to 5 s.
    ((n % 5 == 0)) || bh start disk0 >/dev/null 2>&1 || true
    wait_for 30 reborn disk0 "$was" || fail "incarnation $((was + 1)) of disk0 does not come"
    kill -0 $load1 && kill -0 $load2 || fail "a guest gave up after $((n + 1)) deaths"
done
touch "$RUN/enough"
wait $load1 || fail "g1 saw an error, or lost a write"
wait $load2 || fail "g2 saw an error, or lost a write"
for door in g1 g2; do
    came=$(grep -c "connected to its driver domain again" "$DIR/logs/$door.log")
    [ "$came" -ge "$KILLS" ] || fail "$door's disk came back $came times only"
done
[ "$(info g1 .pid)" = "$pid1" ] && [ "$(info g2 .pid)" = "$pid2" ] || fail "a door was started anew: its guest saw more than a pause"
say "$KILLS deaths under load: $(cat "$RUN/g1.passes") and $(cat "$RUN/g2.passes") passes of verified fio, no error, same doors"
