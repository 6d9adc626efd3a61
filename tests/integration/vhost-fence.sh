#!/bin/bash
# SPDX-License-Identifier: MIT
# A vhost-user door is killed while a write of its guest is still in the device's
# queue.  The next door is told by the VMM what was in flight and does it again; it may
# not touch the device before the old write is done, or an old block would come back
# over a newer one.
#
# The device is as in fence.sh, and so is the control: a core that does not lock.
. "$(dirname "$0")/lib.bash"
need_root
. "$SOURCE/tests/integration/slow.bash"
. "$SOURCE/tests/integration/vhost.bash"
need_fuse

fenced=$SBIN unfenced=$RUN/unfenced-programs
programs "$unfenced"
install_program "$(helper unfenced_core)" bulkhead-core
SBIN=$fenced
used='(read|write) [2-9]' # by an open that came later than the first door's

opens() { grep -c '^open' "$order"; }
more_opens() { [ "$(opens)" -gt "$1" ]; }
used_later() { [ "$(place "$used")" -gt 0 ]; }

# scene NAME: a write is in the device's queue; its door is killed; there is another.
scene() {
    DIR=$RUN/$1.run
    slow_start "$1"
    stack_start
    driver disk0
    vm_xml g1 "vda=disk0,$slow_dir/disk"
    # O_DIRECT: the write belongs to the kernel alone.
    sed -i "s|<b:disk |&cache='none' |" "$RUN/g1.xml"
    ask open "$RUN/g1.xml" >"$RUN/g1.answer" || fail "open: $(cat "$RUN/g1.answer")"
    settled disk0 || wait_for 10 settled disk0 || fail "$1: disk0 has no spare"
    "$BIN/bulkhead" bench vublk --verify --reconnect --socket "$(door g1 vda)" --seconds 6 --patience 30 \
        --span 1M --depth 8 >"$RUN/$1.vmm" 2>&1 &
    vmm=$!
    wait_for 10 came 'write 1' || fail "$1: no write reaches the device: $(cat "$RUN/$1.vmm")"
    tell_slow hold
    wait_for 10 came 'held 1' || fail "$1: the write does not reach the device"
    local had
    had=$(opens)
    kill -9 "$(info g1 .pid)"
    wait_for 20 more_opens "$had" || fail "$1: nobody opens the device for the next door"
    # Time for one that does not wait to do what it must not.
    sleep 1.5
    kill -0 $vmm || fail "$1: the VMM gave up: $(cat "$RUN/$1.vmm")"
}
finish() { # NAME
    tell_slow apply
    wait_for 20 came 'applied 1' || fail "$1: the held write is not applied"
    wait_for 20 used_later || fail "$1: the next door does not serve: $(cat "$RUN/$1.vmm")"
    wait $vmm || true # this device cannot discard, and the VMM says so
}
close() {
    stack_stop
    slow_stop
}

# ------------------------------------------------------------------------ 1. fenced
scene fenced
! used_later || fail "the next door uses the device before a write of the last one is done"
finish fenced
before 'applied 1' "$used" || fail "the next door used the device before the write was applied"
has '0 blocks lost, 0 stale;.* 0 missing, 0 answered without being asked' "$RUN/fenced.vmm" ||
    fail "a block is not right, or a request was lost: $(cat "$RUN/fenced.vmm")"
has ' 1 reconnects' "$RUN/fenced.vmm" || fail "the VMM was to connect again once: $(cat "$RUN/fenced.vmm")"
close

# ------------------------------------------- 2. control: the same without the fence
SBIN=$unfenced scene unfenced
used_later || fail "control: without the fence the next door should use the device while the old write is on its way"
finish unfenced
before "$used" 'applied 1' || fail "control: the write was applied before the device was used, without a fence"
close
say "a write that outlives its door: the next one waits for it and does again what was in flight; without the fence it does not wait"
