#!/bin/bash
# SPDX-License-Identifier: MIT
# The store by itself, as its own user and in its jail, under the stock xenstore tools.
set -eu -o pipefail

BUILD=$(realpath "${BUILD:-$(dirname "$0")/../../build}")
RUN=$(mktemp -d /tmp/bulkhead-store.XXXXXX)
chmod 755 "$RUN"
launcher=
BASE=1912602624 # LOCAL_UID_BASE

at_exit() {
    local status=$? job
    for job in $(jobs -p); do kill "$job" 2>/dev/null || true; done
    [ -z "$launcher" ] || kill "$launcher" 2>/dev/null || true
    rm -rf "$RUN"
    exit $status
}
trap at_exit EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }
say() { echo "  $*"; }
skip() { echo "SKIP: $*"; exit 77; }

[ "$(id -u)" = 0 ] || skip "needs root: the store tells its clients apart by uid"
for tool in xenstore-ls xenstore-watch setpriv; do
    [ -n "$(command -v $tool)" ] || fail "$tool is not installed: run deploy/packages"
done

# ---- start, under the data limit that the core sets
mkfifo "$RUN/in" "$RUN/out"
launch() {
    rm -f "$RUN/sock"
    (ulimit -d 65536; exec "$BUILD/tests/integration/store_launch" "$BUILD/bulkhead-store" "$RUN/sock" \
        <"$RUN/in" >"$RUN/out" 2>"$RUN/err") &
    launcher=$!
    exec 8>"$RUN/in" 9<"$RUN/out"
    read -r -t 20 -u 9 pid || fail "the store did not start: $(cat "$RUN/err")"
}
launch
core() { # introduce D | release D
    echo "$*" >&8
    local word
    read -r -t 20 -u 9 word && [ "$word" = done ] || fail "$*: $(cat "$RUN/err")"
}
export XENSTORED_PATH=$RUN/sock
as() { local d=$1; shift; setpriv --reuid $((BASE + d)) --regid $((BASE + d)) --clear-groups "$@"; }
refused() { ! "$@" >"$RUN/said" 2>&1 || fail "was not refused: $*: $(cat "$RUN/said")"; }
is() { [ "$1" = "$2" ] || fail "expected '$2', got '$1'"; }

core introduce 1
core introduce 2
for d in 1 2; do
    xenstore-write "/local/domain/$d/name" "g$d" "/local/domain/$d/domid" "$d"
    xenstore-chmod -r "/local/domain/$d" "n$d"
done

# ---- dom0's tools
is "$(xenstore-read /local/domain/1/name)" g1
is "$(xenstore-list /local/domain | tr '\n' ' ')" "1 2 "
is "$(xenstore-ls -f /local/domain/1 | tr '\n' ' ')" \
    '/local/domain/1/name = "g1" /local/domain/1/domid = "1" '
xenstore-ls -f -p | grep '^/local/domain/2/name = "g2" *(n2)$' >/dev/null || fail "xenstore-ls -f -p"
xenstore-exists /local/domain/1/name || fail "xenstore-exists says no"
refused xenstore-exists /local/domain/1/none
xenstore-write /a/b/c 1 && xenstore-rm /a/b && refused xenstore-read /a/b/c
refused xenstore-write '/bad path' 1
say "stock tools as dom0: read, write, list, ls -f -p, exists, rm, chmod"

# ---- more names than a message holds
for i in $(seq 300); do
    printf '/big/quite-a-long-name-for-a-node-%s\0x\0' "$i"
done | xargs -0 xenstore-write
is "$(xenstore-list /big | wc -l)" 300
is "$(xenstore-ls -f /big | wc -l)" 300
xenstore-rm /big
say "a directory of 300 long names in parts"

# ---- guests: own nodes yes, another's no; and the control
as 1 xenstore-write data/mine hello
is "$(as 1 xenstore-read data/mine)" hello
is "$(as 1 xenstore-read /local/domain/1/data/mine)" hello
is "$(xenstore-read /local/domain/1/data/mine)" hello
refused as 1 xenstore-read /local/domain/2/name
refused as 1 xenstore-write /local/domain/2/name stolen
refused as 1 xenstore-write /local/domain/2/new x
refused as 1 xenstore-rm /local/domain/2/name
refused as 1 xenstore-chmod /local/domain/2/name b1
refused as 1 xenstore-list /local/domain
refused as 1 xenstore-write /top x
is "$(as 1 xenstore-ls -f / 2>/dev/null || true)" ""
is "$(xenstore-read /local/domain/2/name)" g2
as 2 xenstore-chmod name n2 r1
is "$(as 1 xenstore-read /local/domain/2/name)" g2
refused as 1 xenstore-write /local/domain/2/name stolen
as 2 xenstore-chmod name n2
refused as 1 xenstore-read /local/domain/2/name
say "a guest reads and writes its own nodes and no others; dom0 all"

# ---- who may come in
refused as 9 xenstore-read /local/domain/1/name
refused setpriv --reuid 65534 --regid 65534 --clear-groups xenstore-read /local/domain/1/name
is "$(as 0 xenstore-read /local/domain/1/name)" g1 # the daemon's own uid is dom0 as well
say "unknown uids are closed at once"

# ---- watches
watcher() { # DOMID PATH FILE
    exec setpriv --reuid $((BASE + $1)) --regid $((BASE + $1)) --clear-groups \
        stdbuf -oL xenstore-watch "$2" >"$3" 8>&- 9<&-
}
heard() { # FILE LINE
    for _ in $(seq 200); do
        grep -qxF "$2" "$1" && return 0
        sleep 0.05
    done
    fail "xenstore-watch did not tell of $2: $(cat "$1")"
}
watcher 0 /local/domain/1 "$RUN/w0" &
watcher 2 /local/domain/1 "$RUN/w2" &
watcher 2 /local/domain/2 "$RUN/own" &
watcher 0 @releaseDomain "$RUN/gone" &
heard "$RUN/w0" /local/domain/1
heard "$RUN/w2" /local/domain/1
heard "$RUN/own" /local/domain/2
heard "$RUN/gone" @releaseDomain
as 1 xenstore-write data/watched 1
as 2 xenstore-write data/own 1
heard "$RUN/w0" /local/domain/1/data/watched
heard "$RUN/own" /local/domain/2/data/own
is "$(cat "$RUN/w2")" /local/domain/1 # the first event, and nothing of what it may not read
say "xenstore-watch hears what it may read, and only that"

# ---- death
core release 1
for _ in $(seq 200); do
    [ "$(wc -l <"$RUN/gone")" -ge 2 ] && break
    sleep 0.05
done
is "$(wc -l <"$RUN/gone")" 2
refused xenstore-read /local/domain/1/name
refused as 1 xenstore-read name
core introduce 1
refused as 1 xenstore-read data/mine
say "a dead domain's nodes are gone, also for the next of that domid"

# ---- killed: the next one has it all
next_store() {
    echo kill >&8
    read -r -t 20 -u 9 pid || fail "the store did not start again: $(cat "$RUN/err")"
    read -r -t 20 -u 9 word && [ "$word" = done ] || fail "kill: $(cat "$RUN/err")"
}
xenstore-write /local/domain/1/name g1
xenstore-chmod -r /local/domain/1 n1
as 1 xenstore-write data/mine again
as 2 xenstore-chmod name n2 r1
as 2 xenstore-write "data/$(printf 'long%.0s' $(seq 40))" "$(seq 300 | tr '\n' ' ')"
for round in 1 2 3; do
    before=$(xenstore-ls -f -p)
    next_store
    is "$(xenstore-ls -f -p)" "$before"
    is "$(as 1 xenstore-read data/mine)" again
    is "$(as 1 xenstore-read /local/domain/2/name)" g2
    refused as 1 xenstore-write /local/domain/2/name stolen
    xenstore-write "/round/$round" "$round"
done
is "$(xenstore-list /round | wc -l)" 3
say "killed three times: tree, owners and permissions are as they were"
core forget 2
next_store
refused xenstore-read /local/domain/2/name
refused as 2 xenstore-read name
is "$(as 1 xenstore-read data/mine)" again
say "who died while there was no store is gone"

# ---- what it costs and what it may
for job in $(jobs -p); do [ "$job" = "$launcher" ] || kill "$job" 2>/dev/null || true; done
field() { sed -n "s/^$1:[[:space:]]*\([0-9]*\).*/\1/p" "/proc/$pid/status"; }
rss=$(field VmRSS)
[ "$rss" -lt 4096 ] || fail "$rss KiB resident"
is "$(field Seccomp)" 2
is "$(field NoNewPrivs)" 1
is "$(field Uid)" $((BASE + 32766))
before=$(awk '{print $14 + $15}' "/proc/$pid/stat")
sleep 1
is "$(awk '{print $14 + $15}' "/proc/$pid/stat")" "$before"
say "resident: $rss KiB; sealed; idle: no tick of CPU in a second"

# ---- the end of the core is the end of the store
exec 8>&-
read -r -t 20 -u 9 status || fail "the store did not end with its control connection"
is "$status" 0
wait "$launcher" || fail "$(cat "$RUN/err")"
launcher=

# ---- a journal that cannot be right
launch
xenstore-write /a b # it has begun with its journal
echo damage >&8
read -r -t 20 -u 9 word && is "$word" done
echo kill >&8
read -r -t 20 -u 9 pid && read -r -t 20 -u 9 word && is "$word" done
read -r -t 20 -u 9 status || fail "the store took a damaged journal"
is "$status" 256
grep -qx 'bulkhead-store: the journal is damaged: .*; the store does not start' "$RUN/err" || fail "$(cat "$RUN/err")"
is "$(wc -l <"$RUN/err")" 1
exec 8>&-
wait "$launcher" || fail "$(cat "$RUN/err")"
launcher=
say "a damaged journal is refused in one sentence"
echo "ok"
