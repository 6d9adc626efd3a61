#!/bin/bash
# SPDX-License-Identifier: MIT
# NICs that nobody uses: no process spins, and all are small.  Figures are printed.
. "$(dirname "$0")/lib.bash"
SECONDS_IDLE=${SECONDS_IDLE:-5}
. "$(dirname "$0")/idle.bash"
need_root
wire 1500
stack_start
net_driver net0 "$(uplink)"
tap_guest red net0 $NET.1
tap_guest blue net0 $NET.2
# They have worked; and IPv6 has said what it says to a new interface.
wait_for 10 pings red $NET.2 && wait_for 10 pings blue $OUTSIDE || fail "nobody is there to begin with"
sleep 3
# daemon, core, store, keeper, driver domain, two doors
measure_idle 7
