#!/bin/bash
# SPDX-License-Identifier: MIT
# A stock Debian kernel, defined and started through virsh, has ext4 on a disk and TCP connections over
# a NIC.  The driver domain of each is killed VM_KILLS (20) times with requests of the guest in flight:
# no error, no "is not a head", no carrier lost, every byte right, the file system clean.
# Control: the same guest on qemu-storage-daemon, which is killed once, loses its disk.
#
# In flight is made sure of: device and NIC are slow, so that requests wait; the driver domain is stopped, so
# that nothing is answered any more; the guest says what it waits for; then comes the kill.
. "$(dirname "$0")/../integration/lib.bash"
. "$(dirname "$0")/../integration/slow.bash"
. "$(dirname "$0")/libvirt.bash"
. "$(dirname "$0")/vm.bash"
. "$(dirname "$0")/plain.bash"
. "$(dirname "$0")/load.bash"
need_root
need_fuse
kills=${VM_KILLS:-20}
vm_image
contents

# -------------------------------------------------------------------------- ours
wire 1500
stack_start
watch_events
libvirt_start
slow_start slow 96M
format "$RUN/slow.img"
driver disk0 1 "<b:recovery heartbeat='0'/>" # one that is stopped is not to be taken for hung: the kill is ours
net_driver net0 "$(uplink)" 1500 1 "<b:recovery heartbeat='0'/>"
vm_disk g1 vda disk0 "file='$slow_dir/disk'"
vm_nic g1 eth0 net0 52:54:00:77:00:01 "<bandwidth><inbound average='1000'/><outbound average='1000'/></bandwidth>"
vm_define g1
vm_start g1
say "$(in_guest g1 'uname -srv'), defined and started through virsh"
door=$(info g1 .pid)
tell_slow 'late 2000'
use_disk g1
use_nic g1 $NET.1
carrier=$(carrier_changes g1)

# dies NAME BUSY COUNT: with something of the guest's in flight.
dies() {
    local was
    wait_for 120 spared "$1" || fail "$1 has no spare"
    was=$(incarnation "$1")
    caught g1 "$@"
    kill -KILL "$(info "$1" .pid)"
    wait_for 120 reborn "$1" "$was" || fail "incarnation $((was + 1)) of $1 does not come"
}
waited=0 bytes=0
for n in $(seq "$kills"); do
    dies disk0 many_wait waits
    # What waits now must not be there for another two deaths: a request that was in flight at three fails.
    wait_for 120 worked $(($(work) + 80)) || fail "after $n deaths of disk0 the guest's I/O stands still: $(vm_complaints g1)"
    requests=$waited waited=$bytes
    dies net0 some_sent unacknowledged
    bytes=$waited waited=$requests
    use_lives g1 "$n deaths"
done
# All deaths were ours: nobody was taken for a liar or for hung meanwhile.
all_told() { [ "$(told died '.name == "disk0"')" -eq "$kills" ] && [ "$(told died '.name == "net0"')" -eq "$kills" ]; }
wait_for 10 all_told || fail "others died: $(jq -c 'select(.event == "died")' "$RUN/events")"
say "$kills deaths of disk0 with $waited requests of the guest in flight, $kills of net0 with $((bytes >> 10)) KiB"
tell_slow 'late 0'
use_ends g1
[ "$(carrier_changes g1)" = "$carrier" ] || fail "the guest's NIC lost its carrier"
[ "$(info g1 .pid)" = "$door" ] || fail "the door was started anew"
vm_stop g1
wait_for 30 doorless g1 || fail "the guest is gone, its door is not: $(bh list)"
bh stop disk0
slow_stop
image_clean "$RUN/slow.img"
say "carrier never lost, no complaint of the guest's kernel, file system clean by the guest and from outside"

# ----------------------------------------------------------------------- control
image plain.img 96M
format "$RUN/plain.img"
plain_start plain "$RUN/plain.img" slow
vm_disk g2 vda '' '' "$RUN/plain.sock"
vm_define g2
vm_start g2
use_disk g2
# Its writes wait, and reads go past them.
reads() { in_guest g2 "awk '{print \$1}' /sys/block/vda/stat"; }
read_past() { [ "$(reads)" -ge $((before + 16)) ] && many_wait g2; }
wait_for 120 many_wait g2 || fail "control: nothing is in flight"
before=$(reads)
wait_for 120 read_past || fail "control: reads do not go past writes"
plain_kill
plain_start plain "$RUN/plain.img" slow
lost() { console g2 | has 'is not a head'; } # asked of its console: some kernels do not outlive it
wait_for 120 lost || fail "control: a plain backend died, and the guest did not mind"
complaint=$(console g2 | grep 'is not a head')
if in_guest g2 'timeout 20 dd if=/dev/vda of=/dev/null bs=4k count=1 skip=99 iflag=direct' >"$RUN/dd" 2>&1; then
    fail "control: the guest still has its disk"
fi
say "control: a plain vhost-user disk that dies once is lost to the same guest: ${complaint#*] }"
