#!/bin/bash
# SPDX-License-Identifier: MIT
# A guest behind a vhost-user door, with a VMM that is not QEMU: its sockets, its
# door and its driver domain killed under load, and what is refused.
. "$(dirname "$0")/lib.bash"
. "$(dirname "$0")/restart.bash"
. "$(dirname "$0")/vhost.bash"
KILLS=${VHOST_KILLS:-6}
restart_start
driver disk0 1 "$STEADY"
image a.img 64M
image b.img 64M

# ------------------------------------------------------------------- 1. open, close
vm_open g1 "vda=disk0,$RUN/a.img" "vdb=disk0,$RUN/b.img"
running g1 || fail "open answered and g1 is $(info g1 .state)"
for dev in vda vdb; do
    [ "$(stat -c %A "$(door g1 $dev)")" = srw-rw---- ] || fail "$(ls -l "$(door g1 $dev)")"
    [ "$(info g1 '.disks[] | select(.dev == "'$dev'") | .socket')" = "$(door g1 $dev)" ] || fail "info: $(info g1 .disks)"
done
group=$(getent group libvirt-qemu | cut -d: -f3) || true
[ -z "$group" ] || [ "$(stat -c %g "$(door g1 vda)")" = "$group" ] || fail "$(ls -n "$(door g1 vda)")"
[ "$(info g1 .class)" = vhost-user ] || fail "class $(info g1 .class)"
vmm g1 vda 2 || fail "its VMM: $(tail -n 3 "$RUN/vmm-g1-vda")"
vm_close g1
[ ! -e "$DIR/guests/g1" ] && [ ! -e "$DIR/domains/g1.xml" ] || fail "close left something: $(ls "$DIR/guests" "$DIR/domains")"
vm_close g1
say "open: sockets for root and the group of QEMU, a disk that keeps what it is given; close: nothing is left"

# The same by hand, for a VMM that libvirt does not know.
vm_xml g1 "vda=disk0,$RUN/a.img"
bh define "$RUN/g1.xml"
bh start g1
vmm g1 vda 1 || fail "a guest that was defined: $(tail -n 3 "$RUN/vmm-g1-vda")"
bh stop g1
[ -e "$DIR/domains/g1.xml" ] || fail "stop forgot what was defined"
bh undefine g1
say "define, start, stop: as for every other guest"

# ------------------------------------------------------------- 2. deaths under load
vm_open g1 "vda=disk0,$RUN/a.img" "vdb=disk0,$RUN/b.img"
wait_for 10 spared disk0 || fail "disk0 has no spare"
vmm_load g1 vda &
vmm1=$!
vmm_load g1 vdb --packed &
vmm2=$!
goes_on() {
    kill -0 $vmm1 2>/dev/null || fail "$1: $(tail -n 3 "$RUN/vmm-g1-vda")"
    kill -0 $vmm2 2>/dev/null || fail "$1: $(tail -n 3 "$RUN/vmm-g1-vdb")"
}
sleep 0.5
for ((n = 0; n < KILLS; n++)); do
    name=$([ $((n % 2)) = 0 ] && echo g1 || echo disk0)
    was=$(incarnation $name)
    sleep 0.$((RANDOM % 5 + 1))
    goes_on "before kill $n"
    kill -9 "$(info $name .pid)"
    wait_for 30 reborn $name "$was" || fail "kill $n: $name does not come back"
    [ $name = g1 ] || wait_for 30 spared disk0 || fail "kill $n: disk0 has no spare any more"
done
vmm_enough $vmm1 $vmm2
say "$KILLS kills of door and driver domain in turn under load: every block right, every request answered once"

# --------------------------------------------------------------------- 3. refusals
refused() { # SENTENCE COMMAND...
    local want=$1 got
    shift
    got=$(sentence "$@")
    [ "$got" = "$want" ] || fail "'$*' said: $got"
}
nothing_of() { [ ! -e "$DIR/guests/$1" ] && [ ! -e "$DIR/domains/$1.xml" ] || fail "$1 was refused and left something"; }
xml=$RUN/g2.xml
vm_xml g2 "vda=disk9,$RUN/b.img"
refused "disk vda of g2 names driver domain disk9, which is not defined: define it first" open "$xml"
nothing_of g2
bh stop g1
bh stop disk0
vm_xml g2 "vda=disk0,$RUN/b.img"
refused "driver domain disk0 is not running: start it first" open "$xml"
nothing_of g2
bh start disk0
bh start g1
refused "disk vda of g2: $RUN/b.img is in use by another (waited 5 s)" open "$xml"
wait_for 5 nothing_of g2
vm_xml g2 "vda=disk0,$RUN"
refused "disk vda of g2: cannot open $RUN: only regular files and block devices can be served" open "$xml"
vm_xml g2 "vda=disk0,$RUN/c.img"
image c.img 16M
plugged() { # PATH: with <devices>, as libvirt has it
    grep -v '^</domain>' "$xml"
    cat <<XML
  <devices>
    <disk type='vhostuser' device='disk'>
      <driver name='qemu' type='raw'/>
      <source type='unix' path='$1'><reconnect enabled='yes' timeout='1'/></source>
      <target dev='vda' bus='virtio'/>
    </disk>
  </devices>
</domain>
XML
}
plugged "$RUN/guests/g2/vda.sock" >"$RUN/plugged.xml"
refused "$RUN/plugged.xml:5: the socket of vda is path='$(door g2 vda)' in <source>, not '$RUN/guests/g2/vda.sock'" open "$RUN/plugged.xml"
nothing_of g2
plugged "$(door g2 vda)" >"$RUN/plugged.xml"
ask open "$RUN/plugged.xml" >/dev/null || fail "control: with the right path it is opened"
vmm g2 vda 1 || fail "$(tail -n 3 "$RUN/vmm-g2-vda")"
vm_close g2
echo "<domain type='kvm'><name>other</name></domain>" >"$RUN/other.xml"
[ "$(ask open "$RUN/other.xml" | jq -c .mine)" = false ] || fail "a guest that has nothing of ours"
nothing_of other
said=$("$SBIN/bulkheadd" --run-dir "$RUN/other" --guest-group no-such-group 2>&1) && fail "a group that is not there"
[ "$said" = "bulkheadd: there is no group 'no-such-group': --guest-group is who runs QEMU" ] || fail "it said: $said"
say "refused, each with its sentence, and nothing left of it: no driver domain, one that does not run, another's image, a directory, another's socket, no such group"
