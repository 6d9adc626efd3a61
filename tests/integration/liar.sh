#!/bin/bash
# SPDX-License-Identifier: MIT
# A disk driver domain that answers with a wrong id, or says on the ring what cannot be,
# is replaced like one that died, and the guest's data is right.  The liars are both of its
# processes, the one at work and its spare; what is made after them is the honest program.
# And a guest cannot bring a driver domain down for ever by calling it a liar.
. "$(dirname "$0")/lib.bash"
need_root
programs "$RUN/programs"
install_program "$(helper bad_blk)" bulkhead-blk
stack_start
watch_events
driver disk0
for name in a b c; do image $name.img 32M; done
guest g1 disk0 "$RUN/a.img"
guest g2 disk0 "$RUN/b.img"
guest g3 disk0 "$RUN/c.img"
load g3 16M &
load=$!
lies() { told died '.cause == "broken ring"'; }

# scene GUEST BLOCK WHAT: a liar is asked for that block of 4 KiB, counted from the end.
scene() {
    local guest=$1 at=$(((32 << 20) - 4096 * $2)) file was lied
    wait_for 30 spared disk0 || fail "disk0 has no spare"
    verified_fio "$guest" 8M --randseed=1 # control: where it does not lie it is as good as any
    was=$(incarnation disk0) lied=$(lies)
    install_program "$BUILD/bulkhead-blk" bulkhead-blk
    qemu-io -f raw -t none -c "write -P 0x5a $at 4k" "$(uri "$guest")" >"$RUN/put" 2>&1 || fail "$3: the guest got an error: $(cat "$RUN/put")"
    wait_for 20 reborn disk0 "$was" || fail "$3: disk0 was not replaced"
    wait_for 20 eval "[ \$(lies) -gt $lied ]" || fail "$3: nobody says why: $(last_told died)"
    qemu-io -r -f raw -c "read -P 0x5a $at 4k" "$(uri "$guest")" >"$RUN/get" 2>&1 && ! grep -q failed "$RUN/get" || fail "$3: the guest's data is wrong: $(cat "$RUN/get")"
    file=$RUN/a.img
    [ "$guest" = g1 ] || file=$RUN/b.img
    cmp -s -n 4096 -i "$at:0" "$file" <(head -c 4096 /dev/zero | tr '\0' '\132') || fail "$3: the disk does not hold what was acknowledged"
    kill -0 $load || fail "$3: another guest saw an error"
    say "$3: replaced as a broken ring $(($(lies) - lied)) times until it was the honest one; the data is right"
}
scene g1 2 "a wrong id"
install_program "$(helper bad_blk)" bulkhead-blk
bh restart disk0 >/dev/null # by the liar, and its spare is one too
sleep 1
scene g2 3 "an index that cannot be"
touch "$RUN/enough"
wait $load || fail "another guest saw an error"

# ------------------------------------------------- a guest that calls it a liar again and again
wait_for 30 spared disk0 || fail "disk0 has no spare"
report=/local/domain/$(info g3 .domid)/report/vbd
id=$(XENSTORED_PATH=$DIR/store.sock xenstore-list "$report" | head -n 1)
was=$(incarnation disk0)
for ((n = 1; n <= 8; n++)); do
    XENSTORED_PATH=$DIR/store.sock xenstore-write "$report/$id/lie" "$n bad_id"
    sleep 0.5
done
wait_for 20 running disk0 || fail "disk0 is $(info disk0 .state)"
fell=$(($(incarnation disk0) - was))
[ $fell -ge 1 ] && [ $fell -le 3 ] || fail "eight calls of 'liar' brought disk0 down $fell times"
verified_fio g1 8M
say "a guest that called it a liar 8 times brought it down $fell times, and no more"
