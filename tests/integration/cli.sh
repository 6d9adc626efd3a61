#!/bin/bash
# SPDX-License-Identifier: MIT
# Bad input: each case has its one sentence and its exit status, and changes
# nothing.  Good input beside it shows that the refusal was about that case.
. "$(dirname "$0")/lib.bash"
need_root

# refused STATUS SENTENCE COMMAND...: stderr is exactly that one line.
refused() {
    local want=$1 sentence=$2 status=0 said
    shift 2
    said=$("$@" 2>&1 >/dev/null) || status=$?
    [ $status -eq "$want" ] || fail "'$*' ended with $status, not $want: $said"
    [ "$said" = "bulkhead: $sentence" ] || fail "'$*' said
    $said
  and not
    bulkhead: $sentence"
}
state() { bh --json list | jq -r ".[] | select(.name == \"$1\") | .state"; }
store() { XENSTORED_PATH=$DIR/store.sock xenstore-ls -f; }

# ------------------------------------------------------------------ misuse
misuse() {
    local status=0
    "$@" >/dev/null 2>"$RUN/said" || status=$?
    [ $status -eq 2 ] || fail "'$*' ended with $status, not 2"
    [ -s "$RUN/said" ] || fail "'$*' said nothing"
}
misuse "$BIN/bulkhead"
misuse bh frobnicate
misuse bh --colour list
misuse bh start
misuse bh start a b
misuse bh define
misuse bh list extra
misuse "$BIN/bulkhead" list --run-dir
misuse "$SBIN/bulkheadd" --nonsense
"$BIN/bulkhead" --help | has '^usage: bulkhead ' || fail "no usage"
[ "$("$BIN/bulkhead" --version)" = "$("$BIN/bulkhead" version)" ] || fail "version"
say "misuse: exit status 2, with a usage"

refused 1 "bulkheadd is not running (no $DIR/bulkheadd.sock): start it with: bulkheadd --run-dir $DIR" bh list
say "no daemon: told how to start it"

# ------------------------------------------------------------- the daemon itself
daemon_refuses() {
    local sentence=$1 status=0 said
    shift
    said=$("$@" 2>&1) || status=$?
    [ $status -eq 1 ] || fail "'$*' ended with $status"
    [ "$said" = "bulkheadd: $sentence" ] || fail "'$*' said: $said"
}
daemon_refuses "it must be started as root: it starts the core, then drops every privilege; try sudo" \
    setpriv --reuid 65534 --clear-groups "$SBIN/bulkheadd" --run-dir "$DIR"
daemon_refuses "the run directory 'here' is relative: it must begin with /" "$SBIN/bulkheadd" --run-dir here
mkdir -p "$RUN/other/precious"
daemon_refuses "$RUN/other holds a directory 'precious' that is not bulkheadd's: give it a directory of its own" \
    "$SBIN/bulkheadd" --run-dir "$RUN/other"
[ "$(stat -c %u "$RUN/other")" = 0 ] || fail "a directory that was refused changed hands"
long=$RUN/$(printf 'x%.0s' $(seq 60))
daemon_refuses "the run directory $long is too long: sockets below it allow 40 bytes" "$SBIN/bulkheadd" --run-dir "$long"

# The parent may be closed to everyone but root; the shell gets its prompt back
# when the daemon serves.
chmod 700 "$RUN"
"$SBIN/bulkheadd" --run-dir "$DIR" </dev/null
bh list >/dev/null || fail "bulkheadd returned before it served"
daemon=$(pgrep -f "^$SBIN/bulkheadd --run-dir $DIR$")
daemon_refuses "another bulkheadd already runs in $DIR: stop it first, or give another --run-dir" \
    "$SBIN/bulkheadd" --run-dir "$DIR"
say "bulkheadd: not root, relative, foreign and long directories, a second one"

grep -q '^CapBnd:[[:space:]]*0*$' "/proc/$daemon/status" && grep -q '^CapEff:[[:space:]]*0*$' "/proc/$daemon/status" &&
    grep -q '^CapPrm:[[:space:]]*0*$' "/proc/$daemon/status" && grep -q '^NoNewPrivs:[[:space:]]*1$' "/proc/$daemon/status" ||
    fail "the daemon kept a privilege"
[ "$(awk '/^Uid:/ {print $2, $3, $4, $5}' "/proc/$daemon/status")" = "1912602624 1912602624 1912602624 1912602624" ] ||
    fail "the daemon kept a uid"
[ "$(stat -c %a "$DIR/bulkheadd.sock")" = 600 ] || fail "bulkheadd.sock is open to others"
say "bulkheadd runs without a privilege"

# --------------------------------------------------------------------- define
driver disk0 >/dev/null
image a.img 8M
image b.img 8M
guest_xml() { # NAME SOURCE [hints] [more in devices]
    cat <<XML
<domain type='qemu'>
  <name>$1</name>
  <memory unit='MiB'>64</memory>
  <metadata><b:domain xmlns:b='urn:bulkhead:domain:1' kind='guest' door='native'>$3</b:domain></metadata>
  <devices>
    <disk type='file' device='disk'>$2<backenddomain name='${5:-disk0}'/><target dev='vda' bus='xen'/></disk>
    ${4:-}
  </devices>
</domain>
XML
}
before=$(bh --json list | jq -c 'map(.name)')
F=$RUN/bad.xml
guest_xml g1 "<source file='$RUN/a.img'/>" "<b:cache dev='vda'/>" >"$F"
refused 1 "$F:4: unknown element <cache> in our <domain> of a guest" bh define "$F"
guest_xml g1 "<source file='$RUN/a.img'/>" "" "<b:odd xmlns:b='urn:bulkhead:domain:1'/>" >"$F"
refused 1 "$F:7: unknown element <odd> in the namespace urn:bulkhead:domain:1" bh define "$F"
guest_xml g1 "<source file='$RUN/a.img'/>" "<b:disk dev='vda' pool-pages='8'/>" >"$F"
refused 1 "$F:4: pool-pages of vda is too small: the minimum is 64" bh define "$F"
guest_xml g1 "<source file='a.img'/>" "" >"$F"
refused 1 "$F:6: the path of vda is relative: 'a.img' must begin with /" bh define "$F"
guest_xml disk0 "<source file='$RUN/a.img'/>" "" >"$F"
refused 1 "$F:2: a domain named disk0 is already defined: undefine it first" bh define "$F"
echo "<domain><name>x</name>" >"$F"
refused 1 "$F:2: not well-formed XML: Premature end of data in tag domain line 1" bh define "$F"
printf '<!DOCTYPE domain [<!ENTITY x "y">]>\n<domain/>' >"$F"
refused 1 "$F:1: a DOCTYPE is not allowed: remove it" bh define "$F"
printf '<domain>\xff</domain>' >"$F"
refused 1 "$F:1: the document or its name is not UTF-8 text" bh define "$F"
head -c 2M /dev/zero | tr '\0' ' ' >"$F"
refused 1 "$F is longer than 1048576 bytes" bh define "$F"
refused 1 "cannot read $RUN/none.xml: No such file or directory" bh define "$RUN/none.xml"
[ "$(bh --json list | jq -c 'map(.name)')" = "$before" ] || fail "a refused definition left something"
[ "$(ls "$DIR/domains")" = disk0.xml ] || fail "a refused definition left a file"
say "define: unknown elements, a NAME twice, small pool, relative path, broken and hostile documents"

guest_xml g1 "<source file='$RUN/a.img'/>" "" "<graphics type='vnc'/>" >"$RUN/g1.xml"
[ "$(bh define "$RUN/g1.xml" 2>&1 >/dev/null)" = "$RUN/g1.xml:7: note: <graphics> is not used" ] || fail "no note"
bh --json define "$SOURCE/deploy/examples/disk1-block.xml" | jq -e '.kind == "driver"' >/dev/null || fail "define --json"
say "control: good documents are taken, and what is not used is told"

# ---------------------------------------------------------------------- start
empty=$(store)
refused 1 "there is no domain named nobody" bh start nobody
guest_xml g2 "<source file='$RUN/missing.img'/>" "" >"$RUN/g2.xml"
bh define "$RUN/g2.xml" >/dev/null
refused 1 "disk vda of g2: cannot open $RUN/missing.img: there is no such file or device" bh start g2
guest_xml g3 "<source file='$RUN'/>" "" >"$RUN/g3.xml"
bh define "$RUN/g3.xml" >/dev/null
bh start g3 2>"$RUN/said" && fail "a directory was served as a disk"
grep -q "^bulkhead: disk vda of g3: cannot open $RUN: .*regular file" "$RUN/said" || fail "$(cat "$RUN/said")"
guest_xml g4 "<source file='$RUN/a.img'/>" "" "" disk1 >"$RUN/g4.xml"
bh define "$RUN/g4.xml" >/dev/null
refused 1 "driver domain disk1 is not running: start it first" bh start g4
bh start disk1 >/dev/null
refused 1 "driver domain disk1 may not serve $RUN/a.img: it is none of its <hostdev>" bh start g4
bh stop disk1 >/dev/null
guest_xml g5 "" "<b:disk dev='vda' ram='1073741824'/>" >"$RUN/g5.xml"
bh define "$RUN/g5.xml" >/dev/null
refused 1 "driver domain disk0 has too little <memory> for the ram disks of its guests: it needs 1032 MiB" bh start g5
exec 9<"$RUN/a.img"
flock -x 9
refused 1 "disk vda of g1: $RUN/a.img is in use by another (waited 5 s)" bh start g1
flock -u 9
exec 9<&-
for g in g1 g2 g3 g4 g5; do
    [ "$(state $g)" = defined ] || fail "$g is $(state $g) after a refused start"
done
[ -z "$(ls "$DIR/guests")" ] || fail "a refused start left a door"
[ "$(info disk0 '.devices | length')" = 0 ] || fail "a refused start left a device with disk0"
[ "$(store)" = "$empty" ] || fail "a refused start left nodes: $(diff <(echo "$empty") <(store))"
say "start: missing, not a disk, no driver domain, not its device, in use; nothing is left behind"

bh start g1 >/dev/null
[ "$(state g1)" = waiting ] || fail "g1 is $(state g1)"
say "control: with the file free the same guest starts"

# No permission: who may use the daemon is who may open its socket.
chmod 755 "$RUN"
install -m 755 "$BIN/bulkhead" "$RUN/bulkhead-copy"
refused 1 "no permission to use $DIR/bulkheadd.sock: run this as root or with sudo" \
    setpriv --reuid 65534 --clear-groups "$RUN/bulkhead-copy" --run-dir "$DIR" list
say "no permission: told"

# ------------------------------------------------------------- what is running
refused 1 "g1 is already running" bh start g1
refused 1 "g1 is waiting: stop it first" bh undefine g1
refused 1 "driver domain disk0 still serves running guests (g1): stop them first" bh stop disk0
bh stop g1 >/dev/null
refused 1 "g1 is not running" bh stop g1
refused 1 "g1 is not running: there is nothing to kill" bh kill g1
bh undefine g1 >/dev/null
refused 1 "there is no domain named g1" bh info g1
say "stop, kill, undefine: refused while they make no sense"

# ------------------------------------------------------- formats, persistence
bh --json list | jq -e 'map(has("name") and has("kind") and has("class") and has("domid") and has("state") and
    has("incarnation") and has("uptime_s")) | all' >/dev/null || fail "list --json"
bh info --json disk0 | jq -e '(.fds | length) > 3 and (.namespaces.user | startswith("user:")) and (.syscalls | index("read")) and
    .pid > 1 and .uid > 1912602624 and (.regions | type) == "array"' >/dev/null || fail "info --json"
[ "$(bh metrics | tail -n 1)" = "# EOF" ] || fail "metrics do not end with # EOF"
bh metrics | has '^bulkhead_up{name="disk0",kind="driver",class="blk"} 1$' || fail "metrics"
bh events >"$RUN/events" &
listener=$!
wait_for 5 test -e "/proc/$listener"
sleep 0.3
bh kill disk0 >/dev/null
wait_for 10 eval '[ "$(state disk0)" = running ]' || fail "disk0 did not come back"
[ "$(info disk0 .incarnation)" = 2 ] || fail "incarnation $(info disk0 .incarnation)"
wait_for 5 grep -q '"restarted"' "$RUN/events" || fail "events: $(cat "$RUN/events")"
kill $listener
jq -es 'map(.event) | index("died") != null and index("restarted") != null and index("recovered") != null' "$RUN/events" >/dev/null ||
    fail "events: $(cat "$RUN/events")"
say "list, info, metrics, events; a killed driver domain comes back as incarnation 2"

kill "$daemon"
wait_for 20 eval '! kill -0 '"$daemon" || fail "bulkheadd does not end on SIGTERM"
[ "$(ls "$DIR" | tr '\n' ' ')" = "domains logs " ] || fail "left behind: $(ls "$DIR")"
! pgrep -f "^bulkhead-[a-z]* .*$DIR" >/dev/null || fail "a process is left"
"$SBIN/bulkheadd" --run-dir "$DIR" </dev/null
daemon=$(pgrep -f "^$SBIN/bulkheadd --run-dir $DIR$")
[ "$(bh --json list | jq -c 'map(.name)')" = '["disk0","disk1","g2","g3","g4","g5"]' ] || fail "definitions were lost"
say "SIGTERM: nothing left but definitions and logs, which the next bulkheadd reads"

# ------------------------------------------------------------ NICs and uplinks
nic_xml() { # NAME DOOR DRIVER [XML inside <interface>] [namespace]
    cat <<XML
<domain type='lxc' xmlns:lxc='http://libvirt.org/schemas/domain/lxc/1.0'>
  <name>$1</name>
  <memory unit='MiB'>64</memory>
  <metadata><b:domain xmlns:b='urn:bulkhead:domain:1' kind='guest' door='$2'/></metadata>
  <devices>
    <interface type='ethernet'><backenddomain name='$3'/>${4:-}</interface>
  </devices>
  <lxc:namespace><lxc:sharenet type='netns' value='${5:-$(netns red)}'/></lxc:namespace>
</domain>
XML
}
uplink_xml() { # NAME DEVARGS
    cat <<XML
<domain type='lxc'>
  <name>$1</name>
  <memory unit='MiB'>256</memory>
  <metadata>
    <b:domain xmlns:b='urn:bulkhead:domain:1' kind='driver' class='net'><b:uplink devargs='$2'/></b:domain>
  </metadata>
</domain>
XML
}
refused_nic() { # SENTENCE DOOR [XML inside <interface>]
    nic_xml n1 "$2" net0 "${3:-}" >"$F"
    refused 1 "$F:6: $1" bh define "$F"
}
refused_uplink() { # SENTENCE DEVARGS
    uplink_xml net0 "$2" >"$F"
    refused 1 "$F:5: $1" bh define "$F"
}
before=$(bh --json list | jq -c 'map(.name)')
refused_nic "a guest with door='nbd' has no NICs: use door='native', or a guest of its own with door='tap'" nbd
refused_nic "the MAC address 33:33:00:00:00:01 of eth0 is a multicast address" tap "<mac address='33:33:00:00:00:01'/>"
refused_nic "<tag id='...'> of eth0 must be a number from 1 to 4094" tap "<vlan><tag id='4095'/></vlan>"
refused_nic "average of eth0 must be a number from 1 to 1000000000" tap "<bandwidth><inbound average='1.5'/></bandwidth>"
refused_nic "<mtu size='...'> of eth0 must be a number from 68 to 9216" tap "<mtu size='65536'/>"
refused_uplink "unknown port 'net_virtio0': an uplink is net_af_packet, net_af_xdp, net_tap, net_pcap, net_null or net_ring, with a number if you like" net_virtio0
refused_uplink "net_af_xdp has no option xdp_prog= here; its options are: iface, start_queue, queue_count, busy_budget, force_copy" \
    net_af_xdp0,iface=eth1,xdp_prog=/tmp/x.o
refused_uplink "net_af_packet needs iface=NAME" net_af_packet0
refused_uplink "net_pcap has no option iface= here; its options are: rx_pcap, tx_pcap, infinite_rx" net_pcap0,iface=eth1
[ "$(bh --json list | jq -c 'map(.name)')" = "$before" ] || fail "a refused definition left something"
say "define: NICs and uplinks that cannot be"

define() { bh define "$RUN/$1.xml" >/dev/null 2>&1; }
wire
near=$(near)
machine() { ip -j link show "$near" 2>/dev/null | jq -e '.[0].ifname' >/dev/null; }
bh start disk0 >/dev/null
uplink_xml net8 "net_af_packet0,iface=bhnone$$" >"$RUN/net8.xml"
uplink_xml net9 "$(uplink)" >"$RUN/net9.xml"
uplink_xml net7 "net_pcap0,rx_pcap=$RUN/none.pcap" >"$RUN/net7.xml"
define net8 && define net9 && define net7
refused 1 "uplink bhnone$$ of net8: there is no network interface bhnone$$; see: ip link" bh start net8
refused 1 "uplink of net7: cannot open $RUN/none.pcap: there is no such file or device" bh start net7
machine || fail "$near went away"
net_driver net0 "$(uplink)" >/dev/null
! machine || fail "$near stayed in the machine's namespace"
refused 1 "interface $near is the uplink of driver domain net0 already: stop it first" bh start net9
nic_xml n1 tap disk0 >"$RUN/n1.xml"
nic_xml n2 tap net0 "" "bhnone$$" >"$RUN/n2.xml"
define n1 && define n2
empty=$(store)
refused 1 "NIC eth0 of n1 names driver domain disk0, whose class is 'blk', not 'net'" bh start n1
refused 1 "NIC eth0 of n2: there is no network namespace bhnone$$; make it: ip netns add bhnone$$" bh start n2
[ "$(store)" = "$empty" ] || fail "a refused start left nodes: $(diff <(echo "$empty") <(store))"
say "start: no interface, no file, another's interface, no namespace, a driver domain of the other class"

tap_guest red net0 $NET.1 "<mac address='52:54:00:00:00:01'/><vlan><tag id='42'/></vlan>" >/dev/null
[ "$(mac_of red)" = 52:54:00:00:00:01 ] || fail "red's eth0 is $(mac_of red)"
nic_xml n3 native net0 "<mac address='52:54:00:00:00:01'/>" >"$RUN/n3.xml"
define n3
refused 1 "NIC eth0 of n3: address 52:54:00:00:00:01 is that of eth0 of red already, in driver domain net0: give it another <mac address='...'/>" \
    bh start n3
bh --json list | jq -e '.[] | select(.name == "red") | .nics == [{"dev": "eth0", "backend": "net0", "mac": "52:54:00:00:00:01",
    "vlan": 42, "trunk": [], "mtu": 1500, "isolated": false, "connected": true}]' >/dev/null || fail "nics: $(bh --json list)"
bh --json list | jq -e --arg i "$near" '.[] | select(.name == "net0") | .uplink == {"devargs": "net_af_packet0,iface=\($i)",
    "interface": $i, "mtu": 1500, "state": "up"}' >/dev/null || fail "uplink: $(bh --json list)"
bh list | grep -Eq "^net0 .* $near up$" && bh list | grep -Eq "^red .* eth0@net0$" || fail "list: $(bh list)"
bh info red | has -x "NIC          eth0: 52:54:00:00:00:01 of net0, MTU 1500, VLAN 42, connected" || fail "info: $(bh info red)"
bh info net0 | has -x "uplink       $(uplink), MTU 1500, up" || fail "info: $(bh info net0)"
for sample in 'bulkhead_nic_connected{guest="red",nic="eth0",driver="net0"} 1' "bulkhead_uplink_up{driver=\"net0\",interface=\"$near\"} 1" \
    'bulkhead_vif_drops_total{guest="red",nic="eth0",driver="net0",cause="forged_mac"} 0' \
    "bulkhead_uplink_drops_total{driver=\"net0\",interface=\"$near\",cause=\"rx_forged\"} 0"; do
    bh metrics | has -xF "$sample" || fail "there is no sample: $sample"
done
bh metrics | has '^bulkhead_vif_tx_packets_total{guest="red",' || fail "packets are not counted"
say "list, info, metrics show NICs and uplinks"

bh events >"$RUN/events" &
listener=$!
sleep 0.3
told() { grep -q "\"$1\"" "$RUN/events"; }
on outside ip link set eth0 down
wait_for 5 told uplink_down || fail "a dead wire is not told"
[ "$(info net0 .uplink.state)" = down ] || fail "the uplink is $(info net0 .uplink.state)"
on outside ip link set eth0 up
wait_for 5 told uplink_up || fail "a repaired wire is not told"
refused 1 "driver domain net0 still serves running guests (red): stop them first" bh stop net0
bh kill net0 >/dev/null
wait_for 10 eval '[ "$(info net0 .incarnation)" = 2 ] && [ "$(info red ".nics[0].connected")" = true ]' || fail "red did not get its NIC back"
bh kill red >/dev/null
wait_for 10 eval '[ "$(info red .incarnation)" = 2 ] && [ "$(state red)" = running ]' || fail "red did not come back"
[ "$(mac_of red)" = 52:54:00:00:00:01 ] || fail "red's eth0 is $(mac_of red)"
kill $listener
say "an uplink's state is told; a killed net driver domain and a killed guest come back"

# shellcheck source=/dev/null
. "$SOURCE/deploy/completions/bulkhead"
completes() { # WANTED WORD...: the last word is what is typed so far
    local wanted=$1
    shift
    COMP_WORDS=("$BIN/bulkhead" --run-dir "$DIR" "$@") COMP_CWORD=$(($# + 2)) COMPREPLY=()
    _bulkhead || true
    [ "${COMPREPLY[*]}" = "$wanted" ] || fail "'$*' completes to '${COMPREPLY[*]}', not '$wanted'"
}
completes "restart" res
completes "net0" start net0
completes "@netdev" log @n
completes "blk fair net netfair restart" bench ""
say "the shell completes commands and names"

bh stop red >/dev/null
[ -z "$(on red ip -o link show eth0 2>/dev/null)" ] || fail "a stopped guest left its eth0"
bh stop net0 >/dev/null
wait_for 5 machine || fail "a stopped driver domain did not give $near back"
bh start net9 >/dev/null
bh start net0 2>/dev/null && fail "two driver domains share $near"
kill "$daemon"
wait_for 20 eval '! kill -0 '"$daemon" || fail "bulkheadd does not end on SIGTERM"
machine || fail "the end of bulkheadd did not give $near back"
say "a stop and the end of the stack give interfaces back"
daemon=
