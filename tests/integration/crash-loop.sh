#!/bin/bash
# SPDX-License-Identifier: MIT
# A driver domain that dies whenever it is started is tried again and again, ever more
# slowly but never given up; its guests' I/O waits and goes on when the program is
# repaired, without an error and without anyone's help.
. "$(dirname "$0")/lib.bash"
need_root
programs "$RUN/programs"
stack_start
watch_events
driver disk0
net_driver net0
image a.img 32M
guest g1 disk0 "$RUN/a.img"
tap_guest red net0 $NET.1
tap_guest blue net0 $NET.2
wait_for 10 pings red $NET.2 || fail "red does not reach blue"
head -c 8M /dev/urandom >"$RUN/pattern"
nbdcopy "$RUN/pattern" "$(uri g1)"
wait_for 30 spared disk0 && wait_for 30 spared net0 || fail "no spare"
door=$(info g1 .pid) changes=$(link_file red carrier_changes)

for class in blk net; do install_program "$(helper stillborn)" bulkhead-$class; done
put_down disk0
put_down net0
nbdcopy "$(uri g1)" "$RUN/back" &
reader=$!
sleep "${CRASH_LOOP_SECONDS:-6}"
starts=$(told died '.name == "disk0"')
[ "$(told starting '.name == "disk0"')" -gt "$starts" ] && starts=$(told starting '.name == "disk0"')
# Every 50 ms they would be 120; doubling it is 8 or 9.
[ "$starts" -ge 4 ] && [ "$starts" -le 40 ] || fail "it was started $starts times in 6 s"
kill -0 $reader || fail "the guest did not wait"
! running disk0 || fail "control: a stillborn driver domain runs"
! pings red $NET.2 1 || fail "control: packets pass without a driver domain"

for class in blk net; do install_program "$BUILD/bulkhead-$class" bulkhead-$class; done
wait $reader || fail "the guest got an error"
cmp -n $((8 << 20)) "$RUN/pattern" "$RUN/back" || fail "the guest's data is not what was written"
wait_for 20 running net0 && wait_for 20 pings red $NET.2 || fail "red does not reach blue again"
verified_fio g1 16M
[ "$(info g1 .pid)" = "$door" ] && [ "$(link_file red carrier_changes)" = "$changes" ] || fail "a door or a carrier was lost"
wait_for 30 spared disk0 || fail "disk0 gets no spare after that"
say "$starts starts in $((${CRASH_LOOP_SECONDS:-6})) s of a program that dies at once; repaired, the guests' I/O goes on by itself"
