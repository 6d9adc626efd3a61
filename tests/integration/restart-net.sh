#!/bin/bash
# SPDX-License-Identifier: MIT
# TCP connections whose every byte is checked live through NET_KILLS (20) SIGKILLs of
# their net driver domain; 300 is the whole proof: no reset, nothing wrong, and the
# guests' interfaces never lose their carrier.
. "$(dirname "$0")/lib.bash"
need_root
kills=${NET_KILLS:-20}
wire 1500
stack_start
net_driver net0 "$(uplink)"
tap_guest red net0 $NET.1
tap_guest blue net0 $NET.2
wait_for 10 pings red $OUTSIDE && wait_for 10 pings red $NET.2 || fail "nobody is there to begin with"

# endless NAME FROM TO ADDRESS PORT: one connection, until end_all.
senders=() receivers=() names=()
endless() {
    aside "$3" "$(helper tcp_check)" serve "$4" "$5" 0 "$5" >"$RUN/$1.bytes" 2>"$RUN/$1.receiver" &
    receivers+=($!)
    wait_for 5 listening "$3" "$5" || fail "the receiver does not listen"
    aside "$2" "$(helper tcp_check)" send "$4" "$5" 0 "$5" 2>"$RUN/$1.sender" &
    senders+=($!)
    names+=("$1")
}
said() { cat "$RUN"/*.sender "$RUN"/*.receiver; }
all_live() {
    local pid
    for pid in "${senders[@]}" "${receivers[@]}"; do kill -0 "$pid" 2>/dev/null || fail "after $1 deaths a connection ended: $(said)"; done
}
carriers() { for name in red blue; do link_file $name carrier_changes; on $name ip -o link show eth0 | cut -d' ' -f1-3; done; }

on red ip monitor link >"$RUN/monitor" 2>&1 &
before=$(carriers) doors="$(info red .pid) $(info blue .pid)"
endless between red blue $NET.2 6001
endless out red outside $OUTSIDE 6002
endless in outside blue $NET.2 6003

for ((n = 1; n <= kills; n++)); do
    wait_for 30 spared net0 || fail "net0 has no spare after $((n - 1)) deaths"
    was=$(incarnation net0)
    sleep 0.$((RANDOM % 4))
    kill -9 "$(info net0 .pid)"
    wait_for 30 reborn net0 "$was" || fail "incarnation $((was + 1)) of net0 does not come"
    all_live "$n"
done
sleep 2
for pid in "${senders[@]}"; do kill -TERM "$pid"; done # they end their streams in order
for i in "${!names[@]}"; do
    wait "${senders[$i]}" || fail "${names[$i]}: $(said)"
    wait "${receivers[$i]}" || fail "${names[$i]}: $(said)"
    [ "$(cat "$RUN/${names[$i]}.bytes")" -gt 1000000 ] || fail "${names[$i]}: only $(cat "$RUN/${names[$i]}.bytes") bytes came"
done
[ "$(carriers)" = "$before" ] || fail "an interface was touched: $before, then $(carriers)"
[ ! -s "$RUN/monitor" ] || fail "red's interface changed: $(cat "$RUN/monitor")"
[ "$(info red .pid) $(info blue .pid)" = "$doors" ] || fail "a door was started anew"
# Control: a carrier that is lost is seen.
on outside ip link set eth0 down
on outside ip link set eth0 up
on red ip link set eth0 down
on red ip link set eth0 up
wait_for 5 test -s "$RUN/monitor" || fail "control: the monitor does not see a link that changes"
say "$kills deaths: three TCP connections lived through all, $(cat "$RUN"/*.bytes | awk '{s += $1} END {printf "%d", s / 1048576}') MiB, every byte right, carrier never lost"
