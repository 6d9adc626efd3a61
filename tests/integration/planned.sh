#!/bin/bash
# SPDX-License-Identifier: MIT
# A restart that is asked for, and an upgrade: what is in flight is finished first, so
# nothing is sent again and nothing fails; afterwards the program runs that is on disk.
. "$(dirname "$0")/lib.bash"
need_root
restarts=${PLANNED_RESTARTS:-10}
"$BIN/bulkhead" bench restart --how planned --kills "$restarts" --json >"$RUN/planned.json" 2>"$RUN/planned.err" ||
    fail "$(cat "$RUN/planned.err" "$RUN/planned.json")"
jq -e '.replayed == 0 and .lost == 0 and .duplicated == 0 and .stale == 0 and .errors == 0' "$RUN/planned.json" >/dev/null || fail "$(cat "$RUN/planned.json")"
# Control: where nobody asks, something has to be sent again.
"$BIN/bulkhead" bench restart --how kill --kills 3 --json >"$RUN/killed.json" || fail "$(cat "$RUN/killed.json")"
[ "$(jq .replayed "$RUN/killed.json")" -gt 0 ] || fail "control: nothing was in flight: $(cat "$RUN/killed.json")"
say "$restarts planned restarts under load: $(jq -r '"\(.requests) requests, none sent again, longest wait \(.downtime_ms.max) ms"' "$RUN/planned.json"); $(jq .replayed "$RUN/killed.json") sent again in 3 kills"

# The same for doors, and a new program.
programs "$RUN/programs"
stack_start
driver disk0
net_driver net0
image a.img 32M
guest g1 disk0 "$RUN/a.img"
tap_guest red net0 $NET.1
tap_guest blue net0 $NET.2
wait_for 10 pings red $NET.2 || fail "red does not reach blue"
door=$(info g1 .pid) changes=$(link_file red carrier_changes)
load g1 32M &
load=$!
file_of() { stat -L -c %i "/proc/$(info "$1" .pid)/exe"; }
program_file() { stat -c %i "$RUN/programs/bulkhead-$1"; }
for name in disk0:blk net0:net; do
    program=${name#*:} name=${name%:*}
    [ "$(file_of $name)" = "$(program_file "$program")" ] || fail "$name does not run the program on disk to begin with"
    old=$(program_file "$program") was=$(incarnation $name)
    install_program "$BUILD/bulkhead-$program" "bulkhead-$program"
    [ "$(file_of $name)" = "$old" ] || fail "control: $name runs another program before its restart"
    bh restart $name >/dev/null || fail "restart of $name"
    wait_for 20 reborn $name "$was" || fail "$name is not restarted"
    [ "$(file_of $name)" = "$(program_file "$program")" ] || fail "after the restart $name still runs the old program"
    kill -0 $load || fail "g1 saw an error in the restart of $name"
done
pings red $NET.2 || fail "red does not reach blue after the upgrade"
touch "$RUN/enough"
wait $load || fail "g1 saw an error"
[ "$(info g1 .pid)" = "$door" ] || fail "a door was started anew"
[ "$(link_file red carrier_changes)" = "$changes" ] || fail "red lost its carrier"
say "both programs upgraded under load: the new ones run, no error, same doors, carrier never lost"
