#!/bin/bash
# SPDX-License-Identifier: MIT
# A guest that floods slows only itself: the victim beside it keeps a share.
# In turn, byte for byte, that is about a half; in order of arrival it would be
# 16 x 4 KiB in 32 x 256 KiB: less than 0.01.  The bound lies far from both.
. "$(dirname "$0")/lib.bash"
need_root
"$BIN/bulkhead" bench fair --seconds 0.5 --runs 3 --json >"$RUN/fair.json"
keeps=$(jq .ratio.median "$RUN/fair.json")
say "beside the flood the victim keeps $keeps of its requests (p99 $(jq .flooded.p99_us "$RUN/fair.json") us; alone $(jq .alone.p99_us "$RUN/fair.json") us)"
jq -e '.ratio.median > 0.05' "$RUN/fair.json" >/dev/null || fail "the flooder took nearly everything"
jq -e '.flooder_mib_s.min > 0 and .alone.kiops.min > 0' "$RUN/fair.json" >/dev/null || fail "control: someone did nothing"
