#!/bin/bash
# SPDX-License-Identifier: MIT
# Two guests with two disks and two NICs each.  One disk and one NIC of each come and go, PLUGS (50) times
# in all, in both guests at a time; libvirtd dies in between.  In g1 doors stand ready and virsh plugs devices into
# them; g2 is told of them by `bulkhead attach`.  Nothing is left of it in any process: no descriptor, no memory,
# no node of the store, no socket.
. "$(dirname "$0")/../integration/lib.bash"
. "$(dirname "$0")/libvirt.bash"
. "$(dirname "$0")/vm.bash"
need_root
plugs=${PLUGS:-50}
VM_ROOT_PORTS=8
# A libvirtd 9.0 that comes again has forgotten that memory is shared, unless it is by cell, and would plug nothing in.
VM_NUMA=yes
vm_image
wire 1500
stack_start
libvirt_start
driver disk0
net_driver net0 "$(uplink)"

mac() { echo "52:54:00:77:0${1#g}:0$2"; } # GUEST NUMBER
for guest in g1 g2; do
    for dev in vda vdb; do
        image $guest$dev.img 16M
        echo "this is $dev of $guest" | dd of="$RUN/$guest$dev.img" conv=notrunc status=none
    done
    vm_disk $guest vda disk0 "file='$RUN/${guest}vda.img'"
    vm_nic $guest eth0 net0 "$(mac $guest 0)"
done
vm_ready_door g1 "<b:disk dev='vdb' driver='disk0' file='$RUN/g1vdb.img'/>"
vm_ready_door g1 "<b:interface dev='eth1' driver='net0'><mac address='$(mac g1 1)'/></b:interface>"
vm_disk_xml g1 vdb disk0 >"$RUN/g1.vdb"
vm_nic_xml g1 eth1 net0 "$(mac g1 1)" >"$RUN/g1.eth1"
# As in any guest's document.
cat >"$RUN/g2.vdb" <<XML
<disk type='file' device='disk'>
  <driver name='qemu' type='raw'/>
  <source file='$RUN/g2vdb.img'/>
  <backenddomain name='disk0'/>
  <target dev='vdb' bus='virtio'/>
</disk>
XML
cat >"$RUN/g2.eth1" <<XML
<interface type='bridge'>
  <mac address='$(mac g2 1)'/>
  <source bridge='br0'/>
  <backenddomain name='net0'/>
  <target dev='eth1'/>
  <model type='virtio'/>
</interface>
XML
for guest in g1 g2; do
    vm_define $guest
    vm_start $guest
done

# ------------------------------------------------------------- one device, in and out
# Which name the guest gave to the NIC of that address; nothing, when there is none.
nic_of() { in_guest "$1" "grep -lix '$2' /sys/class/net/*/address | cut -d/ -f5"; }
has_disk() { [ "$(in_guest "$1" 'dd if=/dev/vdb bs=4k count=1 iflag=direct 2>/dev/null | head -n 1' | tr -d '\0')" = "this is vdb of $1" ]; }
has_no_disk() { in_guest "$1" '! test -e /sys/block/vdb'; }
has_nic() { [ -n "$(nic_of "$1" "$(mac "$1" 1)")" ]; }
has_no_nic() { ! has_nic "$1"; }
nic_pings() { in_guest "$1" "ping -c 1 -W 2 -I $2 $OUTSIDE" >/dev/null; }
listed() { virsh dumpxml "$1" | has -F "/guests/$1/$2.sock"; }
unlisted() { ! listed "$@"; }

export LIBVIRT_DEFAULT_URI=$LIBVIRT_URI
plug() {
    case $1 in
    g1) virsh attach-device g1 "$RUN/g1.$2" --live >/dev/null ;;
    g2) bh attach g2 "$RUN/g2.$2" 2>"$RUN/told" || { cat "$RUN/told" >&2; return 1; } ;; # it tells what it leaves out
    esac
}
unplug() {
    case $1 in
    g1) virsh detach-device g1 "$RUN/g1.$2" --live >/dev/null ;;
    g2) bh detach g2 "$2" ;;
    esac
}
disk_comes_and_goes() {
    plug "$1" vdb || fail "vdb does not go into $1"
    wait_for 120 has_disk "$1" || fail "$1 does not see what is on vdb: $(in_guest "$1" 'dmesg | tail -n 5')"
    unplug "$1" vdb || fail "vdb does not go out of $1"
    wait_for 120 has_no_disk "$1" || fail "$1 still has vdb"
    wait_for 120 unlisted "$1" vdb || fail "libvirt still has vdb in $1"
}
nic_comes_and_goes() {
    local nic
    plug "$1" eth1 || fail "eth1 does not go into $1"
    wait_for 120 has_nic "$1" || fail "$1 does not see eth1: $(in_guest "$1" 'dmesg | tail -n 5')"
    nic=$(nic_of "$1" "$(mac "$1" 1)")
    in_guest "$1" "ip addr add $NET.${1#g}1/24 dev $nic; ip link set $nic up"
    wait_for 120 nic_pings "$1" "$nic" || fail "$1 reaches nobody through eth1"
    unplug "$1" eth1 || fail "eth1 does not go out of $1"
    wait_for 120 has_no_nic "$1" || fail "$1 still has eth1"
    wait_for 120 unlisted "$1" eth1 || fail "libvirt still has eth1 in $1"
}
# both TIMES: in both guests at a time.
both() {
    local guest jobs=() job
    for guest in g1 g2; do
        (
            trap - EXIT
            for n in $(seq "$1"); do
                case $((n % 2)) in
                1) disk_comes_and_goes $guest ;;
                0) nic_comes_and_goes $guest ;;
                esac
            done
        ) &
        jobs+=($!)
    done
    for job in "${jobs[@]}"; do wait "$job" || fail "a device does not come and go: see above"; done
}

# --------------------------------------------------------------- what everyone holds
core=$(pgrep -P "$daemon" bulkhead-core)
everyone() { echo "$daemon $core $(pgrep -d ' ' -P "$core")"; }
# Processes by name and place, with the number of their descriptors and sockets.
held() {
    local pid
    for pid in $(everyone); do
        [ -d "/proc/$pid/fd" ] || continue
        echo "$(tr '\0' ' ' <"/proc/$pid/cmdline" | cut -c1-60 | sed 's|/tmp/[^ ]*||g')" \
            "descriptors=$(find "/proc/$pid/fd" -mindepth 1 | wc -l)" \
            "sockets=$(find "/proc/$pid/fd" -lname 'socket:*' | wc -l)"
    done | sort
    find "$DIR" -type s | sed "s|$DIR||" | sort
    # A counter has a node when it counts for the first time; the others do not come by themselves.
    XENSTORED_PATH="$DIR/store.sock" xenstore-ls -f | cut -d= -f1 | sed -E 's/ *$//' | grep -v /stats/ | sort
}
resident() {
    local pid
    for pid in $(everyone); do
        awk -v who="$(tr '\0' ' ' <"/proc/$pid/cmdline" | cut -c1-40)" '$1 == "VmRSS:" {print $2, who}' "/proc/$pid/status"
    done
}
total() { resident | awk '{s += $1} END {print s}'; }

both 2 # what is made once is made
settled() { held >"$RUN/held.now" && diff "$RUN/held" "$RUN/held.now" >"$RUN/held.diff"; }
wait_for 20 spared disk0 && wait_for 20 spared net0 || fail "there are no spares"
sleep 1
held >"$RUN/held"
before=$(total)
qemu_before=$(for guest in g1 g2; do find "/proc/$(guest_pid $guest)/fd" -mindepth 1 | wc -l; done | xargs)
each=$(((plugs + 3) / 4))
both $each
libvirt_kill
libvirt_start
for guest in g1 g2; do wait_for 20 guest_is $guest running || fail "libvirtd does not find $guest again"; done
both $each
say "$((4 * each)) times a disk or a NIC came into a guest, was used and went, libvirtd died in between"
wait_for 30 settled || fail "left behind: $(cat "$RUN/held.diff")"
after=$(total)
[ "$after" -lt $((before + before / 10 + 4096)) ] || fail "resident: $before KiB, then $after: $(resident)"
qemu_after=$(for guest in g1 g2; do find "/proc/$(guest_pid $guest)/fd" -mindepth 1 | wc -l; done | xargs)
for guest in g1 g2; do
    [ "$(in_guest $guest 'dd if=/dev/vda bs=4k count=1 iflag=direct 2>/dev/null | head -n 1' | tr -d '\0')" = "this is vda of $guest" ] ||
        fail "$guest has lost its vda"
    complaints=$(vm_complaints $guest)
    [ -z "$complaints" ] || fail "$guest's kernel says: $complaints"
done
[ "$qemu_after" = "$qemu_before" ] || fail "QEMU had $qemu_before descriptors, then $qemu_after"
say "$(wc -l <"$RUN/held") processes, sockets and nodes are the same as before, with as many descriptors;" \
    "resident $before KiB, then $after; QEMU's descriptors $qemu_before"
# Control: what is left behind is seen.
XENSTORED_PATH="$DIR/store.sock" xenstore-write /left 1
! settled || fail "control: a node that is left behind is not seen"
XENSTORED_PATH="$DIR/store.sock" xenstore-rm /left
for guest in g1 g2; do vm_stop $guest; done
no_doors() { [ -z "$(find "$DIR/guests" -type s 2>/dev/null)" ] && ! bh --json list | jq -e 'map(select(.kind == "guest")) | length > 0'; }
wait_for 30 no_doors || fail "guests are gone, doors are not: $(find "$DIR/guests") $(bh list)"
say "guests gone: no door, no socket is left"
