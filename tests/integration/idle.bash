# SPDX-License-Identifier: MIT
# idle.bash - does a stack that has nothing to do use a processor, and how large are
# its processes?  For scripts that have sourced lib.bash and started a stack.
SECONDS_IDLE=${SECONDS_IDLE:-10}

# Every process that stems from the daemon.
family() {
    local pid
    echo "$1"
    for pid in $(cat /proc/"$1"/task/*/children 2>/dev/null); do
        family "$pid"
    done
}
ticks() { awk '{sub(/^.*\) /, ""); print $12 + $13}' "/proc/$1/stat"; }
kib() { awk -v key="$2:" '$1 == key {print $2}' "/proc/$1/status"; }

# measure_idle PROCESSES: so many at least are there, and none of them works.
measure_idle() {
    local pid pids hz sum=0 spent name rss shmem limit share spinner first
    sleep 1
    pids=$(family "$daemon")
    [ "$(echo "$pids" | wc -l)" -ge "$1" ] || fail "of $1 processes only these run: $(ps -o pid,comm -p "${pids//$'\n'/,}")"
    declare -A before=()
    for pid in $pids; do before[$pid]=$(ticks "$pid"); done
    sleep $SECONDS_IDLE
    hz=$(getconf CLK_TCK)
    printf '  %-18s %8s %12s %12s\n' process 'CPU ms' 'resident KiB' 'of it shared'
    for pid in $pids; do
        spent=$(($(ticks "$pid") - before[$pid]))
        sum=$((sum + spent))
        name=$(cat "/proc/$pid/comm")
        rss=$(kib "$pid" VmRSS) shmem=$(kib "$pid" RssShmem)
        printf '  %-18s %8d %12d %12d\n' "$name" $((spent * 1000 / hz)) "$rss" "$shmem"
        # The guests' pools count too: they are mapped.
        case $name in
        bulkhead-core) limit=2048 ;;
        bulkhead-store) limit=4096 ;;
        bulkhead-blk) limit=8192 ;;
        bulkhead-netdev) limit=4096 ;;
        bulkhead-net) limit=65536 ;;
        *) limit=0 ;;
        esac
        [ $limit -eq 0 ] || [ "$rss" -lt $limit ] || fail "$name has $rss KiB resident, limit $limit"
    done
    share=$((sum * 10000 / hz / SECONDS_IDLE))
    printf '  the whole stack, idle: %d.%02d %% of a core\n' $((share / 100)) $((share % 100))
    [ $share -lt 100 ] || fail "an idle stack uses 1 % of a core or more"

    # Control: the same ruler sees a process that does spin.
    bash -c 'while :; do :; done' &
    spinner=$!
    first=$(ticks $spinner)
    sleep 1
    [ $(($(ticks $spinner) - first)) -gt $((hz / 20)) ] || fail "control: a spinning process is not seen"
    kill $spinner
}
