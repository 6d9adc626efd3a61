#!/bin/bash
# SPDX-License-Identifier: MIT
# The guest's door itself is killed DOOR_KILLS (5) times under load: what was in flight is done by the next one,
# the file system stays right, connections live on.  The guest sees nothing on its disk but a pause; its NIC
# loses the carrier for as long as QEMU is not connected (QEMU takes the link down then), and has it again.
# Then a client that keeps a record of every request does the same: each is finished once.
. "$(dirname "$0")/../integration/lib.bash"
. "$(dirname "$0")/../integration/slow.bash"
. "$(dirname "$0")/libvirt.bash"
. "$(dirname "$0")/vm.bash"
. "$(dirname "$0")/load.bash"
need_root
need_fuse
kills=${DOOR_KILLS:-5}
vm_image
contents
wire 1500
stack_start
libvirt_start
slow_start slow 96M
format "$RUN/slow.img"
driver disk0
net_driver net0 "$(uplink)"
vm_disk g1 vda disk0 "file='$slow_dir/disk'"
vm_nic g1 eth0 net0 52:54:00:77:00:01 "<bandwidth><inbound average='1000'/><outbound average='1000'/></bandwidth>"
vm_define g1
vm_start g1
tell_slow 'late 2000'
use_disk g1
use_nic g1 $NET.1
carrier=$(carrier_changes g1)
moves() { [ "$(unacknowledged g1)" != "$1" ]; }

waited=0
for n in $(seq "$kills"); do
    was=$(incarnation g1)
    caught g1 g1 many_wait waits
    kill -KILL "$(info g1 .pid)"
    wait_for 120 reborn g1 "$was" || fail "incarnation $((was + 1)) of the door does not come"
    wait_for 120 worked $(($(work) + 80)) || fail "after $n deaths of the door the guest's I/O stands still: $(vm_complaints g1)"
    wait_for 120 pings outside $NET.1 || fail "after $n deaths of the door the guest is not reached"
    use_lives g1 "$n deaths of the door"
done
say "$kills deaths of the door with $waited requests of the guest in flight"
changes=$(($(carrier_changes g1) - carrier))
tell_slow 'late 0'
use_ends g1
[ "$(in_guest g1 'cat /sys/class/net/eth0/carrier')" = 1 ] || fail "the guest's NIC has no carrier"
[ $changes -le $((2 * kills)) ] || fail "$changes changes of the carrier in $kills deaths of the door"
say "the guest saw its carrier change $changes times, down and up once a death, no error, no connection reset"
vm_stop g1
wait_for 30 doorless g1 || fail "the guest is gone, its door is not: $(bh list)"
image_clean "$RUN/slow.img"

# A client that is no QEMU, with a record of its own: what it was told is done, once.
image b.img 64M
vm_disk g2 vda disk0 "file='$RUN/b.img'"
vm_xml g2 >"$RUN/g2.xml"
bh define "$RUN/g2.xml"
bh start g2
bh bench vublk --socket "$DIR/guests/g2/vda.sock" --verify --reconnect --span 32M --seconds $((kills * 2)) --json \
    >"$RUN/record" 2>"$RUN/record.log" &
client=$!
sleep 1
for n in $(seq "$kills"); do
    was=$(incarnation g2)
    kill -0 $client 2>/dev/null || fail "the client ended: $(cat "$RUN/record" "$RUN/record.log")"
    sleep "0.$((RANDOM % 10))"
    kill -KILL "$(info g2 .pid)"
    wait_for 120 reborn g2 "$was" || fail "incarnation $((was + 1)) of the door does not come"
done
wait $client || fail "a request was not done once: $(cat "$RUN/record" "$RUN/record.log")"
jq -e --argjson kills "$kills" '.ok and .inflight and .reconnects >= $kills' "$RUN/record" >/dev/null ||
    fail "the client says: $(cat "$RUN/record")"
say "a client with a record of its own, $(jq .reconnects "$RUN/record") deaths: $(jq .requests "$RUN/record") requests, each was done once"
bh stop g2
bh stop disk0
slow_stop
