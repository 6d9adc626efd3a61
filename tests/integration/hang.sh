#!/bin/bash
# SPDX-License-Identifier: MIT
# A driver domain that stands still while there is work is taken for hung and replaced,
# by its heartbeat; one whose device is slow is not.  Controls: no heartbeat, no work.
. "$(dirname "$0")/lib.bash"
need_root
. "$SOURCE/tests/integration/slow.bash"
need_fuse
put() { qemu-io -f raw -t none -c "write -P $1 0 4k" "$(uri "${2:-g1}")" >"$RUN/put" 2>&1; }
hangs() { told hang ".name == \"$1\""; }

stack_start
watch_events
driver disk0
image a.img 32M
guest g1 disk0 "$RUN/a.img"
net_driver net0
tap_guest red net0 $NET.1
tap_guest blue net0 $NET.2
wait_for 10 pings red $NET.2 || fail "red does not reach blue"

# ------------------------------------------------------------- 1. nothing to do
# Nobody misses what nobody asked: half a dozen heartbeats long.
quiet=$(info disk0 .pid)
kill -STOP "$quiet"
sleep 3
kill -CONT "$quiet"
[ "$(incarnation disk0)" = 1 ] && [ "$(hangs disk0)" = 0 ] || fail "control: a driver domain that had nothing to do was taken for hung"

# ---------------------------------------------------------- 2. stopped under load
load g1 32M &
load=$!
serve_iperf3 blue
aside red iperf3 -J -c $NET.2 -t 20 >"$RUN/iperf3.json" &
iperf=$!
changes=$(link_file red carrier_changes)
for name in disk0 net0; do
    for round in 1 2; do
        was=$(incarnation $name)
        kill -STOP "$(info $name .pid)"
        wait_for 20 reborn $name "$was" || fail "$name stands still and is not replaced"
        wait_for 20 eval "[ \$(hangs $name) -ge $round ]" || fail "$name was replaced for another reason: $(last_told died)"
    done
done
kill -0 $load || fail "g1 saw an error"
touch "$RUN/enough"
wait $load || fail "g1 saw an error"
wait $iperf || fail "TCP did not survive: $(jq -r .error "$RUN/iperf3.json")"
[ "$(link_file red carrier_changes)" = "$changes" ] || fail "red lost its carrier"
[ "$(told died '.cause == "hang"')" = 4 ] || fail "the deaths are told as: $(cat "$RUN/events")"
say "stopped under load: two hangs of each driver domain, replaced by the heartbeat, no error"

# ------------------------------------------------------- 3. control: no heartbeat
driver disk1 1 "<b:recovery heartbeat='0'/>"
image b.img 1M
guest g2 disk1 "$RUN/b.img"
put 0x30 g2 || fail "g2 cannot write: $(cat "$RUN/put")"
pid=$(info disk1 .pid)
kill -STOP "$pid"
(put 0x41 g2 && touch "$RUN/done") &
writer=$!
sleep 3
[ ! -e "$RUN/done" ] && [ "$(incarnation disk1)" = 1 ] || fail "control: without a heartbeat a hang should last"
kill -CONT "$pid"
wait $writer || fail "control: after SIGCONT the write fails: $(cat "$RUN/put")"
[ "$(incarnation disk1)" = 1 ] && [ "$(hangs disk1)" = 0 ] || fail "control: disk1 was replaced"

# ------------------------------------------------------------ 4. a device that is late
slow_start late
driver disk2
guest g3 disk2 "$slow_dir/disk"
put 0x30 g3 || fail "g3 cannot write: $(cat "$RUN/put")"
tell_slow hold
(put 0x41 g3 && touch "$RUN/late.done") &
writer=$!
wait_for 10 came 'held 1' || fail "the write does not reach the device"
sleep 3
[ ! -e "$RUN/late.done" ] || fail "a write that is held is acknowledged"
tell_slow apply
wait $writer || fail "the late write fails: $(cat "$RUN/put")"
[ "$(incarnation disk2)" = 1 ] && [ "$(hangs disk2)" = 0 ] || fail "a slow device was taken for a hang"
bh stop g3 >/dev/null
bh stop disk2 >/dev/null
slow_stop
say "without a heartbeat it stays hung until SIGCONT; a device that is 3 s late is no hang"
