# SPDX-License-Identifier: MIT
# plain.bash - controls: a plain vhost-user backend, which maps its guest's memory.  For scripts that
# have sourced lib.bash, libvirt.bash and vm.bash.

# plain_start NAME IMAGE [SLOW]: qemu-storage-daemon at $RUN/NAME.sock; $plain is its pid. SLOW: some ten requests a second.
plain_start() {
    local top=file throttle=()
    if [ -n "${3:-}" ]; then
        throttle=(--object 'throttle-group,id=slow,x-iops-read=40,x-iops-write=8'
            --blockdev driver=throttle,node-name=slow,throttle-group=slow,file=file)
        top=slow
    fi
    rm -f "$RUN/$1.sock"
    # throttle-group first: it is named by what follows.
    qemu-storage-daemon "${throttle[@]:0:2}" --blockdev driver=file,node-name=file,filename="$2",locking=off "${throttle[@]:2}" \
        --export type=vhost-user-blk,id=disk,node-name=$top,addr.type=unix,addr.path="$RUN/$1.sock",writable=on \
        >>"$RUN/$1.log" 2>&1 &
    plain=$!
    wait_for 10 test -S "$RUN/$1.sock" || fail "qemu-storage-daemon: $(cat "$RUN/$1.log")"
    chown "$LIBVIRT_QEMU_USER" "$RUN/$1.sock"
}
plain_kill() {
    kill -9 "$plain"
    wait "$plain" 2>/dev/null || true
}
