# SPDX-License-Identifier: MIT
# load.bash - what guests of the tests do with a disk and a NIC, and how to know that something of it
# is in flight.  For scripts that have sourced lib.bash, slow.bash, libvirt.bash and vm.bash.

# An ext4 with a file of known content in it: contents; format FILE.
contents() {
    mkdir "$RUN/tree"
    head -c 8M /dev/urandom >"$RUN/tree/old"
    sum=$(sha256sum <"$RUN/tree/old")
}
format() { mke2fs -q -F -t ext4 -d "$RUN/tree" "$1"; }

# use_disk GUEST: it reads what is old and writes what is new, again and again; each pass is checked.
use_disk() {
    in_guest "$1" 'mount -t ext4 /dev/vda /mnt' || fail "no disk in $1: $(console "$1" | tail)"
    in_background "$1" reader "until [ -e /tmp/enough ]; do
        [ \"\$(dd if=/mnt/old bs=64k iflag=direct 2>/dev/null | sha256sum)\" = '$sum' ] || exit 1; echo pass; done"
    in_background "$1" fio "until [ -e /tmp/enough ]; do fio --name=new --directory=/mnt --ioengine=libaio --direct=1 --iodepth=16
        --bsrange=4k-32k --size=8M --rw=randwrite --verify=crc32c --verify_backlog=64 --verify_fatal=1 --verify_state_save=0
        --output=/tmp/fio.log --randseed=\$RANDOM || exit 1; echo pass; done"
}
passes() { in_guest "$1" "grep -c pass /tmp/$2.out"; }
# Requests of its disk that nobody has answered.
waits() { in_guest "$1" 'set -- $(cat /sys/block/vda/inflight); echo $(($1 + $2))'; }
many_wait() { [ "$(waits "$1")" -ge 8 ]; }

# use_nic GUEST ADDRESS: one connection each way with "outside", every byte checked, until use_ends.
# The guest sends to port 6002.
use_nic() {
    in_guest "$1" "ip addr add $2/24 dev eth0; ip link set eth0 up"
    wait_for 60 pings outside "$2" || fail "$1 is not reached"
    aside outside "$(helper tcp_check)" serve $OUTSIDE 6002 0 2 >"$RUN/out.bytes" 2>"$RUN/out.log" &
    out=$!
    wait_for 5 listening outside 6002
    in_background "$1" out "tcp_check send $OUTSIDE 6002 0 2"
    in_background "$1" in "tcp_check serve $2 6001 0 1"
    aside outside "$(helper tcp_check)" send "$2" 6001 0 1 2>"$RUN/in.log" &
    in=$!
}
# Bytes that it sent there and nobody has acknowledged.
unacknowledged() { echo $((16#0$(in_guest "$1" "awk '\$3 ~ /:1772\$/ {split(\$5, q, \":\"); print q[1]; exit}' /proc/net/tcp"))); }
some_sent() { [ "$(unacknowledged "$1")" -gt 0 ]; }
carrier_changes() { in_guest "$1" 'cat /sys/class/net/eth0/carrier_changes'; }

# How much slowfs's disk has done.
work() { grep -cE '^(read|write)' "$order" || true; }
worked() { [ "$(work)" -ge "$1" ]; }

# All that is done goes on.
use_lives() {
    kill -0 "$in" 2>/dev/null && kill -0 "$out" 2>/dev/null || fail "after $2 a connection ended: $(cat "$RUN"/{in,out}.log)"
    ! job_ended "$1" fio && ! job_ended "$1" reader || fail "after $2: $(job_says "$1" fio) $(job_says "$1" reader) $(vm_complaints "$1")"
}

# caught GUEST NAME BUSY COUNT: NAME's process is stopped while COUNT GUEST is not 0, which is added to $waited.
# What is stopped answers nothing any more, so that is in flight until somebody else does it.
caught() {
    local pid now=0
    pid=$(info "$2" .pid)
    for _ in $(seq 20); do
        wait_for 120 "$3" "$1" || fail "$1 has nothing in flight: $(job_says "$1" fio) $(vm_complaints "$1")"
        kill -STOP "$pid"
        now=$("$4" "$1")
        [ "$now" -eq 0 ] || break
        kill -CONT "$pid" # all was answered before: again
    done
    [ "$now" -gt 0 ] || fail "$2 is never caught with something in flight"
    waited=$((waited + now))
}

# use_ends GUEST: in order, and all was right.
use_ends() {
    local job complaints
    in_guest "$1" 'touch /tmp/enough'
    kill -TERM "$in"
    in_guest "$1" 'for pid in $(pidof tcp_check); do grep -qz send /proc/$pid/cmdline && kill -TERM $pid; done; true'
    for job in fio reader in out; do job_done "$1" $job 120; done
    wait "$in" || fail "to the guest: $(cat "$RUN/in.log")"
    wait "$out" || fail "from the guest: $(cat "$RUN/out.log")"
    [ "$(cat "$RUN/out.bytes")" -gt 100000 ] && [ "$(job_says "$1" in)" -gt 100000 ] ||
        fail "hardly a byte came: $(cat "$RUN/out.bytes") out, $(job_says "$1" in) in"
    [ "$(passes "$1" fio)" -gt 0 ] && [ "$(passes "$1" reader)" -gt 0 ] || fail "not one pass was finished"
    complaints=$(vm_complaints "$1")
    [ -z "$complaints" ] || fail "the guest's kernel says: $complaints"
    say "$(passes "$1" fio) passes of fio and $(passes "$1" reader) of the reader, every block right;" \
        "TCP $(($(cat "$RUN/out.bytes") >> 10)) KiB out, $(($(job_says "$1" in) >> 10)) KiB in, every byte right"
    in_guest "$1" 'umount /mnt && e2fsck -fn /dev/vda' >"$RUN/e2fsck" || fail "the guest finds: $(cat "$RUN/e2fsck")"
}
image_clean() { e2fsck -fn "$1" >"$RUN/e2fsck" 2>&1 || fail "e2fsck of $1: $(cat "$RUN/e2fsck")"; }
