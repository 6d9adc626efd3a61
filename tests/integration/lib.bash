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
mounts=() loops=()

fail() { echo "FAILED: $*" >&2; exit 1; }
say() { echo "  $*"; }
# Status 77 is a skip; the last line says why.
skip() { echo "SKIP: $*"; exit 77; }

stack_stop() {
    [ -n "$daemon" ] || return 0
    kill "$daemon" 2>/dev/null || true
    for _ in $(seq 100); do
        kill -0 "$daemon" 2>/dev/null || break
        sleep 0.1
    done
    kill -9 "$daemon" 2>/dev/null || true
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
    stack_stop
    local m
    for m in ${mounts[@]+"${mounts[@]}"}; do
        umount "$m" || umount -l "$m" || true
    done
    for m in ${loops[@]+"${loops[@]}"}; do
        losetup -d "$m" || true
    done
    rm -rf "$RUN"
    exit $status
}
trap at_exit EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

need_root() { [ "$(id -u)" -eq 0 ] || fail "needs root: run it as root or with sudo"; }

bh() { "$BIN/bulkhead" --run-dir "$DIR" "$@"; }

# wait_for SECONDS COMMAND...: until it succeeds.
wait_for() {
    local tries=$(($1 * 20))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $((tries--)) -gt 0 ] || return 1
        sleep 0.05
    done
}

stack_start() {
    need_root
    "$SBIN/bulkheadd" --run-dir "$DIR" --foreground >"$RUN/bulkheadd.log" 2>&1 </dev/null &
    daemon=$!
    wait_for 10 bh list || fail "bulkheadd does not answer: $(tail -n 3 "$RUN/bulkheadd.log")"
}

# driver NAME [VCPUS]: a driver domain for disks, defined and started.
driver() {
    cat >"$RUN/$1.xml" <<XML
<domain type='lxc'>
  <name>$1</name>
  <memory unit='MiB'>64</memory>
  <vcpu>${2:-1}</vcpu>
  <os><type>exe</type></os>
  <metadata><b:domain xmlns:b='urn:bulkhead:domain:1' kind='driver' class='blk'/></metadata>
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
