#!/bin/bash
# SPDX-License-Identifier: MIT
# Every crash point of both backends and both frontends is died of at least once, by
# name, under verified I/O.  Control: with replay off the same load has losses.
# Needs the build with crash points beside the usual one: make CRASH=1 (BUILD-crash).
. "$(dirname "$0")/lib.bash"
need_root
crash=${CRASH_BUILD:-$BUILD-crash}
[ -x "$crash/bulkhead" ] || fail "there is no $crash/bulkhead: make CRASH=1 BUILD=$BUILD"
bench() {
    local name=$1
    shift
    "$crash/bulkhead" bench restart --json "$@" >"$RUN/$name.json" 2>"$RUN/$name.err"
}

# What is left of a build without them.
for program in blk net; do
    [ "$("$crash/bulkhead-$program" --crash-points | wc -l)" -gt 0 ] || fail "bulkhead-$program has no crash points"
    if "$BUILD/bulkhead-$program" --crash-points 2>/dev/null | has .; then
        fail "the usual bulkhead-$program has crash points"
    fi
done

for class in blk net; do
    bench $class --how crash-point --class $class || fail "$class: $(cat "$RUN/$class.err" "$RUN/$class.json")"
    jq -e '.lost == 0 and .duplicated == 0 and .stale == 0 and .errors == 0 and (.points.not_hit | length) == 0' "$RUN/$class.json" >/dev/null ||
        fail "$class: $(cat "$RUN/$class.json")"
    jq -r '.points.hit[] | "  \(.name): \(.when)"' "$RUN/$class.json"
done

if bench control --kills 5 --replay off --patience 2; then
    fail "control: nothing is lost without replay: $(cat "$RUN/control.json")"
fi
jq -e '.lost > 0' "$RUN/control.json" >/dev/null || fail "control: $(cat "$RUN/control.err" "$RUN/control.json")"
say "$(jq -s '[.[].points.hit | length] | add' "$RUN/blk.json" "$RUN/net.json") crash points, each died of by name, nothing lost; without replay $(jq .lost "$RUN/control.json") requests are"
