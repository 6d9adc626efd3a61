#!/bin/bash
# SPDX-License-Identifier: MIT
# An uplink that goes down, comes up, is taken away and comes back: told each time,
# and there is traffic again.
. "$(dirname "$0")/lib.bash"
need_root
wire 1500
stack_start
net_driver net0 "$(uplink)"
tap_guest red net0 $NET.1
tap_guest blue net0 $NET.2
wait_for 10 pings red $OUTSIDE && wait_for 10 pings red $NET.2 || fail "red does not reach the outside"
bh events >"$RUN/events" 2>/dev/null &
sleep 0.5 # until it is heard
told() { jq -e -s --arg event "$1" 'any(.[]; .event == $event and .name == "net0")' "$RUN/events"; }
here() { ip link show "$(near)"; }

! here >/dev/null 2>&1 || fail "the uplink is still in the machine's namespace while a driver domain has it"
if told uplink_down >/dev/null; then fail "control: an uplink that is up is told as down"; fi

on outside ip link set eth0 down
wait_for 5 told uplink_down || fail "an uplink that went down is not told: $(cat "$RUN/events")"
never_pings red $OUTSIDE || fail "control: the wire is down and red reaches the outside"
pings red $NET.2 || fail "the guests do not reach each other while the uplink is down"
on outside ip link set eth0 up
wait_for 5 told uplink_up || fail "an uplink that came up is not told: $(cat "$RUN/events")"
wait_for 10 pings red $OUTSIDE || fail "the uplink is up again and red does not reach the outside"
say "down and up: told, and there is traffic again"

on outside ip link del eth0
wait_for 5 told uplink_gone || fail "an uplink that was taken away is not told: $(cat "$RUN/events")"
pings red $NET.2 || fail "the guests do not reach each other without an uplink"
lay_wire 1500
wait_for 5 told uplink_back || fail "an uplink that came back is not told: $(cat "$RUN/events")"
wait_for 20 pings red $OUTSIDE || fail "the uplink is back and red does not reach the outside"
pings outside $NET.2 || fail "the uplink is back and the outside does not reach blue"
transfer red outside $OUTSIDE 16 >/dev/null || fail "TCP over the uplink that came back: $(cat "$RUN/tcp_check")"
say "taken away and made again: told, and there is traffic again"

bh stop red >/dev/null
bh stop blue >/dev/null
bh stop net0 >/dev/null
wait_for 5 here || fail "the uplink does not come back to the machine when its driver domain is stopped"
say "stopped: the machine has its interface again"
