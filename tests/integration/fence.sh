#!/bin/bash
# SPDX-License-Identifier: MIT
# The fence.  A driver domain is killed while a write of its own is still in the
# device's queue.  Its successor may not touch the device before that write is
# done, or an old block would come back over a newer one.
#
# The device is a file on a file system of ours that holds a write for as long
# as we like, and tells in which order things reached it.  The control is the
# same run with a core that does not lock: there the old block must come back.
. "$(dirname "$0")/lib.bash"
need_root
. "$SOURCE/tests/integration/slow.bash"
need_fuse

# A folder of programs whose core has no fence; bulkheadd runs what lies beside it.
fenced=$SBIN unfenced=$RUN/unfenced-programs
programs "$unfenced"
install_program "$(helper unfenced_core)" bulkhead-core
SBIN=$fenced

# --------------------------------------------------------------------- the guest
put() { qemu-io -f raw -t none -c "write -P $1 0 4k" "$(uri g1)" >"$RUN/put" 2>&1; }
holds() { qemu-io -r -f raw -c "read -P $1 0 4k" "$(uri g1)" >"$RUN/get" 2>&1 && ! grep -q failed "$RUN/get"; }
file_holds() { cmp -s -n 4096 "$RUN/$1.img" <(head -c 4096 /dev/zero | tr '\0' "$2"); }

# scene NAME CACHE: A is in the device's queue; its driver domain is killed; the
# guest, which hears of no death, writes B when A is acknowledged.
scene() {
    DIR=$RUN/$1.run acked=$RUN/$1.acked
    slow_start "$1"
    stack_start
    driver disk0
    guest_xml g1 disk0 "$slow_dir/disk" | sed "s|'writeback'|'$2'|" >"$RUN/g1.xml"
    bh define "$RUN/g1.xml"
    bh start g1
    put 0x30 || fail "$1: the guest cannot write: $(cat "$RUN/put")"

    tell_slow hold
    (put 0x41 && put 0x42 && touch "$acked") &
    writer=$!
    wait_for 10 came 'held 1' || fail "$1: the write does not reach the device"
    file_holds "$1" 0 || fail "$1: a write that is held is in the file"
    bh kill disk0 >/dev/null
}

finish() { # NAME
    wait_for 20 came 'applied 1' || fail "$1: the held write is not applied"
    wait_for 30 test -e "$acked" || fail "$1: the guest saw an error, or waits for ever: $(cat "$RUN/put")"
    wait "$writer"
}
close() {
    stack_stop
    slow_stop
}

# ------------------------------------------------ 1. fenced, a device that is slow
# O_DIRECT: the write belongs to the kernel alone; its process dies at once.
scene fenced none
wait_for 20 eval '[ "$(incarnation disk0)" -gt 1 ]' || fail "the successor does not start while its predecessor's write is on its way"
wait_for 20 came 'open 2' || fail "nobody opens the device for the successor"
# Time for a successor that does not wait to do what it must not.
sleep 1.5
[ "$(place '(read|write) 2')" = 0 ] || fail "the successor uses the device before its predecessor's write is done"
[ ! -e "$acked" ] || fail "B is acknowledged while A is still on its way"
tell_slow apply
finish fenced
before 'open 2' 'applied 1' || fail "the successor's device was not opened before A was applied: nothing was fenced"
before 'applied 1' '(read|write) 2' || fail "the successor used the device before A was applied"
holds 0x42 && file_holds fenced B || fail "the block is not the one that was acknowledged last"
close

# ------------------------------------------- 2. control: the same without the fence
SBIN=$unfenced scene unfenced none
wait_for 30 test -e "$acked" || fail "control: without the fence B should be acknowledged while A is on its way"
file_holds unfenced B || fail "control: B is acknowledged and not in the file"
tell_slow apply
finish unfenced
before 'write 2' 'applied 1' || fail "control: A was applied before B without a fence"
holds 0x41 && file_holds unfenced A || fail "control: no stale block without the fence, so the fence proves nothing"
close

# ----------------------------------------- 3. fenced, through a thread of the kernel
# Not O_DIRECT: a thread of the kernel sits in the write.  There is no control, for
# it keeps the file locked against other writers on its own.
scene worker writeback
sleep 1.5
[ "$(place '(read|write) 2')" = 0 ] && [ ! -e "$acked" ] || fail "by a thread: the successor does not wait"
tell_slow apply
finish worker
before 'applied 1' '(read|write) 2' || fail "by a thread: the successor used the device before A was applied"
holds 0x42 && file_holds worker B || fail "by a thread: the block is not the one that was acknowledged last"
close
say "a write that outlives its driver domain: the successor waits for it, B stays; without the fence A comes back"
