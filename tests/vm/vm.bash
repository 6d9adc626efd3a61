# SPDX-License-Identifier: MIT
# vm.bash - stock guests under libvirt, for scripts that have sourced lib.bash and libvirt.bash.
#
#   vm_image
#   libvirt_start
#   vm_disk g1 vda disk0 "file='$RUN/a.img'"     # the document grows
#   vm_nic g1 eth0 net0 52:54:00:aa:00:01
#   vm_define g1                                 # virsh define --validate
#   vm_start g1                                  # virsh start; returns when the guest's init is ready
#   in_guest g1 'uname -r'                       # a line for its shell; output and status are the guest's
#   in_background g1 load 'while ...; done'      # a job of the guest
#   vm_stop g1
#
# QEMU 7.2 dies of a vhost-user NIC with MSI-X under TCG, hence pci=nomsi.
VM_DIR=$BUILD/tests/vm
VM_MEMORY_MIB=${VM_MEMORY_MIB:-384}
VM_NUMA=${VM_NUMA:-} # yes: memory is shared cell by cell, instead of all
VM_PATIENCE=${VM_PATIENCE:-120} # seconds: a guest that says nothing for that long is lost
declare -A vm_in vm_out

vm_image() { BUILD=$BUILD "$SOURCE/tests/vm/guest-image" "$VM_DIR" || fail "no guest to boot"; }

# Ours or, without a driver domain, just a vhost-user disk: vm_disk GUEST DEV DRIVER BACKING [SOCKET]
vm_disk_xml() {
    cat <<XML
<disk type='vhostuser' device='disk'>
  <driver name='qemu' type='raw'/>
  <source type='unix' path='${4:-$DIR/guests/$1/$2.sock}'><reconnect enabled='yes' timeout='1'/></source>
  ${3:+<backenddomain name='$3'/>}
  <target dev='$2' bus='virtio'/>
</disk>
XML
}
vm_disk() {
    vm_disk_xml "$1" "$2" "$3" "${5:-}" >>"$RUN/$1.devices"
    [ -z "$3" ] || echo "<b:disk dev='$2' driver='$3' $4/>" >>"$RUN/$1.ours"
}

# vm_nic GUEST DEV DRIVER MAC [INSIDE OUR ELEMENT]
vm_nic_xml() {
    cat <<XML
<interface type='vhostuser'>
  <mac address='$4'/>
  <source type='unix' path='$DIR/guests/$1/$2.sock' mode='client'><reconnect enabled='yes' timeout='1'/></source>
  <backenddomain name='$3'/>
  <model type='virtio'/>
</interface>
XML
}
vm_nic() {
    vm_nic_xml "$@" >>"$RUN/$1.devices"
    echo "<b:interface dev='$2' driver='$3'><mac address='$4'/>${5:-}</b:interface>" >>"$RUN/$1.ours"
}

# vm_ready_door GUEST ELEMENT: a door that nothing is plugged into yet.
vm_ready_door() { echo "$2" >>"$RUN/$1.ours"; }

vm_xml() {
    local port
    cat <<XML
<domain type='${VM_TYPE:-qemu}'>
  <name>$1</name>
  <metadata>
XML
    [ ! -e "$RUN/$1.ours" ] || cat <<XML
    <b:domain xmlns:b='urn:bulkhead:domain:1' kind='guest' door='vhost-user'>
$(cat "$RUN/$1.ours")
    </b:domain>
XML
    cat <<XML
  </metadata>
  <memory unit='MiB'>$VM_MEMORY_MIB</memory>
  <vcpu>1</vcpu>
  <memoryBacking><source type='memfd'/>$([ -n "${VM_NUMA:-}" ] || echo "<access mode='shared'/>")</memoryBacking>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>$VM_DIR/vmlinuz</kernel>
    <initrd>$VM_DIR/initrd</initrd>
    <cmdline>console=ttyS0 quiet loglevel=5 pci=nomsi no_timer_check mitigations=off panic=-1</cmdline>
  </os>
  <features><acpi/><apic/></features>
  <cpu mode='maximum' check='none'>
    ${VM_NUMA:+<numa><cell id='0' cpus='0' memory='$VM_MEMORY_MIB' unit='MiB' memAccess='shared'/></numa>}
  </cpu>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>destroy</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='none'/>
$(for port in $(seq "${VM_ROOT_PORTS:-0}"); do echo "<controller type='pci' index='$port' model='pcie-root-port'/>"; done)
$(cat "$RUN/$1.devices")
    <serial type='file'><source path='$LIBVIRT_GUESTS/$1.console'/><target port='0'/></serial>
    <serial type='pipe'><source path='$LIBVIRT_GUESTS/$1.talk'/><target port='1'/></serial>
    <memballoon model='none'/>
  </devices>
</domain>
XML
}

vm_define() {
    local end
    vm_xml "$1" >"$RUN/$1.xml"
    for end in in out; do
        [ -p "$LIBVIRT_GUESTS/$1.talk.$end" ] || mkfifo -m 600 "$LIBVIRT_GUESTS/$1.talk.$end"
        chown "$LIBVIRT_QEMU_USER" "$LIBVIRT_GUESTS/$1.talk.$end"
    done
    exec {vm_in[$1]}<>"$LIBVIRT_GUESTS/$1.talk.in" {vm_out[$1]}<>"$LIBVIRT_GUESTS/$1.talk.out"
    virsh define --validate "$RUN/$1.xml" || fail "libvirt does not take the guest: $(cat "$RUN/$1.xml")"
}

# Does it boot? vm_start: it must.
vm_boots() {
    local line
    # It waits for sockets that are not there, for ever.
    timeout "$VM_PATIENCE" virsh --quiet --connect "$LIBVIRT_URI" start "$1" && vm_read "$1" && [[ $line == ready\ * ]]
}
vm_start() { vm_boots "$1" || fail "$1 does not boot: $(console "$1" 2>&1 | tail -n 20)"; }

vm_stop() {
    virsh destroy "$1" >/dev/null || fail "$1 is not to be stopped"
    wait_for 30 guest_is "$1" 'shut off' || fail "$1 does not stop"
}

# The hook has closed its door.
doorless() { ! bh --json list | jq -e --arg name "$1" 'any(.[]; .name == $name)'; }

console() { tr -d '\r' <"$LIBVIRT_GUESTS/$1.console"; }

# One line of the guest's, in $line.  NUDGE, once it is up: a serial port of TCG loses an interrupt now and then,
# and then sits on what it has until something else comes; an empty line is that.
vm_read() { # GUEST [NUDGE]
    local part end=$((SECONDS + VM_PATIENCE))
    line=
    until IFS= read -r -t 1 -u "${vm_out[$1]}" part && line+=$part; do
        line+=$part
        [ $SECONDS -lt $end ] || return 1
        guest_is "$1" running || return 1
        [ -z "${2:-}" ] || echo >&"${vm_in[$1]}"
    done
}

in_guest() {
    local line id=${EPOCHREALTIME//[!0-9]/}
    printf '%s %s\n' "$id" "${2//$'\n'/ }" >&"${vm_in[$1]}" # one line, however it is written
    while vm_read "$1" nudge; do
        case $line in
        "$id|"*) echo "${line#*|}" ;;
        "$id="*) return "${line#*=}" ;;
        esac
    done
    echo "$1 does not answer to: $2" >&2
    return 125
}

# in_background GUEST JOB COMMAND: job_ended, job_status and job_says are about it.
in_background() { in_guest "$1" "rm -f /tmp/$2.status; { ( $3 ); echo \$? >/tmp/$2.status; } >/tmp/$2.out 2>&1 &"; }
job_ended() { in_guest "$1" "test -e /tmp/$2.status"; }
job_status() { in_guest "$1" "cat /tmp/$2.status"; }
job_says() { in_guest "$1" "tail -n ${3:-10} /tmp/$2.out"; }
# job_done GUEST JOB SECONDS: it ends in that time, and well.
job_done() {
    wait_for "$3" job_ended "$1" "$2" || fail "'$2' in $1 does not end: $(job_says "$1" "$2")"
    [ "$(job_status "$1" "$2")" = 0 ] || fail "'$2' in $1 failed: $(job_says "$1" "$2" 30) $(vm_complaints "$1")"
}

# What its kernel holds against its devices; nothing, when all is well.
vm_complaints() {
    in_guest "$1" "dmesg | grep -E 'not a head|I/O error|EXT4-fs (error|warning)|blocked for more than|Call Trace|BUG:|WATCHDOG|[Aa]bort|virtio.*[Ee]rror' || true"
}
