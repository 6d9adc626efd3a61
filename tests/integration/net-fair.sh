#!/bin/bash
# SPDX-License-Identifier: MIT
# A guest that floods the uplink with the smallest frames slows only itself.  The
# fair share of the guest beside it is what it has beside one that behaves.  The
# figures are printed; the bound is far off: processors are shared here.
. "$(dirname "$0")/lib.bash"
need_root
seconds=${FAIR_SECONDS:-3}
wire 1500
stack_start
net_driver net0 "$(uplink)"
tap_guest good net0 $NET.1
tap_guest peer net0 $NET.2
serve_iperf3 outside
aside outside iperf3 -s -p 5202 >"$RUN/iperf3.second" 2>&1 &
wait_for 5 listening outside 5202 || fail "iperf3 does not listen"

# p99 of the round trip of a ping each 10 ms while iperf3 runs.
measure() {
    aside good ping -i 0.01 -c $((seconds * 80)) $OUTSIDE >"$RUN/ping" &
    local pings=$!
    rate=$(iperf3_rate good $OUTSIDE -t "$seconds")
    wait $pings || true
    p99=$(round_trip_us 99 <"$RUN/ping")
}

measure
alone=$rate alone_p99=$p99
aside peer iperf3 -c $OUTSIDE -p 5202 -t $((seconds + 2)) >"$RUN/iperf3.peer" 2>&1 &
beside=$!
sleep 0.5
measure
fair=$rate fair_p99=$p99
wait $beside || fail "the iperf3 beside it failed: $(cat "$RUN/iperf3.peer")"
sent_by_peer() { bh metrics | awk '/^bulkhead_vif_tx_packets_total{guest="peer"/ {print $2}'; }
carried=$(sent_by_peer)
aside peer "$(helper frames)" eth0 "$(mac_of peer)" "$(mac_of outside)" $((seconds + 2))s >"$RUN/flood" &
flood=$!
sleep 0.5
measure
wait $flood || fail "the flooder failed"
frames=$(($(cat "$RUN/flood") / (seconds + 2)))
sleep 1.1 # figures are told once a second
carried=$((($(sent_by_peer) - carried) / (seconds + 2)))
printf '  %-28s %10s %16s\n' '' 'Mbit/s' 'ping p99 us' alone "$alone" "$alone_p99" \
    'beside another iperf3' "$fair" "$fair_p99" 'beside a flood of 64 B' "$rate" "$p99"
say "of $frames frames a second the driver domain took $carried; the guest beside the flood keeps $((rate * 100 / fair)) % of its fair share"
[ $frames -gt 10000 ] && [ $carried -gt 1000 ] || fail "control: that was no flood"
[ $((rate * 4)) -gt "$fair" ] || fail "the flooder took nearly everything"
[ "$(info net0 .incarnation)" = 1 ] || fail "the driver domain died on the way"
