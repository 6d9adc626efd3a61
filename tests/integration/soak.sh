#!/bin/bash
# SPDX-License-Identifier: MIT
# fio with verification over NBD doors and iperf3 through TAP doors keep running, without one
# error, while both driver domains are killed every 300 ms for SOAK_SECONDS (20; 300 is
# the whole proof).
. "$(dirname "$0")/lib.bash"
need_root
seconds=${SOAK_SECONDS:-20}
stack_start
driver disk0
net_driver net0
image a.img 64M
image b.img 64M
guest g1 disk0 "$RUN/a.img"
guest g2 disk0 "$RUN/b.img" nbd '' "grants='copy'"
tap_guest red net0 $NET.1
tap_guest blue net0 $NET.2
wait_for 10 pings red $NET.2 || fail "red does not reach blue"
doors() { for name in g1 g2 red blue; do info $name .pid; done; }
before=$(doors) changes=$(link_file red carrier_changes)

load g1 64M &
workers=($!)
load g2 64M --bsrange=4k-64k --fsync=64 &
workers+=($!)
serve_iperf3 blue
aside red iperf3 -J -c $NET.2 -t "$seconds" >"$RUN/iperf3.json" &
iperf=$!

disk_kills=0 net_kills=0
kill_one() { # NAME: whatever process it has now, also one that is just starting
    local pid
    pid=$(info "$1" .pid)
    [ "${pid:-0}" -gt 1 ] && kill -9 "$pid" 2>/dev/null
}
end=$((SECONDS + seconds))
while [ $SECONDS -lt $end ]; do
    sleep 0.3
    if kill_one disk0; then disk_kills=$((disk_kills + 1)); fi
    if kill_one net0; then net_kills=$((net_kills + 1)); fi
    for job in "${workers[@]}"; do kill -0 "$job" || fail "a guest's fio ended after $disk_kills deaths"; done
done
wait $iperf || fail "TCP did not survive: $(jq -r .error "$RUN/iperf3.json")"
touch "$RUN/enough"
for job in "${workers[@]}"; do wait "$job" || fail "a guest saw an error"; done
[ "$(doors)" = "$before" ] || fail "a door was started anew"
[ "$(link_file red carrier_changes)" = "$changes" ] || fail "red lost its carrier"
# Control: they were killed, and often.
[ $disk_kills -ge $((seconds / 10)) ] && [ $net_kills -ge $((seconds / 10)) ] || fail "control: only $disk_kills and $net_kills kills in $seconds s"
[ "$(incarnation disk0)" -gt $((disk_kills / 2)) ] && [ "$(incarnation net0)" -gt $((net_kills / 2)) ] || fail "control: incarnations $(incarnation disk0) and $(incarnation net0)"
say "$seconds s, $disk_kills and $net_kills deaths: $(cat "$RUN/g1.passes" 2>/dev/null || echo 0) and $(cat "$RUN/g2.passes" 2>/dev/null || echo 0) passes of verified fio, TCP $(jq '.end.sum_received.bits_per_second / 1e6 | floor' "$RUN/iperf3.json") Mbit/s; no error"
