#!/bin/bash
# SPDX-License-Identifier: MIT
# A net driver domain is killed under load: TCP goes on, the guests keep their
# interfaces and the machine its uplink.
. "$(dirname "$0")/lib.bash"
need_root
wire 1500
stack_start
net_driver net0 "$(uplink)"
tap_guest red net0 $NET.1
tap_guest blue net0 $NET.2
serve_iperf3 outside
serve_iperf3 blue
wait_for 10 pings red $OUTSIDE && wait_for 10 pings red $NET.2 || fail "nobody is there to begin with"

link() { on red ip -o link show eth0 | cut -d' ' -f1-3; }
before=$(link) changes=$(link_file red carrier_changes) door=$(info red .pid)
peer=$(link_file outside iflink)

aside red iperf3 -J -i 0.5 -c $OUTSIDE -t 14 >"$RUN/out.json" &
out=$!
aside red iperf3 -J -i 0.5 -c $NET.2 -t 14 >"$RUN/between.json" &
between=$!
for round in 1 2 3; do
    sleep 1
    bh kill net0 >/dev/null
    # Control: the one that carried the packets is gone.
    wait_for 10 reborn net0 $round || fail "incarnation $((round + 1)) of net0 does not come"
done
wait $out || fail "iperf3 to the outside: $(jq -r .error "$RUN/out.json")"
wait $between || fail "iperf3 to the guest: $(jq -r .error "$RUN/between.json")"
for run in out between; do
    last=$(jq '[.intervals[-8:][].sum.bytes] | add' "$RUN/$run.json")
    [ "$last" -gt 1000000 ] || fail "$run: after three deaths only $last bytes in the last 4 s"
    say "$run: $(jq '.end.sum_received.bits_per_second / 1e6 | floor' "$RUN/$run.json") Mbit/s over three deaths; half seconds with nothing: $(jq '[.intervals[] | select(.sum.bytes == 0)] | length' "$RUN/$run.json") of 28"
done
[ "$(link)" = "$before" ] && [ "$(link_file red carrier)" = 1 ] && [ "$(link_file red carrier_changes)" = "$changes" ] || fail "the guest's interface was touched: $(link)"
[ "$(info red .pid)" = "$door" ] || fail "a door was started anew"
[ "$(link_file outside carrier)" = 1 ] && [ "$(link_file outside iflink)" = "$peer" ] || fail "the uplink is another one"
pings outside $NET.2 || fail "the outside does not reach blue any more"
transfer red outside $OUTSIDE 16 >/dev/null || fail "TCP after the deaths: $(cat "$RUN/tcp_check")"
say "three deaths: connections lived, same interface, carrier never lost, same uplink"

# The guest's own side: without its interface a door has nothing to do.
on blue ip link del eth0
wait_for 5 grep -q "the interface is gone from the guest's network namespace" "$DIR/logs/blue.log" || fail "a deleted interface is not told"
wait_for 10 on blue ip link show eth0 || fail "the guest's interface does not come back"
pings red $OUTSIDE || fail "control: the other guest was disturbed"
say "a guest that deletes its interface is told so and gets a new one; the other one goes on"
