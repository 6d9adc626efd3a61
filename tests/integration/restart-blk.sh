#!/bin/bash
# SPDX-License-Identifier: MIT
# Random SIGKILLs of a disk driver domain under two guests of verified I/O at depth
# 32: nothing is lost, done twice, stale or failed, with a warm spare and without.
# RESTART_KILLS (60) and RESTART_COLD_KILLS (10); 1000 and 100 are the whole proof.
. "$(dirname "$0")/lib.bash"
need_root

# deaths SPARE KILLS [options]
deaths() {
    local spare=$1 kills=$2
    shift 2
    "$BIN/bulkhead" bench restart --spare "$spare" --kills "$kills" --json "$@" >"$RUN/$spare.json" 2>"$RUN/$spare.err" ||
        fail "$spare: $(cat "$RUN/$spare.err" "$RUN/$spare.json")"
    jq -e --argjson kills "$kills" '.kills == $kills and .lost == 0 and .duplicated == 0 and .stale == 0 and .errors == 0' \
        "$RUN/$spare.json" >/dev/null || fail "$spare: $(cat "$RUN/$spare.json")"
    # It was no quiet run: the dead had work that had to be done again.
    jq -e '.replayed > .kills and .reconnects >= 2 * .kills' "$RUN/$spare.json" >/dev/null || fail "$spare: nothing was in flight: $(cat "$RUN/$spare.json")"
    say "$(jq -r '"\(.kills) deaths, \(.spare) spare: \(.requests) requests, \(.replayed) sent again, downtime ms p50 \(.downtime_ms.p50) p99 \(.downtime_ms.p99) max \(.downtime_ms.max); before a death p50 \(.quiet_ms.p50) p99 \(.quiet_ms.p99); phases us \(.phases_us)"' "$RUN/$spare.json")"
}
deaths none "${RESTART_COLD_KILLS:-10}"
deaths warm "${RESTART_KILLS:-60}"
