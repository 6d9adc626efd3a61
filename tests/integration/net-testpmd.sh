#!/bin/bash
# SPDX-License-Identifier: MIT
# Stock dpdk-testpmd at the far end of the uplink: it answers the guests' pings, and
# what it sends, they get.
. "$(dirname "$0")/lib.bash"
need_root
command -v dpdk-testpmd >/dev/null || fail "dpdk-testpmd is not installed: run deploy/packages"
wire 1500
on outside ip addr flush dev eth0 # nobody there but testpmd
stack_start
net_driver net0 "$(uplink)"
cpus=0-$(($(nproc) - 1))
tap_guest red net0 $NET.1
tap_guest blue net0 $NET.2

# testpmd MODE [options]: runs until end_testpmd, which makes it tell its counts.
testpmd() {
    local mode=$1
    shift
    mkfifo "$RUN/keys"
    aside outside stdbuf -oL dpdk-testpmd --lcores "0@$cpus,1@$cpus" -m 64 --no-huge --no-pci --no-shconf --no-telemetry \
        --vdev=net_af_packet0,iface=eth0 -- --forward-mode="$mode" --total-num-mbufs=4096 "$@" \
        >"$RUN/testpmd.log" 2>&1 <"$RUN/keys" &
    tester=$!
    exec 7>"$RUN/keys"
    wait_for 20 grep -q 'Press enter to exit' "$RUN/testpmd.log" || fail "testpmd does not start: $(tail -n 5 "$RUN/testpmd.log")"
}
# Then: told RX-packets or TX-packets.
end_testpmd() {
    exec 7>&-
    wait $tester || fail "testpmd: $(tail -n 5 "$RUN/testpmd.log")"
    rm "$RUN/keys"
}
told() { sed -nE "s/.* ($1: )([0-9]+) .*/\2/p" "$RUN/testpmd.log" | tail -n 1; }
received() { link_file "$1" "statistics/rx_$2"; }

never_pings red $NET.99 || fail "control: someone answers before testpmd is there"
testpmd icmpecho
wait_for 10 pings red $NET.99 || fail "testpmd does not answer red"
on red ping -q -i 0.002 -c 1000 $NET.99 >"$RUN/ping" || fail "ping of testpmd: $(cat "$RUN/ping")"
pings blue $NET.98 || fail "testpmd does not answer blue"
end_testpmd
answers=$(sed -nE 's/.* ([0-9]+) received.*/\1/p' "$RUN/ping")
say "testpmd answered $answers of 1000 pings of red ($(told RX-packets) packets came to it, $(told TX-packets) left it)"
[ "$answers" -ge 990 ] || fail "too many pings were lost"
[ "$(told TX-packets)" -ge "$answers" ] || fail "control: testpmd says that it sent less than red got"

# Each frame comes to the far end or is counted where it was dropped: in a queue of
# the kernel, before our door or behind our uplink, or by name in the driver domain.
# Queues run over when nobody has a processor, and so may testpmd's own.
drops() {
    local named
    named=$(bh metrics | awk '/^bulkhead_(vif_drops_total{guest="blue"|uplink_drops_total.*cause="tx_dropped")/ {n += $2} END {print n + 0}')
    echo $(($(link_file blue statistics/tx_dropped) + named + $(received outside dropped)))
}
dropped=$(drops)
at_far_end=$(received outside packets)
testpmd rxonly
on blue "$(helper frames)" eth0 "$(mac_of blue)" 02:00:00:00:00:99 8000 64 >/dev/null
accounted() { [ $(($(received outside packets) - at_far_end + $(drops) - dropped)) -ge 8000 ]; }
wait_for 10 accounted || true
sleep 0.2
end_testpmd
at_far_end=$(($(received outside packets) - at_far_end))
dropped=$(($(drops) - dropped))
say "blue sent 8000 frames: $dropped were dropped and counted, $at_far_end came to the far end, testpmd received $(told RX-packets)"
[ $((at_far_end + dropped)) -ge 8000 ] || fail "$((8000 - at_far_end - dropped)) frames were lost on the way"
[ "$(told RX-packets)" -ge 800 ] || fail "testpmd received next to nothing"

packets=$(received red packets) bytes=$(received red bytes) others=$(received blue packets)
testpmd txonly --txpkts=128 --eth-peer=0,"$(mac_of red)"
sleep 1
end_testpmd
sleep 0.5
packets=$(($(received red packets) - packets)) bytes=$(($(received red bytes) - bytes)) others=$(($(received blue packets) - others))
say "testpmd flooded with $(told TX-packets) packets of 128 bytes for red: $packets came, blue got $others"
[ $packets -gt 1000 ] && [ $packets -le "$(told TX-packets)" ] || fail "of what testpmd sent, red has $packets"
[ $((bytes / packets)) -ge 124 ] && [ $((bytes / packets)) -le 132 ] || fail "the packets have $((bytes / packets)) bytes"
[ $others -lt 100 ] || fail "what was for red came to blue"
[ "$(info net0 .incarnation)" = 1 ] || fail "the driver domain died on the way"
