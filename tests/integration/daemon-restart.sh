#!/bin/bash
# SPDX-License-Identifier: MIT
# bulkheadd is killed with everything running, and started again: it takes over,
# and nobody but its own clients notices.
. "$(dirname "$0")/lib.bash"
. "$(dirname "$0")/restart.bash"
need_root
wire 1500

# ------------------------------------------------------------- 0. it had only just begun
# A core may be there by then, or not, or one that was told nothing yet.
cores() { pgrep -f "^bulkhead-core $(dirname "$(realpath "$SBIN/bulkheadd")")" -P "$1"; }
for ((n = 0; n < ${RESTART_ROUNDS:-8}; n++)); do
    "$SBIN/bulkheadd" --run-dir "$DIR" --foreground >>"$RUN/bulkheadd.log" 2>&1 </dev/null &
    daemon=$!
    sleep 0.0$((RANDOM % 8))$((RANDOM % 10))
    [ -n "${first:=$(cores "$daemon" || true)}" ] || true
    daemon_kill
done
daemon_again
core=${first:-$(cores "$daemon")}
gone "$core" && fail "not the core that the first of them had started"
image z.img 4M
driver disk9
guest g9 disk9 "$RUN/z.img"
qemu-io -f raw -c 'write -P 9 0 64k' -c 'read -P 9 0 64k' "$(uri g9)" >/dev/null || fail "g9's disk"
bh stop g9
bh stop disk9
bh undefine g9
bh undefine disk9
say "$n daemons killed while they were starting: one core, and it can be used"

driver disk0 2
net_driver net0 "$(uplink)"
image a.img 32M
image b.img 32M
guest g1 disk0 "$RUN/a.img"
guest g2 disk0 "$RUN/b.img"
tap_guest red net0 $NET.1
tap_guest blue net0 $NET.2
wait_for 10 pings red $OUTSIDE || fail "nobody is there to begin with"
all=(disk0 net0 g1 g2 red blue)

load g1 32M &
load1=$!
load g2 32M --bsrange=4k-128k --fsync=32 &
load2=$!
stream red outside $OUTSIDE 6000 &
stream=$!
loads_go_on() {
    kill -0 $load1 2>/dev/null && kill -0 $load2 2>/dev/null || fail "$1: a guest's disk gave an error"
    kill -0 $stream 2>/dev/null || fail "$1: the TCP stream ended"
}

# ------------------------------------------------------------ 1. nothing else happens
before=$(pids "${all[@]}")
for round in 1 2 3 4 5; do
    sleep 0.$((RANDOM % 8 + 1))
    daemon_kill
    bh list >/dev/null 2>&1 && fail "control: someone answers for a daemon that is dead"
    sleep 0.$((RANDOM % 8 + 1))
    daemon_again
    for name in "${all[@]}"; do
        is "$name" running || fail "round $round: $name is $(info "$name" .state)"
    done
    [ "$(pids "${all[@]}")" = "$before" ] || fail "round $round: not the same processes: $(pids "${all[@]}")"
    loads_go_on "round $round"
done
say "five daemons killed: their domains run on under the next one, all the same processes"

# ------------------------------------------------- 2. the next one can do what the first could
for name in disk0 net0; do
    was=$(info $name .incarnation)
    bh kill $name >/dev/null
    wait_for 30 reborn $name "$was" || fail "$name is not reborn under the daemon that took over"
done
loads_go_on "a rebirth"
(timeout 20 "$BIN/bulkhead" --run-dir "$DIR" events >"$RUN/events" 2>&1 || true) &
events=$!
sleep 0.3
bh stop blue
bh start blue
wait_for 5 grep -q blue "$RUN/events" || fail "events tells nothing"
kill $events 2>/dev/null || true
bh metrics >"$RUN/metrics" && grep -q '^bulkhead' "$RUN/metrics" || fail "metrics are not there"
bh log g1 >/dev/null && bh log @core >/dev/null && bh log @store >/dev/null || fail "logs are not there"
[ "$(bh --json list | jq '.domains | length' 2>/dev/null || bh --json list | jq length)" = ${#all[@]} ] || fail "list: $(bh list)"
say "under the daemon that took over: deaths are rebirths, a guest stops and starts, events, metrics, logs"

# ------------------------------------------------------- 3. deaths that nobody is told of
for name in disk0 net0; do
    was=$(info $name .incarnation) pid=$(info $name .pid)
    daemon_kill
    kill -9 "$pid"
    sleep 0.$((RANDOM % 8 + 1))
    daemon_again
    wait_for 30 reborn $name "$was" || fail "$name, which died while there was no daemon, does not come back"
    loads_go_on "the death of $name while there was no daemon"
done
was=$(info blue .incarnation) pid=$(info blue .pid)
daemon_kill
kill -9 "$pid"
daemon_again
wait_for 30 reborn blue "$was" || fail "a guest that died while there was no daemon does not come back"
say "driver domains and a guest that died while there was no daemon are reborn by the next one"

for ((n = 0; n < ${RESTART_ROUNDS:-8}; n++)); do
    name=$([ $((n % 3)) = 2 ] && echo net0 || echo disk0)
    was=$(info $name .incarnation)
    kill -9 "$(info $name .pid)"
    sleep 0.0$((RANDOM % 10))$((RANDOM % 10))
    daemon_kill
    daemon_again
    wait_for 30 reborn $name "$was" || fail "round $n: the daemon was killed in the middle of a rebirth of $name: $(bh list)"
done
wait_for 30 spared disk0 && wait_for 30 spared net0 || fail "there is no spare any more: $(bh list)"
loads_go_on "rebirths cut short"
say "$n rebirths cut short by a kill of the daemon: finished by the next one, spares ready again"

# --------------------------------------------------------- 4. in the middle of everything
image c.img 8M
guest g3 disk0 "$RUN/c.img"
bh stop g3
for ((n = 0; n < ${RESTART_ROUNDS:-8}; n++)); do
    bh start g3 >/dev/null 2>&1 &
    asked=$!
    sleep 0.0$((RANDOM % 9))$((RANDOM % 10))
    daemon_kill
    wait $asked 2>/dev/null || true
    daemon_again
    # Killed before it had begun, or after: never in between.
    if ! is g3 defined; then
        wait_for 20 is g3 running || fail "g3 was being started when the daemon was killed; now it is $(info g3 .state)"
    else
        bh start g3
    fi
    qemu-io -f raw -c "write -P $((n + 1)) 0 64k" -c "read -P $((n + 1)) 0 64k" "$(uri g3)" >/dev/null || fail "g3's disk after round $n"
    bh stop g3 >/dev/null 2>&1 &
    asked=$!
    sleep 0.0$((RANDOM % 9))$((RANDOM % 10))
    daemon_kill
    wait $asked 2>/dev/null || true
    daemon_again
    wait_for 1 is g3 defined || bh stop g3 || fail "g3 was being stopped when the daemon was killed; now it is $(info g3 .state)"
done
loads_go_on "starts and stops cut short"
say "$n starts and $n stops of a guest cut short by a kill: begun anew or not begun, its disk right each time"

touch "$RUN/enough"
wait $load1 || fail "g1 saw an error, or lost a write"
wait $load2 || fail "g2 saw an error, or lost a write"
wait $stream || fail "the TCP stream broke"
say "meanwhile $(cat "$RUN/g1.passes") and $(cat "$RUN/g2.passes") passes of verified fio, $(cat "$RUN/red.streams") of checked TCP: no error"

# ------------------------------------------------------------------- 5. an orderly end
last=$daemon
kill "$daemon"
for _ in $(seq 200); do kill -0 "$last" 2>/dev/null || break; sleep 0.1; done
wait "$last" || fail "bulkheadd ended with status $?"
daemon=
wait_for 5 gone "$core" || fail "the core is still there"
for path in bulkheadd.sock store.sock core.sock guests state; do
    [ ! -e "$DIR/$path" ] || fail "$path was left behind"
done
ip link show "$(near)" >/dev/null || fail "the uplink did not come back to the machine"
for name in "${all[@]}"; do
    [ -e "$DIR/domains/$name.xml" ] || fail "the definition of $name is gone"
done
say "an orderly end under the last daemon: no process, no socket, the uplink given back"

# --------------------------------------------------------------- 6. what is irreplaceable
restart_start
bh start disk0
bh start g1
all=$(pgrep -P "$core")
[ "$(wc -w <<<"$all")" -ge 3 ] || fail "control: the core's children are not seen: $all"
kill -9 "$core"
status=0
wait "$daemon" || status=$?
daemon=
[ $status = 1 ] || fail "bulkheadd ended with status $status when the core died"
grep -q "the core is gone, and every domain with it: it alone cannot be replaced" "$RUN/bulkheadd.log" || fail "it does not say why"
for pid in $all; do
    wait_for 5 gone "$pid" || fail "process $pid outlived the core"
done
restart_start
bh start disk0
bh start g1
verified_fio g1 4M
say "the core killed: everything ends, bulkheadd says so; started again, all can be started again"
