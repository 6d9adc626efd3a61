#!/bin/bash
# SPDX-License-Identifier: MIT
# Random and sequential writes through the NBD door, each block with its own
# checksum, read back and checked; for each way to handle grants.
. "$(dirname "$0")/lib.bash"
stack_start
driver disk0
for grants in persistent copy map; do
    image $grants.img 64M
    guest $grants disk0 "$RUN/$grants.img" nbd '' "grants='$grants'"
    verified_fio $grants 32M
    verified_fio $grants 64M --rw=write --bs=256k --iodepth=8
    verified_fio $grants 64M --rw=randrw --bsrange=512-64k --blockalign=512
    say "$grants: 4 KiB random, 256 KiB sequential, mixed 512 B to 64 KiB verified"
done

# Control: what fio calls verified is really looked at.
verify_again() {
    (cd "$RUN" && fio --name=control --ioengine=nbd --uri="$(uri copy)" --size=64M --rw=read --bs=256k --verify=crc32c \
        --verify_state_save=0 --output="$RUN/control.fio")
}
verified_fio copy 64M --rw=write --bs=256k --iodepth=8
verify_again || fail "fio does not find its own blocks again"
printf 'rubbish' | dd of="$RUN/copy.img" bs=1 seek=$((300 << 10)) conv=notrunc status=none
if verify_again 2>/dev/null; then
    fail "fio verified a disk that was damaged behind its back"
fi
say "control: a damaged block is found"
