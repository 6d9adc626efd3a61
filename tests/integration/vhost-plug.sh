#!/bin/bash
# SPDX-License-Identifier: MIT
# Devices come to a guest behind a vhost-user door and go while it runs, many times,
# and nothing grows; also when it is refused, and when someone dies meanwhile.
. "$(dirname "$0")/lib.bash"
. "$(dirname "$0")/restart.bash"
. "$(dirname "$0")/vhost.bash"
ROUNDS=${VHOST_ROUNDS:-50}
restart_start
driver disk0 1 "$STEADY"
net_driver net0 "" "" 1 "$STEADY"
for name in a b c; do image $name.img 32M; done
A=vda=disk0,$RUN/a.img B=vdb=disk0,$RUN/b.img C=vdc=disk0,$RUN/c.img
E0=eth0=net0,52:54:00:00:00:01 E1=eth1=net0,52:54:00:00:00:02
vm_open g1 "$A" "$E0"
watch_events
wait_for 10 settled disk0 net0 || fail "no spares"

# ------------------------------------------------- 1. a disk, a NIC; the others go on
vmm_load g1 vda &
load=$!
sleep 0.3
door_pid=$(info g1 .pid)
vm_open g1 "$A" "$B" "$E0" "$E1"
[ -S "$(door g1 vdb)" ] && [ -S "$(door g1 eth1)" ] || fail "no sockets: $(ls "$DIR/guests/g1")"
[ "$(info g1 '[.disks[], .nics[]] | map(.connected) | all')" = true ] || fail "not connected: $(info g1 .disks)"
wait_for 10 settled disk0 net0 || fail "the spares do not stand by for what is new"
vmm g1 vdb 1 || fail "the new disk: $(tail -n 3 "$RUN/vmm-g1-vdb")"
vm_open g1 "$A" "$E0"
[ ! -e "$(door g1 vdb)" ] && [ ! -e "$(door g1 eth1)" ] || fail "sockets stayed: $(ls "$DIR/guests/g1")"
happened attached '.disk == "vdb"' && happened attached '.nic == "eth1"' || fail "no event for what came"
happened detached '.disk == "vdb"' && happened detached '.nic == "eth1"' || fail "no event for what went"
[ "$(info g1 .pid)" = "$door_pid" ] || fail "the door is another one"
vmm_enough $load
say "a disk and a NIC come and go under load of another disk: sockets, events, spares; the door is the same"

# --------------------------------------------------------------- 2. again and again
wait_for 10 settled disk0 net0 || fail "spares do not settle"
holdings g1 disk0 net0 >"$RUN/before"
vmm_load g1 vda &
load=$!
for ((n = 0; n < ROUNDS; n++)); do
    case $((n % 3)) in
    0) vm_open g1 "$A" "$B" "$E0" ;;
    1) vm_open g1 "$A" "$C" "$E1" "$E0" ;;
    2) vm_open g1 "$A" "$E0" ;;
    esac
done
vm_open g1 "$A" "$E0"
same() {
    settled disk0 net0 || return 1
    holdings g1 disk0 net0 >"$RUN/after"
    cmp -s "$RUN/before" "$RUN/after"
}
vmm_enough $load
wait_for 10 same || fail "it grew: $(diff "$RUN/before" "$RUN/after" || true)"
[ "$(info g1 .pid)" = "$door_pid" ] || fail "the door is another one"
say "$ROUNDS changes of devices: no descriptor, store node or socket more than before"

# ------------------------------------------------------------------- 3. refused, undone
said=$(vm_xml g1 "vda=disk0,$RUN/b.img" "$E0" && sentence open "$RUN/g1.xml")
[[ $said == *":5: vda of g1 is in use with other settings: detach it first, then attach it as it is to be" ]] || fail "$said"
driver disk1 1 "$STEADY"
vm_open g2 "vda=disk1,$RUN/c.img"
vm_xml g1 "$A" "$B" "$C" "$E0"
said=$(sentence open "$RUN/g1.xml")
[ "$said" = "disk vdc of g1: $RUN/c.img is in use by another (waited 5 s)" ] || fail "$said"
vm_close g2
bh stop disk1
bh undefine disk1
wait_for 10 same || fail "refused, and it is not as it was: $(diff "$RUN/before" "$RUN/after" || true)"
vm_open g1 "$A" "$B" "$C" "$E0"
vm_open g1 "$A" "$E0"
say "other settings of what is in use, another guest's image: refused, as it was; the control is not"

# ------------------------------------------------------------- 4. deaths in the middle
for ((n = 0; n < 12; n++)); do
    vm_xml g1 "$A" "$B" "$C" "$E0"
    victim=$([ $((n % 3)) = 2 ] && echo g1 || echo disk0)
    was=$(incarnation $victim)
    pid=$(info $victim .pid)
    ask open "$RUN/g1.xml" >"$RUN/answer" &
    asked=$!
    sleep 0.00$((RANDOM % 10))
    kill -9 "$pid" 2>/dev/null || true
    wait $asked && outcome=done || outcome=undone
    wait_for 30 reborn $victim "$was" || fail "round $n: $victim does not come back"
    wait_for 30 running g1 || fail "round $n: g1 is $(info g1 .state)"
    there=$(info g1 '[.disks[].dev] | join(" ")')
    case "$outcome $there" in
    "done vda vdb vdc" | "undone vda") ;;
    *) fail "round $n: $outcome, and there are $there: $(cat "$RUN/answer")" ;;
    esac
    wait_for 30 settled disk0 net0 || fail "round $n: spares do not settle"
    vm_open g1 "$A" "$E0"
done
vmm g1 vda 1 || fail "$(tail -n 3 "$RUN/vmm-g1-vda")"
# A door that was made anew may have other descriptors than the one before; what it has must not grow.
wait_for 10 settled disk0 net0 || fail "spares do not settle"
holdings g1 disk0 net0 >"$RUN/after"
diff <(grep -vE '^(g1|disk0|net0)' "$RUN/before") <(grep -vE '^(g1|disk0|net0)' "$RUN/after") || fail "something was left"
say "deaths of driver domain and door in the middle: all of it or nothing of it, nothing left"
vm_close g1
[ ! -e "$DIR/guests/g1" ] || fail "close left $(ls "$DIR/guests/g1")"
