#!/bin/bash
# SPDX-License-Identifier: MIT
# What tcpdump sees at the uplink's far end: no forged address, no frame of a VLAN
# that its sender is not in, no wrong checksum.  Guests that are to be kept apart
# are, and bandwidth has its limit.  Each with a control that does pass.
. "$(dirname "$0")/lib.bash"
need_root
wire 1500
stack_start
net_driver net0 "$(uplink)"
tap_guest plain net0 $NET.1
tap_guest lone1 net0 $NET.2 "<port isolated='yes'/>"
tap_guest lone2 net0 $NET.3 "<port isolated='yes'/>"
tap_guest vlan1 net0 10.78.0.1 "<vlan><tag id='42'/></vlan>"
tap_guest vlan2 net0 10.78.0.2 "<vlan><tag id='42'/></vlan>"
tap_guest other net0 10.78.0.3 "<vlan><tag id='43'/></vlan>"
tap_guest trunk net0 10.79.0.1 "<vlan trunk='yes'><tag id='42'/><tag id='44'/></vlan>"
tap_guest slow net0 $NET.9 "<bandwidth><inbound average='2000'/><outbound average='1000'/></bandwidth>"

all=ff:ff:ff:ff:ff:ff
# watch NAMESPACE: from now on; watched SENDER [VLAN]: until a last, longer frame
# of that sender is there; seen FILTER: how many frames of that kind came meanwhile.
watch() {
    rm -f "$RUN/wire.pcap" "$RUN/tcpdump.log"
    aside "$1" tcpdump --immediate-mode -U -w "$RUN/wire.pcap" -s 0 -i eth0 >"$RUN/tcpdump.log" 2>&1 &
    sniffer=$!
    wait_for 5 grep -q 'listening on' "$RUN/tcpdump.log" || fail "tcpdump does not start: $(cat "$RUN/tcpdump.log")"
}
last_came() { [ "$(tcpdump --count -r "$RUN/wire.pcap" greater 200 2>/dev/null | cut -d' ' -f1)" -gt 0 ]; }
watched() {
    send "$1" "$(mac_of "$1")" $all 1 300 ${2:+"$2"}
    wait_for 20 last_came || fail "the last frame of $1 does not come"
    sleep 0.2
    kill -INT $sniffer && wait $sniffer || fail "tcpdump: $(cat "$RUN/tcpdump.log")"
}
seen() { tcpdump --count -r "$RUN/wire.pcap" "($*) and less 199" 2>/dev/null | cut -d' ' -f1; }
send() { on "$1" "$(helper frames)" eth0 "$2" "$3" "$4" "${5:-60}" ${6:+"$6"} >/dev/null; }
counted() { bh --json info net0 | jq "[.. | objects | .$1? // empty] | add // 0"; }

# ------------------------------------------------------------------ addresses
mac=$(mac_of plain) forged=52:54:00:66:66:66
watch outside
send plain $forged $all 50
send plain "$mac" $all 50
send plain "$(mac_of lone1)" $all 50
on plain ip link set eth0 address $forged
never_pings plain $OUTSIDE || fail "a guest that changed its address has an answer"
on plain ip link set eth0 address "$mac"
watched plain
[ "$(seen "ether src $forged")" = 0 ] || fail "a forged address is on the wire"
[ "$(seen "ether src $(mac_of lone1) and ether proto 0x88b5")" = 0 ] || fail "another guest's address is on the wire"
[ "$(seen "ether src $mac and ether proto 0x88b5")" = 50 ] || fail "control: $(seen "ether src $mac") of 50 frames with the right address"
pings plain $OUTSIDE || fail "control: the right address has no answer"
say "forged addresses: 0 of 100 frames on the wire; right ones: 50 of 50"

# --------------------------------------------------------------------- VLANs
watch outside
pings vlan1 10.78.0.2 || fail "control: two guests in one VLAN do not meet"
never_pings vlan1 10.78.0.3 || fail "VLAN 42 reaches VLAN 43"
send plain "$mac" $all 20 64 42
send vlan1 "$(mac_of vlan1)" $all 20
send vlan1 "$(mac_of vlan1)" $all 20 64 43
watched plain
[ "$(seen "ether src $mac and vlan 42")" = 0 ] || fail "a guest without a VLAN sent into VLAN 42"
[ "$(seen "ether src $(mac_of vlan1) and not vlan")" = 0 ] || fail "a guest of VLAN 42 sent without a tag"
[ "$(seen "ether src $(mac_of vlan1) and vlan 43")" = 0 ] || fail "a guest of VLAN 42 sent into VLAN 43"
[ "$(seen "ether src $(mac_of vlan1) and vlan 42 and ether proto 0x88b5")" -ge 20 ] || fail "control: of VLAN 42's own frames $(seen "ether src $(mac_of vlan1) and vlan 42 and ether proto 0x88b5") are there, not 20"
say "on the wire: VLAN 42 tagged, nothing of it untagged, nobody else in it"

on plain ip addr add 10.78.0.7/24 dev eth0
never_pings plain 10.78.0.1 || fail "a guest without a VLAN reaches VLAN 42"
watch vlan1
send outside "$(mac_of outside)" $all 20 64 42
send outside "$(mac_of outside)" "$(mac_of vlan1)" 20 64 43
send outside "$(mac_of outside)" "$(mac_of vlan1)" 20 64
send plain "$mac" "$(mac_of vlan1)" 20
watched outside 42
[ "$(seen "ether src $mac")" = 0 ] || fail "a frame of no VLAN came into VLAN 42"
[ "$(seen "ether proto 0x88b5")" = 20 ] || fail "of the wire's frames in VLAN 42 $(seen "ether proto 0x88b5") came, not 20"
[ "$(seen vlan)" = 0 ] || fail "a guest of one VLAN got frames with a tag"
watch plain
send vlan1 "$(mac_of vlan1)" $all 20
send outside "$(mac_of outside)" $all 20 64 42
send lone1 "$(mac_of lone1)" $all 20
watched outside
[ "$(seen "ether src $(mac_of vlan1)")" = 0 ] || fail "a broadcast of VLAN 42 came to a guest outside it"
[ "$(seen "ether src $(mac_of outside) and ether proto 0x88b5")" = 0 ] || fail "VLAN 42 of the wire came to a guest outside it"
[ "$(seen "ether src $(mac_of lone1) and ether proto 0x88b5")" = 20 ] || fail "control: a broadcast of its own VLAN did not come"
say "inside: VLANs are apart, broadcasts too"

watch vlan1
send trunk "$(mac_of trunk)" $all 20 64 42
send trunk "$(mac_of trunk)" $all 20 64 44
send trunk "$(mac_of trunk)" $all 20
watched outside 42
[ "$(seen "ether src $(mac_of trunk) and ether proto 0x88b5")" = 20 ] || fail "of a trunk's frames in VLAN 42 $(seen "ether src $(mac_of trunk)") came, not 20"
watch trunk
send vlan1 "$(mac_of vlan1)" $all 20
send other "$(mac_of other)" $all 20
send plain "$mac" $all 20
watched outside 42
[ "$(seen "ether src $(mac_of vlan1) and vlan 42 and ether proto 0x88b5")" = 20 ] || fail "a trunk did not get the frames of VLAN 42 with their tag"
[ "$(seen "ether src $(mac_of other) or ether src $mac")" = 0 ] || fail "a trunk got frames of a VLAN that is not its"
say "a trunk sends and gets the frames of its VLANs, tagged, and no other"

# ------------------------------------------------------------------ isolation
never_pings lone1 $NET.3 || fail "isolated guests reach each other"
pings lone1 $NET.1 || fail "control: an isolated guest does not reach an ordinary one"
pings lone2 $OUTSIDE || fail "control: an isolated guest does not reach the outside"
watch lone2
send lone1 "$(mac_of lone1)" $all 20
send lone1 "$(mac_of lone1)" "$(mac_of lone2)" 20
send plain "$mac" $all 20
watched plain
[ "$(seen "ether src $(mac_of lone1)")" = 0 ] || fail "an isolated guest got a frame of another one"
[ "$(seen "ether src $mac and ether proto 0x88b5")" = 20 ] || fail "control: an ordinary guest's broadcast did not come"
say "isolated guests: apart, and with everyone else together"

# ------------------------------------------------------------------ checksums
# tcpdump judges checksums. Control: inside the guest they are still blank.
judge() { tcpdump -nn -vv -r "$RUN/wire.pcap" "$@" 2>/dev/null | grep -c "$verdict" || true; }
watch outside
transfer plain outside $OUTSIDE 4 >/dev/null || fail "TCP to the outside"
transfer outside plain $NET.1 4 >/dev/null || fail "TCP from the outside"
on plain bash -c "head -c 1000 /dev/zero >/dev/udp/$OUTSIDE/9"
on plain ping -q -c 2 -6 -I eth0 ff02::1 >/dev/null 2>&1 || true
watched plain
verdict=incorrect
[ "$(judge)" = 0 ] || fail "wrong checksums on the wire: $(tcpdump -nn -vv -r "$RUN/wire.pcap" 2>/dev/null | grep incorrect | head -n 3)"
verdict='(correct)'
[ "$(judge "src host $NET.1 and tcp")" -gt 100 ] || fail "control: no checksum was judged"
long=$(tcpdump --count -r "$RUN/wire.pcap" "src host $NET.1 and greater 1515" 2>/dev/null | cut -d' ' -f1)
[ "$long" = 0 ] || fail "$long frames on the wire are longer than its MTU"
watch plain
transfer plain outside $OUTSIDE 4 >/dev/null || fail "TCP to the outside"
watched outside
verdict=incorrect
[ "$(judge "src host $NET.1 and tcp")" -gt 0 ] || fail "control: no blank checksum inside the guest, so none was filled in"
say "checksums on the wire: none wrong; inside the guest they were blank; nothing longer than the MTU"

# ------------------------------------------------------------------ bandwidth
serve_iperf3 outside
serve_iperf3 slow
free=$(iperf3_rate plain $OUTSIDE -t 1)
out=$(iperf3_rate slow $OUTSIDE -t 3)
in=$(iperf3_rate outside $NET.9 -t 3)
say "outbound limit 8 Mbit/s: $out; inbound limit 16 Mbit/s: $in; without a limit: $free"
[ "$out" -ge 2 ] && [ "$out" -le 32 ] || fail "the outbound limit does not hold"
[ "$in" -ge 4 ] && [ "$in" -le 64 ] || fail "the inbound limit does not hold"
[ "$free" -gt 100 ] || fail "control: a guest without a limit is as slow"
[ "$(info net0 .incarnation)" = 1 ] || fail "the driver domain died on the way"
