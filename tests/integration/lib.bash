# SPDX-License-Identifier: MIT
# lib.bash - a private stack for one integration script.
#
#   . "$(dirname "$0")/lib.bash"
#   stack_start
#   driver disk0
#   image a.img 64M
#   guest g1 disk0 "$RUN/a.img"
#   nbdinfo "$(uri g1)"
#
# and with NICs (every name of a namespace or interface carries our pid):
#
#   wire                              # namespace "outside", and a veth to it
#   net_driver net0 "$(uplink)" 9000
#   tap_guest red net0 10.77.0.1 mtu=9000
#   on red ping -c 1 10.77.0.254
#
# $BUILD is where the programs are.  Everything is written below $RUN and is
# gone at the end, and so is every process that was started, whatever happens.
set -eu -o pipefail

BUILD=$(realpath "${BUILD:-$(dirname "${BASH_SOURCE[0]}")/../../build}")
SOURCE=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
SBIN=${SBIN:-$BUILD} BIN=${BIN:-$BUILD}
RUN=$(mktemp -d /tmp/bulkhead-it.XXXXXX)
chmod 755 "$RUN"
DIR=$RUN/run
daemon=
mounts=() loops=() spaces=() links=()
endings=() # functions that at_exit calls, before the stack is stopped

fail() { echo "FAILED: $*" >&2; exit 1; }
say() { echo "  $*"; }
# Status 77 is a skip; the last line says why.
skip() { echo "SKIP: $*"; exit 77; }

stack_stop() {
    [ -n "$daemon" ] || return 0
    local core
    core=$(pgrep -P "$daemon" bulkhead-core) || true
    kill "$daemon" 2>/dev/null || true
    for _ in $(seq 100); do
        kill -0 "$daemon" 2>/dev/null || break
        sleep 0.1
    done
    # What it did not end in order lives on, but for the core.
    if kill -9 "$daemon" 2>/dev/null && [ -n "$core" ]; then kill -9 "$core" 2>/dev/null || true; fi
    wait "$daemon" 2>/dev/null || true
    daemon=
}

at_exit() {
    local status=$? job
    for job in $(jobs -p); do
        [ "$job" = "$daemon" ] || kill "$job" 2>/dev/null || true
    done
    if [ $status -ne 0 ] && [ $status -ne 77 ] && [ -d "$DIR" ]; then
        tail -n 30 "$RUN/bulkheadd.log" "$DIR"/logs/*.log 2>/dev/null || true
    fi
    local m
    for m in ${endings[@]+"${endings[@]}"}; do "$m" || true; done
    stack_stop
    for m in ${mounts[@]+"${mounts[@]}"}; do
        umount "$m" || umount -l "$m" || true
    done
    for m in ${loops[@]+"${loops[@]}"}; do
        losetup -d "$m" || true
    done
    for m in ${spaces[@]+"${spaces[@]}"}; do
        for job in $(ip netns pids "$m" 2>/dev/null); do
            kill "$job" 2>/dev/null || true # nobody else is in a namespace of ours
        done
        ip netns del "$m" 2>/dev/null || true
    done
    for m in ${links[@]+"${links[@]}"}; do
        ip link del "$m" 2>/dev/null || true
    done
    rm -rf "$RUN"
    exit $status
}
trap at_exit EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# As grep -q, but to the end: a writer that is cut off fails, and the pipe with it.
has() { grep "$@" >/dev/null; }

need_root() { [ "$(id -u)" -eq 0 ] || fail "needs root: run it as root or with sudo"; }

bh() { "$BIN/bulkhead" --run-dir "$DIR" "$@"; }

# wait_for SECONDS COMMAND...: until it succeeds.
wait_for() {
    local end=$((SECONDS + $1 + 1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.05
    done
}

stack_start() {
    need_root
    "$SBIN/bulkheadd" --run-dir "$DIR" --foreground >"$RUN/bulkheadd.log" 2>&1 </dev/null &
    daemon=$!
    wait_for 10 bh list || fail "bulkheadd does not answer: $(tail -n 3 "$RUN/bulkheadd.log")"
}

# programs DIR: a folder of programs of our own, with what is built in it to begin
# with; bulkheadd runs what lies beside it, also what comes there later.
programs() {
    mkdir "$1"
    cp "$BUILD"/bulkheadd "$BUILD"/bulkhead-* "$BUILD"/nbdkit-bulkhead-plugin.so "$1"
    SBIN=$1
}
# install_program FILE NAME: in that folder, as another file than before.
install_program() {
    cp "$1" "$SBIN/$2.new"
    mv "$SBIN/$2.new" "$SBIN/$2"
}

# driver NAME [VCPUS] [XML inside our <domain>]: for disks, defined and started.
driver() {
    cat >"$RUN/$1.xml" <<XML
<domain type='lxc'>
  <name>$1</name>
  <memory unit='MiB'>64</memory>
  <vcpu>${2:-1}</vcpu>
  <os><type>exe</type></os>
  <metadata><b:domain xmlns:b='urn:bulkhead:domain:1' kind='driver' class='blk'>${3:-}</b:domain></metadata>
</domain>
XML
    bh define "$RUN/$1.xml"
    bh start "$1"
}

# guest NAME DRIVER IMAGE [nbd|native] [XML inside <disk>] [attributes of our <disk>]
guest_xml() {
    cat <<XML
<domain type='qemu'>
  <name>$1</name>
  <memory unit='MiB'>256</memory>
  <vcpu>1</vcpu>
  <os><type>hvm</type></os>
  <metadata>
    <b:domain xmlns:b='urn:bulkhead:domain:1' kind='guest' door='${4:-nbd}'>${6:+<b:disk dev='vda' $6/>}</b:domain>
  </metadata>
  <devices>
    <disk type='file' device='disk'>
      <driver name='bulkhead' type='raw' cache='writeback'/>
      <source file='$3'/>
      <backenddomain name='$2'/>
      <target dev='vda' bus='xen'/>
      ${5:-}
    </disk>
  </devices>
</domain>
XML
}

guest() {
    guest_xml "$@" >"$RUN/$1.xml"
    bh define "$RUN/$1.xml"
    bh start "$1"
}

image() { truncate -s "$2" "$RUN/$1"; }
uri() { echo "nbd+unix:///vda?socket=$DIR/guests/$1/nbd.sock"; }
info() { bh --json info "$1" | jq -r "$2"; }

# Driver domains and their deaths.
incarnation() { info "$1" .incarnation; }
running() { [ "$(info "$1" .state)" = running ]; }
# reborn NAME INCARNATION: it runs, in a later one.
reborn() { running "$1" && [ "$(incarnation "$1")" -gt "$2" ]; }
# It runs, and so does its spare, which every guest is connected to already.
spared() { bh --json list | jq -e --arg name "$1" '.[] | select(.name == $name) | .state == "running" and .spare.armed'; }

# put_down NAME: dead, and its spare too: what comes next is what is on disk now.
put_down() {
    local tries=20
    while running "$1" && [ $((tries--)) -gt 0 ]; do
        bh kill "$1" >/dev/null 2>&1 || true
        sleep 0.05
    done
    ! running "$1" || fail "$1 cannot be put down"
}

# What happens, a line each, in $RUN/events from now on.
watch_events() {
    "$BIN/bulkhead" --run-dir "$DIR" events >"$RUN/events" 2>&1 &
    watcher=$!
    wait_for 5 events_come || fail "there are no events: $(cat "$RUN/events")"
}
# bulkhead says nothing until something happens: that it listens is seen by its socket.
events_come() { ls -l "/proc/$watcher/fd" 2>/dev/null | has socket && sleep 0.2; }
# told EVENT [jq CONDITION]: how often. happened: at least once.
told() { jq -s --arg event "$1" "map(select(.event == \$event and (${2:-true}))) | length" "$RUN/events"; }
happened() { [ "$(told "$@")" -gt 0 ]; }
last_told() { jq -sc --arg event "$1" 'map(select(.event == $event)) | last' "$RUN/events"; }

# verified_fio GUEST SIZE [fio options]: writes, then reads back and checks.
verified_fio() {
    local guest=$1 size=$2
    shift 2
    (cd "$RUN" && fio --name="$guest" --ioengine=nbd --uri="$(uri "$guest")" --size="$size" --rw=randwrite --bs=4k \
        --iodepth=32 --verify=crc32c --do_verify=1 --verify_fatal=1 --verify_state_save=0 --output="$RUN/$guest.fio" "$@") || {
        cat "$RUN/$guest.fio" >&2
        fail "fio on $guest"
    }
}

# load GUEST SIZE [fio options] &: the same, again and again until $RUN/enough is there;
# $RUN/GUEST.passes says how often.
load() {
    local pass=0
    until [ -e "$RUN/enough" ]; do
        verified_fio "$1" "$2" --randseed=$((++pass)) "${@:3}"
        echo $pass >"$RUN/$1.passes"
    done
}

# ------------------------------------------------------------------- network
NET=10.77.0 OUTSIDE=10.77.0.254

netns() { echo "bulkhead-$$-$1"; }
# on NAME COMMAND...: in that namespace.  `aside NAME COMMAND... &`: so that $! is the
# command itself.
on() {
    local name=$1
    shift
    nsenter --net="/run/netns/$(netns "$name")" "$@"
}
aside() {
    local name=$1
    shift
    exec nsenter --net="/run/netns/$(netns "$name")" "$@"
}
space() {
    ip netns add "$(netns "$1")"
    spaces+=("$(netns "$1")")
    on "$1" sysctl -qw net.ipv6.conf.default.accept_dad=0
    on "$1" ip link set lo up
}

# The interface that an uplink is made of, and devargs for it.
near() { echo "bhu$$"; }
uplink() { echo "net_af_packet0,iface=$(near)"; }

# lay_wire [MTU]: a veth from the machine's namespace to "outside". A veth is no wire:
# what is not segmented or summed on one end is not on the other either. So the
# far end does all that itself.
lay_wire() {
    ip link add "$(near)" mtu "${1:-9000}" type veth peer name eth0 mtu "${1:-9000}" netns "$(netns outside)"
    on outside ip link set eth0 address 52:54:00:77:00:fe # the same when it is laid anew
    on outside ethtool -K eth0 tx off rx off tso off gso off gro off >/dev/null
    on outside ip addr add $OUTSIDE/24 dev eth0
    on outside ip link set eth0 up
}
wire() {
    space outside
    links+=("$(near)")
    lay_wire "$@"
}

# net_driver NAME [DEVARGS] [MTU] [VCPUS] [XML inside our <domain>]
net_driver() {
    cat >"$RUN/$1.xml" <<XML
<domain type='lxc'>
  <name>$1</name>
  <memory unit='MiB'>256</memory>
  <vcpu>${4:-1}</vcpu>
  <os><type>exe</type></os>
  <metadata>
    <b:domain xmlns:b='urn:bulkhead:domain:1' kind='driver' class='net'>${2:+<b:uplink devargs='$2'${3:+ mtu='$3'}/>}${5:-}</b:domain>
  </metadata>
</domain>
XML
    bh define "$RUN/$1.xml"
    bh start "$1"
}

# tap_guest NAME DRIVER ADDRESS [mtu=N] [XML inside <interface>]...: a namespace whose
# eth0 is a NIC of that driver domain, up and with that address.
tap_guest() {
    local name=$1 driver=$2 address=$3 mtu=
    shift 3
    case ${1:-} in mtu=*) mtu=${1#mtu=}; shift ;; esac
    space "$name"
    cat >"$RUN/$name.xml" <<XML
<domain type='lxc'>
  <name>$name</name>
  <memory unit='MiB'>256</memory>
  <vcpu>1</vcpu>
  <os><type>exe</type></os>
  <lxc:namespace xmlns:lxc='http://libvirt.org/schemas/domain/lxc/1.0'>
    <lxc:sharenet type='netns' value='$(netns "$name")'/>
  </lxc:namespace>
  <metadata><b:domain xmlns:b='urn:bulkhead:domain:1' kind='guest' door='tap'/></metadata>
  <devices>
    <interface type='ethernet'>
      <backenddomain name='$driver'/>
      ${mtu:+<mtu size='$mtu'/>}
      $*
      <guest dev='eth0'/>
    </interface>
  </devices>
</domain>
XML
    bh define "$RUN/$name.xml"
    bh start "$name"
    on "$name" ip addr add "$address/24" dev eth0
    on "$name" ip link set eth0 up
}

# link_file NAMESPACE FILE: of its eth0 (this needs a sysfs of the namespace's own).
link_file() { ip netns exec "$(netns "$1")" cat "/sys/class/net/eth0/$2"; }
mac_of() { link_file "$1" address; }
pings() { on "$1" ping -q -c 1 -W "${3:-2}" "$2" >/dev/null 2>&1; }
never_pings() { ! pings "$1" "$2" 1; }
helper() { echo "$BUILD/tests/integration/helpers/$1"; }

# listening NAMESPACE PORT
listening() { on "$1" ss -Hltn "sport = :$2" | has .; }

# transfer FROM TO ADDRESS MIB [DAMAGED-OFFSET]: TCP with every byte checked; says
# how many MiB a second.
port=5000
transfer() {
    local from=$1 to=$2 address=$3 bytes=$(($4 << 20)) receiver
    port=$((port + 1))
    aside "$to" "$(helper tcp_check)" serve "$address" $port $bytes $port >"$RUN/rate" 2>"$RUN/tcp_check" &
    receiver=$!
    wait_for 5 listening "$to" $port || fail "the receiver does not listen"
    on "$from" "$(helper tcp_check)" send "$address" $port $bytes $port ${5:+"$5"} 2>>"$RUN/tcp_check" || {
        kill $receiver 2>/dev/null || true
        wait $receiver 2>/dev/null || true
        return 1
    }
    wait $receiver && cat "$RUN/rate"
}

# serve_iperf3 NAMESPACE: a server there until the end.
serve_iperf3() {
    aside "$1" iperf3 -s >"$RUN/iperf3-$1.server" 2>&1 &
    wait_for 5 listening "$1" 5201 || fail "iperf3 does not listen in $1"
}
# Mbit/s that came through: iperf3_rate NAMESPACE ADDRESS [options]
iperf3_rate() {
    local name=$1
    shift
    on "$name" iperf3 -J -c "$@" >"$RUN/iperf3-$name.json" || { jq -r .error "$RUN/iperf3-$name.json" >&2; return 1; }
    jq '.end.sum_received.bits_per_second / 1e6 | floor' "$RUN/iperf3-$name.json"
}
# percentile P of the times that ping printed: ping ... | round_trip_us 99
round_trip_us() {
    sed -nE 's/.* time=([0-9.]+) ms$/\1/p' | sort -n |
        awk -v p="$1" '{t[NR] = $1} END {i = int(NR * p / 100 + 0.999); printf "%d\n", t[i < 1 ? 1 : i] * 1000}'
}
