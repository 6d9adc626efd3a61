#!/bin/bash
# SPDX-License-Identifier: MIT
# A block device as a guest's disk, past the page cache: read, written, claimed.
. "$(dirname "$0")/lib.bash"
need_root
image backing.img 64M
loop=$(losetup --find --show "$RUN/backing.img" 2>/dev/null) || skip "this machine has no loop devices to make a block device of"
loops+=("$loop")
stack_start
driver disk0

# guest() writes type='file'; a block device has its own element.
block_guest() {
    guest_xml "$@" | sed "s|type='file'|type='block'|; s|<source file=|<source dev=|; s|'writeback'|'none'|" >"$RUN/$1.xml"
    bh define "$RUN/$1.xml"
    bh start "$1"
}
block_guest g1 disk0 "$loop"
[ "$(nbdinfo --size "$(uri g1)")" = $((64 << 20)) ] || fail "the size of a block device is not told"
info disk0 '.fds[].what' | has "$loop" || fail "info does not name $loop"
verified_fio g1 32M
verified_fio g1 32M --rw=randrw --bsrange=512-64k
head -c 64M /dev/urandom >"$RUN/pattern"
nbdcopy --flush "$RUN/pattern" "$(uri g1)"
nbdcopy "$(uri g1)" "$RUN/back"
cmp "$RUN/pattern" "$RUN/back" || fail "what came back is not what went in"
say "a block device, O_DIRECT: fio verified, 64 MiB in and out"

# The claim: while it is served for writing no one else may have it to write.
! flock -n "$loop" true || fail "the device is served and not locked"
bh stop g1 >/dev/null
wait_for 5 flock -n "$loop" true || fail "control: the stopped guest's device is still locked"
cmp "$RUN/pattern" "$loop" || fail "the device does not hold what was written"
say "locked while it is served, free afterwards, data in place"
