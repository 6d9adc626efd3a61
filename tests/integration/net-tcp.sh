#!/bin/bash
# SPDX-License-Identifier: MIT
# TCP whose every byte is checked, from guest to guest and between a guest and the
# outside: segmentation and checksum offload on and off, usual and jumbo frames.
# TCP_CHECK_MIB (64) goes each of three ways in each of the eight combinations, and by IPv6:
# with 384 that is 10 GiB in all, with 10240 it is 10 GiB each.
. "$(dirname "$0")/lib.bash"
need_root
mib=${TCP_CHECK_MIB:-64}
wire 9000
stack_start
net_driver net0 "$(uplink)" 9000
tap_guest red net0 $NET.1 mtu=9000
tap_guest blue net0 $NET.2 mtu=9000

wait_for 10 pings red $NET.2 || fail "red does not reach blue"
wait_for 10 pings red $OUTSIDE || fail "red does not reach the outside"
wait_for 10 pings outside $NET.2 || fail "the outside does not reach blue"
for pair in "red $NET.2" "red $OUTSIDE" "outside $NET.2"; do
    # shellcheck disable=SC2086
    set -- $pair
    on "$1" ping -q -c 1 -W 2 -M do -s 8972 "$2" >/dev/null || fail "no jumbo frame from $1 to $2"
    if on "$1" ping -q -c 1 -W 1 -M do -s 8973 "$2" >/dev/null 2>&1; then
        fail "control: a frame that is longer than the MTU came through from $1"
    fi
done
say "ping, and ping with 9000 bytes: guest to guest, guest to outside, outside to guest"

# Control: one wrong byte of a transfer is found.
if transfer red blue $NET.2 8 5000000 >/dev/null 2>&1; then
    fail "a transfer with a wrong byte passed"
fi
grep -q 'the byte at 5000000 is wrong' "$RUN/tcp_check" || fail "a wrong byte is told as: $(cat "$RUN/tcp_check")"
say "control: a byte that was sent wrong is found"

sent() { link_file red "statistics/tx_$1"; }
total=0
printf '  %-6s %-5s %-9s %14s %14s %14s   %s\n' MTU TSO checksum 'red to blue' 'to outside' 'from outside' 'bytes a packet'
for mtu in 1500 9000; do
    for name in red blue outside; do on $name ip link set eth0 mtu $mtu; done
    for tso in on off; do
        for csum in on off; do
            for name in red blue; do
                on $name ethtool -K eth0 tx $csum >/dev/null
                on $name ethtool -K eth0 tso $tso gso $tso >/dev/null 2>&1 || true # no TSO without checksums
            done
            packets=$(sent packets) bytes=$(sent bytes)
            between=$(transfer red blue $NET.2 "$mib") || fail "MTU $mtu, TSO $tso, checksum $csum, red to blue: $(cat "$RUN/tcp_check")"
            length=$((($(sent bytes) - bytes) / ($(sent packets) - packets)))
            out=$(transfer red outside $OUTSIDE "$mib") || fail "MTU $mtu, TSO $tso, checksum $csum, red to outside: $(cat "$RUN/tcp_check")"
            in=$(transfer outside blue $NET.2 "$mib") || fail "MTU $mtu, TSO $tso, checksum $csum, outside to blue: $(cat "$RUN/tcp_check")"
            printf '  %-6s %-5s %-9s %8s MiB/s %8s MiB/s %8s MiB/s   %s\n' $mtu $tso $csum "$between" "$out" "$in" $length
            # What was switched was switched: large packets left the guest, or none did.
            case $tso-$csum in
            on-on) [ $length -gt $mtu ] || fail "TSO is on, and a packet had $length bytes" ;;
            off-*) [ $length -le $((mtu + 14)) ] || fail "TSO is off, and a packet had $length bytes" ;;
            esac
            total=$((total + 3 * mib))
        done
    done
done
# IPv6 has flags of its own for all of that.
for n in 1:red 2:blue 3:outside; do on "${n#*:}" ip addr add fd77::${n%:*}/64 dev eth0; done
for name in red blue; do on $name ethtool -K eth0 tx on tso on gso on >/dev/null; done
wait_for 10 pings red fd77::2 || fail "red does not reach blue by IPv6"
packets=$(sent packets) bytes=$(sent bytes)
between=$(transfer red blue fd77::2 "$mib") || fail "IPv6, red to blue: $(cat "$RUN/tcp_check")"
length=$((($(sent bytes) - bytes) / ($(sent packets) - packets)))
out=$(transfer red outside fd77::3 "$mib") || fail "IPv6, red to outside: $(cat "$RUN/tcp_check")"
in=$(transfer outside blue fd77::2 "$mib") || fail "IPv6, outside to blue: $(cat "$RUN/tcp_check")"
printf '  %-6s %-5s %-9s %8s MiB/s %8s MiB/s %8s MiB/s   %s\n' IPv6 on on "$between" "$out" "$in" $length
[ $length -gt 9000 ] || fail "TSO is on, and an IPv6 packet had $length bytes"
total=$((total + 3 * mib))
[ "$(info net0 .incarnation)" = 1 ] || fail "the driver domain died on the way"
say "$total MiB of TCP in 9 combinations and 3 directions: every byte right"
