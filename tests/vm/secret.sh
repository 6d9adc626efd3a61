#!/bin/bash
# SPDX-License-Identifier: MIT
# What a guest keeps to itself is nowhere in its driver domains: they map pools and none of the guest's
# memory.  Each mapping of theirs is searched for a secret that sits in the guest's RAM and was
# never given to a device.  Controls: what the guest did write and send is found there; the secret is found in
# the guest's own side (QEMU, its door), and in a plain vhost-user backend.
. "$(dirname "$0")/../integration/lib.bash"
. "$(dirname "$0")/libvirt.bash"
. "$(dirname "$0")/vm.bash"
. "$(dirname "$0")/plain.bash"
need_root
vm_image
libvirt_start

# readable PID: its mappings that can be read, "BEGIN BYTES" each.
readable() {
    local range perms rest
    while read -r range perms rest; do
        case "$perms $rest" in
        r*'[vvar'* | r*'[vsyscall'*) ;; # the kernel's, and the same for everyone
        r*) echo "$((16#${range%-*})) $((16#${range#*-} - 16#${range%-*}))" ;;
        esac
    done <"/proc/$1/maps"
}
memory() {
    local begin bytes
    readable "$1" | while read -r begin bytes; do
        dd if="/proc/$1/mem" bs=1M iflag=skip_bytes,count_bytes skip="$begin" count="$bytes" status=none
    done
}
# times PID STRING: how often it is there. All that can be read must have been searched.
times() {
    local total
    total=$(readable "$1" | awk '{s += $2} END {print s}')
    memory "$1" 2>"$RUN/memory.log" | tee >(wc -c >"$RUN/searched") | { grep -azoF "$2" || true; } | tr '\0' '\n' | wc -l
    wait_for 5 test -s "$RUN/searched"
    [ "$(cat "$RUN/searched")" = "$total" ] || fail "of $total bytes of $1 $(cat "$RUN/searched") could be read: $(cat "$RUN/memory.log")"
}
there() { [ "$(times "$1" "$2")" -gt 0 ]; }

# guest_uses NAME: a secret in its memory; something else on its disk. Both strings are made in the guest.
guest_uses() {
    secret=$(in_guest "$1" 'head -c 32 /dev/urandom | sha256sum | cut -c1-40 | tee /tmp/secret; for i in $(seq 2000); do cat /tmp/secret; done >/tmp/secrets')
    in_guest "$1" "SECRET=$secret sleep 1000 >/dev/null 2>&1 &"
    written=$(in_guest "$1" 'head -c 32 /dev/urandom | sha256sum | cut -c1-40 | tee /tmp/written')
    [ ${#secret} -eq 40 ] && [ ${#written} -eq 40 ] || fail "$1 has no secret"
    in_guest "$1" "mount -t ext4 /dev/vda /mnt && for i in \$(seq 100); do cat /tmp/written; done >/mnt/written && sync && umount /mnt" ||
        fail "$1 does not write"
}

# -------------------------------------------------------------------------- ours
wire 1500
stack_start
image a.img 64M
mke2fs -q -F -t ext4 "$RUN/a.img"
driver disk0
net_driver net0 "$(uplink)"
vm_disk g1 vda disk0 "file='$RUN/a.img'"
vm_nic g1 eth0 net0 52:54:00:77:00:01
vm_define g1
vm_start g1
guest_uses g1
in_guest g1 "ip addr add $NET.1/24 dev eth0; ip link set eth0 up"
wait_for 60 pings outside $NET.1 || fail "the guest is not reached"
mkfifo "$RUN/never"
exec {never}<>"$RUN/never" # nc ends when its own input does
aside outside busybox nc -l -p 9 >"$RUN/got" 2>&1 <&"$never" &
listener=$!
wait_for 5 listening outside 9
in_guest g1 "for i in \$(seq 100); do cat /tmp/written; done | nc -w 20 $OUTSIDE 9" || fail "the guest does not send"
wait $listener || true
has -F "$written" "$RUN/got" || fail "what the guest sent does not come"

core=$(pgrep -P "$daemon" bulkhead-core)
wait_for 30 spared disk0 && wait_for 30 spared net0 || fail "there are no spares"
qemu=$(guest_pid g1)
ram=$(awk '/memfd:memory-backend-memfd/ {print $4 " " $5; exit}' "/proc/$qemu/maps")
[ -n "$ram" ] || fail "QEMU's maps do not show the guest's RAM: $(grep -F memfd "/proc/$qemu/maps")"
door=$(info g1 .pid)
for pid in $(pgrep -P "$core" 'bulkhead-(blk|net)$'); do
    what=$(tr '\0' ' ' <"/proc/$pid/cmdline")
    # Whatever it shares with anyone is a pool; io_uring, a packet ring and DPDK's heap are its own.
    shared=$(awk '$2 ~ /s$/ {print $6}' "/proc/$pid/maps" | sort | uniq -c | awk '{printf "%s%d x %s", sep, $1, $2; sep = ", "}')
    other=$(awk '$2 ~ /s$/ && $6 !~ /^(\/memfd:(bulkhead-pool|nohuge)$|anon_inode:\[io_uring\]$|socket:)/ {print}' "/proc/$pid/maps")
    [ -z "$other" ] || fail "$what maps something that is no pool: $other"
    awk '{print $4 " " $5}' "/proc/$pid/maps" | has -xF "$ram" && fail "$what maps the guest's RAM"
    ls -lL "/proc/$pid/fd" >/dev/null # it lives: what follows reads something
    for fd in "/proc/$pid/fd/"*; do
        [ "$(stat -Lc '%i' "$fd" 2>/dev/null)" != "${ram#* }" ] || fail "$what holds the guest's RAM as a descriptor"
    done
    ! there "$pid" "$secret" || fail "$what has the guest's secret $(times "$pid" "$secret") times"
    say "$what(pid $pid): $(($(cat "$RUN/searched") >> 10)) KiB searched, no secret; shares $shared"
done
there "$(info disk0 .pid)" "$written" || fail "control: what the guest wrote is not found in disk0: the search finds nothing"
there "$(info net0 .pid)" "$written" || fail "control: what the guest sent is not found in net0: the search finds nothing"
say "control: what the guest wrote is in disk0, what it sent is in net0"
awk '{print $4 " " $5}' "/proc/$door/maps" | has -xF "$ram" || fail "control: the door does not map the guest's RAM either"
there "$door" "$secret" && there "$qemu" "$secret" || fail "control: the secret is not in the guest's own memory"
say "control: the secret is in the guest's own RAM, as QEMU and its door see it"
vm_stop g1

# ----------------------------------------------------------------------- control
image plain.img 64M
mke2fs -q -F -t ext4 "$RUN/plain.img"
plain_start plain "$RUN/plain.img"
vm_disk g2 vda '' '' "$RUN/plain.sock"
vm_define g2
vm_start g2
guest_uses g2
there "$plain" "$secret" || fail "control: the secret is not in the plain backend"
say "control: a plain vhost-user backend has the secret $(times "$plain" "$secret") times" \
    "in $(($(cat "$RUN/searched") >> 20)) MiB, and it was not written either"
