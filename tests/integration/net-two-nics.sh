#!/bin/bash
# SPDX-License-Identifier: MIT
# Guests with two NICs on two driver domains: both carry, and when one driver domain
# dies the other NIC does not notice.
. "$(dirname "$0")/lib.bash"
need_root
wire 1500
stack_start
net_driver net0 "$(uplink)"
net_driver net1

# two_nics NAME N: eth0 on net0, eth1 on net1, addresses that end with N.
two_nics() {
    space "$1"
    cat >"$RUN/$1.xml" <<XML
<domain type='lxc'>
  <name>$1</name>
  <memory unit='MiB'>64</memory>
  <vcpu>1</vcpu>
  <os><type>exe</type></os>
  <lxc:namespace xmlns:lxc='http://libvirt.org/schemas/domain/lxc/1.0'>
    <lxc:sharenet type='netns' value='$(netns "$1")'/>
  </lxc:namespace>
  <metadata><b:domain xmlns:b='urn:bulkhead:domain:1' kind='guest' door='tap'/></metadata>
  <devices>
    <interface type='ethernet'><backenddomain name='net0'/><guest dev='eth0'/></interface>
    <interface type='ethernet'><backenddomain name='net1'/><guest dev='eth1'/><driver queues='4'/></interface>
  </devices>
</domain>
XML
    bh define "$RUN/$1.xml"
    bh start "$1"
    on "$1" ip addr add "$NET.$2/24" dev eth0
    on "$1" ip addr add "10.78.0.$2/24" dev eth1
}
two_nics red 1
two_nics blue 2
wait_for 10 pings red $OUTSIDE || fail "the first NIC does not reach the outside"
wait_for 10 pings red 10.78.0.2 || fail "the second NIC does not reach the other guest"
# The first NIC has the main thread, the second a thread, and one speaks for both.
[ "$(ls "/proc/$(info red .pid)/task" | wc -l)" = 3 ] || fail "the door has $(ls "/proc/$(info red .pid)/task" | wc -l) threads, not 3"
transfer red blue $NET.2 64 >"$RUN/first" &
first=$!
port=6000
transfer blue red 10.78.0.1 64 >/dev/null || fail "TCP over the second NIC: $(cat "$RUN/tcp_check")"
wait $first || fail "TCP over the first NIC meanwhile: $(cat "$RUN/tcp_check")"
say "two NICs at once: every byte right"

door=$(info red .pid)
bh kill net1 >/dev/null
for _ in 1 2 3 4 5; do
    pings red $OUTSIDE || fail "the first NIC noticed that the other's driver domain died"
done
wait_for 20 pings red 10.78.0.2 || fail "the second NIC does not come back"
[ "$(info red .pid)" = "$door" ] || fail "the door was started anew"
bh stop red >/dev/null
grep -q 'eth1: [0-9]* packets to the NIC' "$DIR/logs/red.log" || fail "the door did not end in order"
say "one of two driver domains died: the other NIC went on, the first came back"
