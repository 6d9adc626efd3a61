#!/bin/bash
# SPDX-License-Identifier: MIT
# bulkheadd is killed with a vhost-user guest running, and in the middle of changes of
# its devices: the VMM goes on, devices are as one of the two definitions says.
. "$(dirname "$0")/lib.bash"
. "$(dirname "$0")/restart.bash"
. "$(dirname "$0")/vhost.bash"
ROUNDS=${RESTART_ROUNDS:-8}
restart_start
driver disk0 1 "$STEADY"
net_driver net0 "" "" 1 "$STEADY"
for name in a b c; do image $name.img 32M; done
A=vda=disk0,$RUN/a.img B=vdb=disk0,$RUN/b.img C=vdc=disk0,$RUN/c.img
E0=eth0=net0,52:54:00:00:00:01 E1=eth1=net0,52:54:00:00:00:02
vm_open g1 "$A" "$B" "$E0"
vm_open g1 "$B" "$E0" # the first place is free
wait_for 10 settled disk0 net0 || fail "no spares"
vmm_load g1 vdb &
load=$!
goes_on() { kill -0 $load 2>/dev/null || fail "$1: its VMM ended: $(tail -n 3 "$RUN/vmm-g1-vdb")"; }

# ---------------------------------------------------------------- 1. nothing else happens
before=$(pids g1 disk0 net0)
socket=$(stat -c %i "$(door g1 vdb)")
for ((n = 0; n < 3; n++)); do
    daemon_kill
    sleep 0.$((RANDOM % 5 + 1))
    daemon_again
    is g1 running || fail "round $n: g1 is $(info g1 .state)"
    [ "$(pids g1 disk0 net0)" = "$before" ] || fail "round $n: not the same processes"
    goes_on "round $n"
done
[ "$(stat -c %i "$(door g1 vdb)")" = "$socket" ] || fail "its socket is another one"
[ "$(info g1 '[.disks[].dev] | join(" ")')" = vdb ] || fail "its disks: $(info g1 .disks)"
vm_open g1 "$A" "$B" "$E0" "$E1"
vm_open g1 "$B" "$E0"
goes_on "a change under the next daemon"
[ "$(pids g1 disk0 net0)" = "$before" ] || fail "a change under the next daemon: not the same processes"
say "three daemons killed: same door, same socket; the next one adds and removes devices"

# ---------------------------------------------------------- 2. in the middle of a change
for ((n = 0; n < ROUNDS; n++)); do
    vm_xml g1 "$A" "$B" "$C" "$E0" "$E1"
    ask open "$RUN/g1.xml" >/dev/null 2>&1 &
    asked=$!
    sleep 0.0$((RANDOM % 4))$((RANDOM % 10))
    daemon_kill
    wait $asked 2>/dev/null || true
    daemon_again
    wait_for 30 running g1 || fail "round $n: g1 is $(info g1 .state)"
    # A device keeps its place while the guest lives: the order says nothing.
    there=$(info g1 '[.disks[].dev, .nics[].dev] | sort | join(" ")')
    case $there in
    "eth0 eth1 vda vdb vdc" | "eth0 vdb") ;;
    *) fail "round $n: neither the one nor the other: $there" ;;
    esac
    vm_open g1 "$A" "$B" "$C" "$E0" "$E1"
    vmm g1 vda 1 || fail "round $n: $(tail -n 3 "$RUN/vmm-g1-vda")"
    vm_xml g1 "$B" "$E0"
    ask open "$RUN/g1.xml" >/dev/null 2>&1 &
    asked=$!
    sleep 0.0$((RANDOM % 4))$((RANDOM % 10))
    daemon_kill
    wait $asked 2>/dev/null || true
    daemon_again
    wait_for 30 running g1 || fail "round $n: g1 is $(info g1 .state)"
    vm_open g1 "$B" "$E0"
    [ "$(cd "$DIR/guests/g1" && echo *)" = "eth0.sock vdb.sock" ] || fail "round $n: $(ls "$DIR/guests/g1")"
    goes_on "round $n"
done
wait_for 30 settled disk0 net0 || fail "spares do not settle"
vmm_enough $load
say "$n changes each way cut short by a kill of the daemon: all of it or nothing of it, the VMM's disk right throughout"

# Nothing of what was cut short is left: a guest that never saw it has as many nodes.
nodes >"$RUN/after"
vm_close g1
vm_open g1 "$B" "$E0"
wait_for 30 settled disk0 net0 || fail "spares do not settle"
nodes >"$RUN/fresh"
diff "$RUN/fresh" "$RUN/after" || fail "store nodes were left"
say "no store node is left of any of it"

# ------------------------------------------------------------- 3. open and close cut short
for ((n = 0; n < ROUNDS; n++)); do
    vm_xml g2 "$A"
    ask open "$RUN/g2.xml" >/dev/null 2>&1 &
    asked=$!
    sleep 0.0$((RANDOM % 6))$((RANDOM % 10))
    daemon_kill
    wait $asked 2>/dev/null || true
    daemon_again
    vm_open g2 "$A"
    ask close g2 >/dev/null 2>&1 &
    asked=$!
    sleep 0.0$((RANDOM % 6))$((RANDOM % 10))
    daemon_kill
    wait $asked 2>/dev/null || true
    daemon_again
    vm_close g2
    [ ! -e "$DIR/guests/g2" ] && [ ! -e "$DIR/domains/g2.xml" ] && [ ! -e "$DIR/domains/g2.opened" ] ||
        fail "round $n: close left $(ls -d "$DIR"/guests/g2* "$DIR"/domains/g2* 2>/dev/null | tr '\n' ' ')"
done
say "$n times open and close cut short: asked again they do it"
