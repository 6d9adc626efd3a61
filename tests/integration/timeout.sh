#!/bin/bash
# SPDX-License-Identifier: MIT
# A disk with a time limit fails its I/O when its driver domain is away for longer, and
# works again when that is back; one without waits (the control).
. "$(dirname "$0")/lib.bash"
need_root
programs "$RUN/programs"
stack_start
watch_events
driver disk0
image a.img 8M
image b.img 8M
guest g1 disk0 "$RUN/a.img" nbd '' "timeout='1.5'"
guest g2 disk0 "$RUN/b.img"
put() { qemu-io -f raw -t none -c "write -P $2 0 4k" "$(uri "$1")" >"$RUN/$1.put" 2>&1; }
holds() { qemu-io -r -f raw -c "read -P $2 0 4k" "$(uri "$1")" >"$RUN/$1.get" 2>&1 && ! grep -q failed "$RUN/$1.get"; }
for name in g1 g2; do put $name 0x30 || fail "$name cannot write: $(cat "$RUN/$name.put")"; done
wait_for 30 spared disk0 || fail "disk0 has no spare"

# Shorter than the limit: nobody notices.
bh kill disk0 >/dev/null
put g1 0x31 || fail "control: an outage shorter than the limit fails I/O: $(cat "$RUN/g1.put")"
wait_for 30 spared disk0 || fail "disk0 has no spare"

for round in 1 2; do
    install_program "$(helper stillborn)" bulkhead-blk
    put_down disk0
    (put g2 0x4$round && touch "$RUN/g2.done") &
    waiting=$!
    if put g1 0x4$round; then fail "g1's write succeeded without a driver domain"; fi
    grep -q 'Input/output error\|Connection timed out' "$RUN/g1.put" || fail "g1 was told: $(cat "$RUN/g1.put")"
    [ ! -e "$RUN/g2.done" ] && kill -0 $waiting || fail "control: g2 has no time limit and did not wait"
    wait_for 5 happened timed_out '.name == "g1"' || fail "no event tells of it: $(cat "$RUN/events")"
    [ "$(told timed_out '.name == "g2"')" = 0 ] || fail "control: g2 timed out"
    install_program "$BUILD/bulkhead-blk" bulkhead-blk
    wait $waiting || fail "g2's write fails when the driver domain is back: $(cat "$RUN/g2.put")"
    wait_for 20 running disk0 || fail "disk0 is $(info disk0 .state)"
    put g1 0x5$round || fail "g1's disk does not work again: $(cat "$RUN/g1.put")"
    holds g1 0x5$round || fail "g1's block is not what was written: $(cat "$RUN/g1.get")"
    holds g2 0x4$round || fail "g2's block is not what was written: $(cat "$RUN/g2.get")"
    rm "$RUN/g2.done"
done
verified_fio g1 4M
say "twice away for longer than 1.5 s: the disk with that limit failed its I/O and worked again; the other one waited"
