#!/bin/bash
# SPDX-License-Identifier: MIT
# A stock libvirt starts and ends guests, and their doors open and close with
# them: by its hook, by `bulkhead-libvirt follow`, by bulkhead attach and detach.
# The guests have no system: they sit in their firmware.
. "$(dirname "$0")/../integration/lib.bash"
. "$(dirname "$0")/libvirt.bash"
need_root

# ------------------------------------------------------------------ what is there
gone() { ! "$@" >/dev/null 2>&1; }
known() { bh --json list | jq -e --arg n "$1" 'any(.[]; .name == $n)' >/dev/null; }
# connected GUEST DEV: to its driver domain.
connected() { bh --json info "$1" | jq -e --arg d "$2" '(.disks + .nics)[] | select(.dev == $d) | .connected' >/dev/null; }
has_door() { bh --json info "$1" | jq -e --arg d "$2" 'any((.disks + .nics)[]; .dev == $d)' >/dev/null; }
door_socket() { echo "$DIR/guests/$1/$2.sock"; }
# A VMM is connected to that socket. An accepted socket is in the network namespace of who
# connected: QEMU's, which no other test shares.
plugged_in() { libvirt_inside ss -xH state established | has " guests/$1/$2[.]sock "; }
metadata() { virsh metadata "$1" urn:bulkhead:domain:1 "${@:2}"; }

# vhost_disk GUEST DEV [DRIVER]: for <devices>.
vhost_disk() {
    cat <<XML
    <disk type='vhostuser' device='disk'>
      <driver name='qemu' type='raw'/>
      <source type='unix' path='$(door_socket "$1" "$2")'><reconnect enabled='yes' timeout='1'/></source>
      ${3:+<backenddomain name='$3'/>}
      <target dev='$2' bus='virtio'/>
    </disk>
XML
}

# vm NAME METADATA DEVICES [XML]: defined. PCI devices are unplugged at once by who
# has not switched their slot on: firmware has not, where ACPI does not do it.
vm_xml() {
    cat <<XML
<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>$1</name>
  $2
  <memory unit='MiB'>64</memory>
  <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>
  <vcpu>1</vcpu>
  ${4:-}
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices>
    <controller type='pci' index='0' model='pcie-root'/>
    <controller type='pci' model='pcie-root-port'/>
    <controller type='pci' model='pcie-root-port'/>
    <controller type='pci' model='pcie-root-port'/>
    <controller type='pci' model='pcie-root-port'/>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
$3
  </devices>
  <qemu:commandline>
    <qemu:arg value='-global'/>
    <qemu:arg value='ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off'/>
  </qemu:commandline>
</domain>
XML
}
vm() {
    vm_xml "$@" >"$RUN/$1.xml"
    virsh define --validate "$RUN/$1.xml"
}
ours() { echo "<metadata><bulkhead:domain xmlns:bulkhead='urn:bulkhead:domain:1' kind='guest' door='vhost-user'>$*</bulkhead:domain></metadata>"; }

# vetoed NAME SENTENCE: virsh says it, nothing of the guest is left.
vetoed() {
    local said
    if said=$(virsh start "$1" 2>&1); then fail "$1 started, but wanted: $2"; fi
    grep -qF "bulkhead: $1: $2" <<<"$said" || fail "virsh said
    $said
  and not
    bulkhead: $1: $2"
    guest_is "$1" 'shut off' || fail "$1 is $(guest_state "$1")"
    [ ! -e "$DIR/guests/$1" ] || fail "$1 left something: $(ls "$DIR/guests/$1")"
    virsh undefine "$1"
}

stack_start
driver disk0
driver disk1
net_driver net0
bh stop disk1
for n in 1 2 3 4; do image g$n.img 16M; done
libvirt_start

# ---------------------------------------------------------- a guest starts and ends
vm g1 "$(ours "<bulkhead:disk dev='vda' file='$RUN/g1.img'/>
               <bulkhead:disk dev='vdb' file='$RUN/g2.img' driver='disk0'/>")" "$(vhost_disk g1 vda disk0)"
vm other "" ""
virsh start g1
guest_is g1 running || fail "g1 is $(guest_state g1)"
connected g1 vda || fail "vda is not connected"
[ "$(stat -c %a "$(door_socket g1 vda)")" = 660 ] || fail "the socket has mode $(stat -c %a "$(door_socket g1 vda)")"
wait_for 5 plugged_in g1 vda || fail "QEMU is not connected to vda"
if plugged_in g1 vdb; then fail "somebody is connected to vdb"; fi
virsh start other
guest_is other running || fail "other is $(guest_state other)"
gone known other || fail "bulkheadd knows a guest that is not ours"
say "virsh start: the doors are open first; QEMU runs as $LIBVIRT_QEMU_USER"

pid=$(guest_pid g1)
door=$(info g1 .pid)
libvirt_kill
kill -0 "$pid" || fail "QEMU ended with libvirtd"
libvirt_start
guest_is g1 running || fail "g1 is $(guest_state g1) after libvirtd came back"
[ "$(guest_pid g1)" = "$pid" ] || fail "g1 is another process"
[ "$(info g1 .pid)" = "$door" ] || fail "the door of g1 is another process"
plugged_in g1 vda || fail "QEMU lost vda while libvirtd was away"
say "libvirtd was killed and came back: guest and door are the same processes"

virsh destroy g1
wait_for 5 gone known g1 || fail "g1 ended and is still open: $(bh list)"
[ ! -e "$(door_socket g1 vda)" ] || fail "the socket of vda is left"
virsh start g1
known g1 || fail "g1 is not open"
say "virsh destroy: the doors are closed; the guest starts again"

# What follow saw a moment ago may be over: it names how often the guest had been opened.
opens=$(bh --json list | jq '.[] | select(.name == "g1").opens')
close_g1() {
    python3 -c 'import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall((sys.argv[2] + "\n").encode())
print(s.makefile().readline())' "$DIR/bulkheadd.sock" "{\"cmd\":\"close\",\"name\":\"g1\",\"opens\":$1}" | jq -e .ok >/dev/null
}
close_g1 $((opens - 1)) || fail "close of a guest that was opened since"
known g1 || fail "g1 was closed by who had not seen that it is open again"
close_g1 "$opens" || fail "close"
wait_for 5 gone known g1 || fail "g1 was not closed"
libvirt_kill
libvirt_start
wait_for 10 plugged_in g1 vda || fail "QEMU is not connected to vda again"
say "libvirtd comes back: its hook opens what runs and is closed; QEMU connects again"

libvirt_kill
kill -9 "$(guest_pid g1)"
known g1 || fail "g1 was closed by nobody"
libvirt_start
wait_for 10 gone known g1 || fail "g1 ended while libvirtd was away, and is still open"
guest_is g1 'shut off' || fail "g1 is $(guest_state g1)"
guest_is other running || fail "other is $(guest_state other)"
say "a guest that ended while libvirtd was away: its doors are closed when libvirtd is back"

# ------------------------------------------------------------------------- vetoes
of_disk0="<bulkhead:disk dev='vda' file='$RUN/g1.img' driver='disk0'/>"
vm b1 "$(ours "$of_disk0")" "$(vhost_disk b1 vda | sed 's,<reconnect.*/></source>,</source>,')"
line() { virsh dumpxml "$1" | grep -n "$2" | head -n 1 | cut -d: -f1; }
vetoed b1 "virsh dumpxml b1:$(line b1 "<source type='unix'"): <source> of vda has no <reconnect enabled='yes' timeout='1'/>"
vm b2 "$(ours)" "$(vhost_disk b2 vda disk0)"
vetoed b2 "virsh dumpxml b2:$(line b2 "<disk type='vhostuser'"): nothing is known of vda: add <disk dev='vda'"
vm b3 "$(ours "<bulkhead:disk dev='vda' file='$RUN/g1.img' driver='nobody'/>")" "$(vhost_disk b3 vda)"
vetoed b3 "disk vda of b3 names driver domain nobody, which is not defined: define it first"
vm b4 "$(ours "<bulkhead:disk dev='vda' file='$RUN/g1.img' driver='disk1'/>")" "$(vhost_disk b4 vda)"
vetoed b4 "driver domain disk1 is not running: start it first"
vm b5 "$(ours "<bulkhead:disk dev='vda' file='$RUN/none.img' driver='disk0'/>")" "$(vhost_disk b5 vda)"
vetoed b5 "disk vda of b5: cannot open $RUN/none.img: there is no such file or device"
vm b6 "$(ours "$of_disk0")" "$(vhost_disk b6 vda)"
virsh start b6
virsh destroy b6
virsh undefine b6
say "a start is vetoed: no reconnect, no backing, an unknown driver domain, one that is down, no file; and not without"


# ------------------------------------------------------------------------ plugging
# libvirt 9.0 forgets over a restart of libvirtd that the memory of a running guest is shared,
# and plugs no vhost-user device in any more; not where a NUMA cell says it.
cell="<cpu><numa><cell id='0' cpus='0' memory='64' unit='MiB' memAccess='shared'/></numa></cpu>"
vm g2 "$(ours "<bulkhead:disk dev='vda' file='$RUN/g3.img' driver='disk0'/>
               <bulkhead:disk dev='vdb' file='$RUN/g4.img' driver='disk0'/>
               <bulkhead:interface dev='eth7' driver='net0'><mac address='52:54:00:00:07:07'/></bulkhead:interface>")" \
    "$(vhost_disk g2 vda)" "$cell"
virsh start g2
vhost_disk g2 vdb >"$RUN/vdb.xml"
if plugged_in g2 vdb; then fail "somebody is connected to vdb"; fi
virsh attach-device g2 "$RUN/vdb.xml"
wait_for 5 plugged_in g2 vdb || fail "QEMU is not connected to vdb"
virsh detach-device g2 "$RUN/vdb.xml"
wait_for 5 gone plugged_in g2 vdb || fail "QEMU is still connected to vdb"
has_door g2 vdb || fail "the door of vdb went with the device"
say "a door that stands ready: virsh attach-device and detach-device"

image new.img 16M
cat >"$RUN/disk.xml" <<XML
<disk type='file' device='disk'>
  <driver name='qemu' type='raw' cache='none'/>
  <source file='$RUN/new.img'/>
  <backenddomain name='disk0'/>
  <target dev='vdc' bus='virtio'/>
</disk>
XML
cat >"$RUN/nic.xml" <<XML
<interface type='bridge'>
  <mac address='52:54:00:00:05:01'/>
  <source bridge='br0'/>
  <backenddomain name='net0'/>
  <vlan><tag id='7'/></vlan>
  <model type='virtio'/>
</interface>
XML
bh attach g2 "$RUN/disk.xml" --uri "$LIBVIRT_URI" | has '^attached vdc to g2$' || fail "attach of a disk"
connected g2 vdc || fail "vdc is not connected"
wait_for 5 plugged_in g2 vdc || fail "QEMU is not connected to vdc"
virsh dumpxml g2 --inactive | has "$(door_socket g2 vdc)" || fail "vdc is not in the definition of g2"
metadata g2 --config | has 'dev="vdc"' || fail "vdc is not in the metadata of the definition of g2"
nic=$(bh --json attach g2 "$RUN/nic.xml" --uri "$LIBVIRT_URI" | jq -r .dev)
connected g2 "$nic" || fail "$nic is not connected"
wait_for 5 plugged_in g2 "$nic" || fail "QEMU is not connected to $nic"
[ "$(info g2 ".nics[] | select(.dev == \"$nic\").vlan")" = 7 ] || fail "the VLAN of $nic was lost"
echo "<interface type='vhostuser'><target dev='eth7'/></interface>" >"$RUN/ready.xml"
bh attach g2 "$RUN/ready.xml" --uri "$LIBVIRT_URI" | has '^attached eth7 to g2$' || fail "attach of a NIC whose door stands ready"
wait_for 5 plugged_in g2 eth7 || fail "QEMU is not connected to eth7"
virsh dumpxml g2 | has "52:54:00:00:07:07.*" || fail "eth7 has another address than its door"
say "bulkhead attach: an ordinary disk and an ordinary NIC, into the guest and its definition"

# refused NAME ARGUMENTS...: one sentence with that in it, and nothing has changed.
state_of() {
    virsh dumpxml "$1" | sed 's/^ *//' # metadata that was put back is indented otherwise
    virsh dumpxml --inactive "$1" | sed 's/^ *//'
    bh --json info "$1" | jq -S '[.disks, .nics, .pid]'
}
refused() {
    local want=$1 said before
    shift
    before=$(state_of g2)
    if said=$(bh "$@" --uri "$LIBVIRT_URI" 2>&1); then fail "'$*' succeeded, but wanted: $want"; fi
    grep -qF "$want" <<<"$said" || fail "'$*' said: $said
  and not: $want"
    [ "$(state_of g2)" = "$before" ] || fail "'$*' changed something: $(diff <(echo "$before") <(state_of g2))"
}
sed "s/disk0/nobody/; s/vdc/vdd/; s/new.img/g4.img/" "$RUN/disk.xml" >"$RUN/bad.xml"
refused "bulkhead: g2: vdd is not plugged in:" attach g2 "$RUN/bad.xml"
sed "s/vdc/vdd/; s/new.img/none.img/" "$RUN/disk.xml" >"$RUN/bad.xml"
refused "bulkhead: g2: vdd is not plugged in:" attach g2 "$RUN/bad.xml"
sed "s/vdc/vdd/; s/new.img/g2.img/; s,</disk>,<address type='pci' domain='0' bus='1' slot='0' function='0'/></disk>," \
    "$RUN/disk.xml" >"$RUN/bad.xml"
refused "PCI" attach g2 "$RUN/bad.xml" # libvirt says it, after the door was opened
refused "bulkhead: g2: it has no device vdq on a driver domain" detach g2 vdq
refused "says what is behind it" attach g2 <(vhost_disk g2 vdd)
printf '<disk' >"$RUN/bad.xml"
refused "$RUN/bad.xml:1: not well-formed XML" attach g2 "$RUN/bad.xml"
say "attach and detach refuse with one sentence; metadata, doors and devices stay as they were"

bh detach g2 "$nic" --uri "$LIBVIRT_URI" | has "^detached $nic from g2$" || fail "detach $nic"
bh detach g2 eth7 --uri "$LIBVIRT_URI" >/dev/null
bh detach g2 "$RUN/disk.xml" --uri "$LIBVIRT_URI" | has '^detached vdc from g2$' || fail "detach vdc"
for dev in vdc "$nic" eth7; do
    if has_door g2 "$dev"; then fail "$dev still has a door"; fi
    [ ! -e "$(door_socket g2 "$dev")" ] || fail "the socket of $dev is left"
    if virsh dumpxml g2 | grep "\<$dev\>"; then fail "$dev is left in g2"; fi
    if virsh dumpxml g2 --inactive | grep "\<$dev\>"; then fail "$dev is left in the definition of g2"; fi
done
plugged_in g2 vda || fail "QEMU lost vda"
say "bulkhead detach: by name and by file"

bh attach g2 "$RUN/disk.xml" --uri "$LIBVIRT_URI" >/dev/null
virsh destroy g2
wait_for 5 gone known g2 || fail "g2 is still open"
virsh start g2
wait_for 5 plugged_in g2 vdc || fail "QEMU is not connected to vdc"
say "what was attached is there when the guest starts again"

# Its slot is on now, and nobody is there to switch it off.
if said=$(bh detach g2 vdc --uri "$LIBVIRT_URI" --timeout 1 2>&1); then fail "g2 let go of vdc"; fi
[ "$said" = "bulkhead: g2: vdc is not detached: the guest has not let go of it in time: nothing was changed; try again when the guest does not use it" ] ||
    fail "detach said: $said"
plugged_in g2 vdc || fail "the door of vdc was closed under a guest that uses it"
metadata g2 | has "dev=['\"]vdc" || fail "vdc went from the metadata"
say "a guest that does not let go of a device keeps it, with its door"

virsh destroy g2
bh detach g2 vdc --uri "$LIBVIRT_URI" >/dev/null
if virsh dumpxml g2 | grep "\<vdc\>"; then fail "vdc is left in g2"; fi
bh attach g2 "$RUN/disk.xml" --uri "$LIBVIRT_URI" >/dev/null
gone known g2 || fail "doors of a guest that does not run are open"
virsh dumpxml g2 | has "$(door_socket g2 vdc)" || fail "vdc is not in g2"
bh detach g2 "$RUN/disk.xml" --uri "$LIBVIRT_URI" >/dev/null
say "attach and detach of a guest that does not run: its definition alone"

# --------------------------------------------------------------------------- follow
# Without the hook, and whatever libvirtd and bulkheadd do.
follow_says() { grep -qF "$1" "$RUN/follow.log"; }
rm "$LIBVIRT/etc/hooks/qemu.d/bulkhead"
libvirt_kill TERM
"$SBIN/bulkhead-libvirt" --run-dir "$DIR" --uri "$LIBVIRT_URI" follow >"$RUN/follow.log" 2>&1 &
follower=$!
wait_for 10 follow_says "libvirt at $LIBVIRT_URI is away" || fail "follow: $(cat "$RUN/follow.log")"
libvirt_start
wait_for 20 follow_says "connected to libvirt" || fail "follow: $(cat "$RUN/follow.log")"

# opened GUEST: as the hook does.
hook() { virsh dumpxml "$1" | "$SBIN/bulkhead-libvirt" --run-dir "$DIR" hook "$@" -; }
hook g1 prepare begin
hook g2 prepare begin
virsh start g1
virsh start g2
wait_for 10 follow_says "g2 runs: its doors are open" || fail "follow: $(cat "$RUN/follow.log")"
virsh destroy g1
wait_for 10 gone known g1 || fail "g1 ended and is still open: $(cat "$RUN/follow.log")"
known g2 || fail "g2 was closed"
say "follow: a guest ends, its doors are closed; the others stay"

hook g1 prepare begin
virsh start g1
pid=$(guest_pid g1) other_pid=$(guest_pid g2)
libvirt_kill
wait_for 10 follow_says "the connection ended" || fail "follow: $(cat "$RUN/follow.log")"
kill -9 "$pid"
sleep 1
{ known g1 && known g2; } || fail "a guest was closed while libvirt was away"
libvirt_start
wait_for 20 gone known g1 || fail "g1 ended while libvirt was away and is still open: $(cat "$RUN/follow.log")"
known g2 || fail "g2 was closed: $(cat "$RUN/follow.log")"
[ "$(guest_pid g2)" = "$other_pid" ] || fail "g2 is another process"
plugged_in g2 vda || fail "QEMU lost vda of g2"
say "follow: libvirtd away, nothing is closed; back, what ended meanwhile is"

bh attach g2 "$RUN/disk.xml" --uri "$LIBVIRT_URI" >/dev/null
wait_for 5 plugged_in g2 vdc || fail "QEMU is not connected to vdc"
wait_for 10 follow_says "g2: device virtio-disk2 was plugged in" || fail "follow: $(cat "$RUN/follow.log")"
bh detach g2 vdc --uri "$LIBVIRT_URI" >/dev/null
wait_for 10 follow_says "g2: device virtio-disk2 was unplugged" || fail "follow: $(cat "$RUN/follow.log")"
if has_door g2 vdc; then fail "vdc still has a door"; fi
say "follow and attach at a time: they do not hinder each other"

# The doors of a running guest, closed by somebody, come back with bulkheadd, and so does QEMU.
stack_stop
wait_for 10 follow_says "bulkheadd in $DIR has ended" || fail "follow: $(cat "$RUN/follow.log")"
stack_start
bh start disk0
wait_for 20 connected g2 vda || fail "the doors of g2 are not open again: $(cat "$RUN/follow.log")"
wait_for 10 plugged_in g2 vda || fail "QEMU is not connected again"
kill -0 "$follower" || fail "follow ended: $(cat "$RUN/follow.log")"
say "follow: bulkheadd is started anew under a running guest: its doors are opened, QEMU connects again"

virsh metadata g2 urn:bulkhead:domain:1 --key bulkhead --live \
    --set "<domain kind='guest' door='vhost-user'><disk dev='vda' file='$RUN/g3.img' driver='disk0'/></domain>"
wait_for 10 gone has_door g2 vdb || fail "vdb is no longer in the metadata, and still has a door"
plugged_in g2 vda || fail "QEMU lost vda of g2"
wait_for 5 follow_says "g2: its metadata changed: its doors are as it says now" || fail "follow: $(cat "$RUN/follow.log")"
virsh destroy g2
wait_for 10 gone known g2 || fail "g2 ended and is still open"
kill "$follower"
say "follow: metadata is changed under a running guest, and its doors with it"

libvirt_hook "$SBIN/bulkhead-libvirt"
libvirt_kill TERM
libvirt_start
stack_stop
vm b7 "$(ours "$of_disk0")" "$(vhost_disk b7 vda)"
vetoed b7 "bulkheadd is not running (no $DIR/bulkheadd.sock): start it with: bulkheadd --run-dir $DIR"
virsh destroy other
virsh start other
guest_is other running || fail "other is $(guest_state other) without bulkheadd"
say "no bulkheadd: guests of ours do not start and are told why; others do"
