# SPDX-License-Identifier: MIT
# restart.bash - for scripts that kill bulkheadd: what runs lives on, so at the end
# there must be a daemon again that ends it.

# daemon_kill: as hard as it gets.
daemon_kill() {
    kill -9 "$daemon"
    wait "$daemon" 2>/dev/null || true
    killed=yes
}

daemon_again() {
    "$SBIN/bulkheadd" --run-dir "$DIR" --foreground >>"$RUN/bulkheadd.log" 2>&1 </dev/null &
    daemon=$!
    killed=
    wait_for 10 bh list || fail "bulkheadd does not answer again: $(tail -n 3 "$RUN/bulkheadd.log")"
}

killed= core=
restart_end() {
    local status=$?
    set +e
    if [ -n "$killed" ]; then
        (daemon_again) || kill -9 "$core"
        daemon=$(pgrep -f "^$SBIN/bulkheadd --run-dir $DIR ")
    fi
    stack_stop
    [ -z "$core" ] || wait_for 5 gone "$core" || kill -9 "$core"
    (exit $status)
    at_exit
}
trap restart_end EXIT

# stack_start, and who the core is.
restart_start() {
    stack_start
    core=$(pgrep -P "$daemon" bulkhead-core) || fail "there is no core"
}
gone() { ! readlink "/proc/$1/exe"; } # a zombie has no program
store_pid() { pgrep -P "$core" -f '^bulkhead-store'; }
keeper_pid() { pgrep -P "$core" -f '^bulkhead-netdev'; }

# pids NAME...: of the core, the store and these domains.
pids() {
    local name
    echo "core=$core store=$(store_pid) keeper=$(keeper_pid || true)"
    for name in "$@"; do echo "$name=$(info "$name" .pid)"; done
}
is() { [ "$(info "$1" .state)" = "$2" ]; }

# stream FROM TO ADDRESS PORT: TCP with every byte checked, again and again until $RUN/enough is there.
stream() {
    local pass=0
    port=$4
    until [ -e "$RUN/enough" ]; do
        transfer "$1" "$2" "$3" 256 >/dev/null || { cat "$RUN/tcp_check" >&2; return 1; }
        echo $((++pass)) >"$RUN/$1.streams"
    done
}
