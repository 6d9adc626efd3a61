# SPDX-License-Identifier: MIT
# slow.bash - a disk that can be late: a file on slowfs.  For scripts that have
# sourced lib.bash.

need_fuse() { [ -c /dev/fuse ] || skip "this machine has no FUSE to make a late device with"; }

slow_start() { # NAME [SIZE]: $RUN/NAME.img as $RUN/NAME/disk, told in $RUN/NAME.order
    image "$1.img" "${2:-1M}"
    mkdir "$RUN/$1"
    "$(helper slowfs)" "$RUN/$1.img" "$RUN/$1" >"$RUN/$1.order" 2>"$RUN/$1.slowfs" &
    slow=$! order=$RUN/$1.order slow_dir=$RUN/$1
    mounts+=("$slow_dir")
    wait_for 10 came mounted || fail "slowfs: $(cat "$RUN/$1.slowfs")"
}
slow_stop() {
    kill "$slow"
    wait "$slow" || fail "slowfs ended with $?"
    mounts=()
}
# hold: the next write is taken and not applied. apply: it is now. "late US": every read and write takes that long.
tell_slow() { echo "$1" >"$slow_dir/control"; }

came() { grep -qx -m 1 "$1" "$order"; }
# Where in the order the first line stands that is one of these; 0: nowhere.
place() { grep -nxE -m 1 "$1" "$order" | cut -d: -f1 | grep . || echo 0; }
before() {
    local a b
    a=$(place "$1") b=$(place "$2")
    [ "$a" -gt 0 ] && [ "$b" -gt 0 ] && [ "$a" -lt "$b" ]
}
