#!/bin/bash
# SPDX-License-Identifier: MIT
# A guest's own door is killed: its NBD clients find the same socket and all that
# was acknowledged, its network interface stays with address and connections.
. "$(dirname "$0")/lib.bash"
. "$(dirname "$0")/restart.bash"
need_root
KILLS=${FRONTEND_KILLS:-8}
wire 1500
restart_start
driver disk0
net_driver net0 "$(uplink)"
image a.img 16M
guest g1 disk0 "$RUN/a.img"
tap_guest red net0 $NET.1
wait_for 10 pings red $OUTSIDE || fail "nobody is there to begin with"

# ------------------------------------------------------------------------- 1. a disk
# QEMU's own client connects again and repeats what was not answered.
client='json:{"driver":"raw","file":{"driver":"nbd","export":"vda","reconnect-delay":30,"server":{"type":"unix","path":"'$DIR/guests/g1/nbd.sock'"}}}'
socket=$(stat -c %i "$DIR/guests/g1/nbd.sock")
writes() { # every block of 16 KiB, each with its own pattern, one after the other, again and again
    local block pass=0
    until [ -e "$RUN/enough" ]; do
        pass=$((pass + 1))
        for ((block = 0; block < 1024; block++)); do
            echo "write -P $(((block + pass) % 255 + 1)) $((block * 16))k 16k"
        done >"$RUN/commands"
        qemu-io "$client" <"$RUN/commands" >"$RUN/qemu-io" 2>&1 || return 1
        ! grep -qi 'failed\|error' "$RUN/qemu-io" || return 1
        echo $pass >"$RUN/passes"
    done
}
writes &
writer=$!
for ((n = 0; n < KILLS; n++)); do
    was=$(info g1 .incarnation)
    sleep 0.$((RANDOM % 5 + 3))
    kill -9 "$(info g1 .pid)"
    wait_for 30 reborn g1 "$was" || fail "kill $n: g1's door does not come back"
    kill -0 $writer 2>/dev/null || fail "kill $n: the client got an error: $(grep -i 'failed\|error' "$RUN/qemu-io" | head -n 3)"
done
touch "$RUN/enough"
wait $writer || fail "the client got an error: $(grep -i 'failed\|error' "$RUN/qemu-io" | head -n 3)"
rm "$RUN/enough"
pass=$(cat "$RUN/passes")
for ((block = 0; block < 1024; block++)); do
    echo "read -P $(((block + pass) % 255 + 1)) $((block * 16))k 16k"
done >"$RUN/commands"
qemu-io "$client" <"$RUN/commands" >"$RUN/qemu-io" 2>&1 || fail "reading back"
! grep -qi 'failed\|error' "$RUN/qemu-io" || fail "an acknowledged write is not there: $(grep -i 'failed\|error' "$RUN/qemu-io" | head -n 1)"
[ "$(stat -c %i "$DIR/guests/g1/nbd.sock")" = "$socket" ] || fail "the door's socket is another one"
say "$KILLS kills of an NBD door: same socket, its client went on by itself, every acknowledged block right ($pass passes)"

# --------------------------------------------------------------------- 2. an interface
link() { on red ip -o addr show eth0 | tr -s ' ' | cut -d' ' -f1-6; }
before=$(link) changes=$(link_file red carrier_changes) index=$(link_file red ifindex)
stream red outside $OUTSIDE 6000 &
stream=$!
for ((n = 0; n < KILLS; n++)); do
    was=$(info red .incarnation)
    sleep 0.$((RANDOM % 5 + 3))
    kill -9 "$(info red .pid)"
    on red ip link show eth0 >/dev/null || fail "kill $n: the interface went with the door"
    wait_for 30 reborn red "$was" || fail "kill $n: red's door does not come back"
    kill -0 $stream 2>/dev/null || fail "kill $n: the TCP stream broke: $(tail -n 2 "$RUN/tcp_check")"
done
touch "$RUN/enough"
wait $stream || fail "the TCP stream broke: $(tail -n 2 "$RUN/tcp_check")"
[ "$(link)" = "$before" ] && [ "$(link_file red ifindex)" = "$index" ] || fail "the interface is another one: $(link), it was $before"
[ "$(link_file red carrier)" = 1 ] && [ "$(link_file red carrier_changes)" = "$changes" ] || fail "the interface lost its carrier"
say "$KILLS kills of a TAP door: same interface, address and carrier; checked TCP went on ($(cat "$RUN/red.streams") streams of 256 MiB)"

# It goes when the guest is stopped, and only then.
bh stop red
wait_for 5 eval "! nsenter --net=/run/netns/$(netns red) ip link show eth0" || fail "the interface of a stopped guest is still there"
bh start red
on red ip link show eth0 >/dev/null || fail "the interface is not there again"
say "a stopped guest has no interface; started again it has"
