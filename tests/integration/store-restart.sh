#!/bin/bash
# SPDX-License-Identifier: MIT
# The store is killed under I/O: it comes back with its tree, everyone's watches
# and connections work, and no request of a guest noticed.
. "$(dirname "$0")/lib.bash"
. "$(dirname "$0")/restart.bash"
need_root
[ -n "$(command -v xenstore-ls)" ] || fail "xenstore-ls is not installed: run deploy/packages"
restart_start
driver disk0
image a.img 32M
image b.img 8M
guest g1 disk0 "$RUN/a.img"
guest_xml g2 disk0 "$RUN/b.img" >"$RUN/g2.xml"
bh define "$RUN/g2.xml"
XENSTORED_PATH=$DIR/store.sock xenstore-write -s /tool/mine "kept"

load g1 32M &
load=$!
another_store() { local now; now=$(store_pid) && [ -n "$now" ] && [ "$now" != "$1" ]; }
same_tree() { tree | diff "$RUN/tree" - >"$RUN/difference"; }
# Heartbeats and counters change by themselves.
tree() { XENSTORED_PATH=$DIR/store.sock xenstore-ls -f -p | grep -vE '^[^ ]*/(ping|pong|stats|stats/[^ ]*) = '; }
# A spare is made and armed in its own time.
settled() {
    tree >"$RUN/tree"
    sleep 0.3
    same_tree
}

for round in 1 2 3 4 5; do
    wait_for 20 settled || fail "round $round: the tree does not come to rest: $(cat "$RUN/difference")"
    grep -q '^/tool/mine = "kept"' "$RUN/tree" || fail "control: xenstore-ls does not show the tree"
    was=$(store_pid)
    kill -9 "$was"
    wait_for 10 another_store "$was" || fail "round $round: no other store comes"
    wait_for 10 same_tree || fail "round $round: another tree: $(cat "$RUN/difference")"
    kill -0 $load || fail "round $round: g1 saw an error"
    bh list >/dev/null || fail "round $round: bulkheadd does not answer"
done
say "five stores killed under load: each time another process with the same tree and permissions"

# Everyone's watches: a start and a rebirth need those of the daemon, a backend and a frontend.
bh start g2 || fail "a guest cannot be started after the deaths of the store"
qemu-io -f raw -c 'write -P 3 0 64k' -c 'read -P 3 0 64k' "$(uri g2)" >/dev/null || fail "its disk"
was=$(info disk0 .incarnation)
bh kill disk0 >/dev/null
wait_for 30 reborn disk0 "$was" || fail "disk0 is not reborn"
qemu-io -f raw -c 'read -P 3 0 64k' "$(uri g2)" >/dev/null || fail "g2's disk after a rebirth"
bh stop g2
tree | has '= "g2"' && fail "g2's nodes were left behind"
kill -0 $load || fail "g1 saw an error"
say "after them a guest starts and stops, and a driver domain is reborn"

# Both at once, and a driver domain with them.
wait_for 20 settled || fail "the tree does not come to rest: $(cat "$RUN/difference")"
was=$(store_pid)
daemon_kill
kill -9 "$was"
sleep 0.3
daemon_again
wait_for 10 another_store "$was" || fail "the next daemon starts no store"
wait_for 10 same_tree || fail "after both died: another tree: $(cat "$RUN/difference")"
was=$(info disk0 .incarnation)
kill -9 "$(info disk0 .pid)" "$(store_pid)"
wait_for 30 reborn disk0 "$was" || fail "disk0 is not reborn when the store dies at the same moment"
touch "$RUN/enough"
wait $load || fail "g1 saw an error, or lost a write"
say "store and daemon, store and driver domain at once: the same; $(cat "$RUN/g1.passes") passes of verified fio, no error"
