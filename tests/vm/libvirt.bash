# SPDX-License-Identifier: MIT
# libvirt.bash - a private libvirtd for one test, beside lib.bash.
#
#   . "$(dirname "$0")/../integration/lib.bash"
#   . "$(dirname "$0")/libvirt.bash"
#   stack_start
#   libvirt_start                     # libvirtd, with our hook, serves
#   virsh define --validate "$RUN/g1.xml"
#   virsh start g1
#   libvirt_kill; libvirt_start       # libvirtd dies and comes again; guests run on
#
# It has namespaces of its own: mounts (its /etc/libvirt, /var/lib/libvirt and
# so on, and /run, are folders below $LIBVIRT), network (an empty one: no
# bridge, no firewall rule of the machine changes) and pids (whatever it
# started is gone with them). So several tests run at a time, and beside a
# libvirtd of the machine. There is no systemd and no KVM in it: guests are
# <domain type='qemu'>.
#
# Variables to set before libvirt_start, where the default is not right:
#   LIBVIRT_QEMU_USER  who QEMU runs as (default: libvirt-qemu, else root).
#                      What a guest writes goes into $LIBVIRT_GUESTS, which is
#                      that user's; what it reads must be readable to all.
#   LIBVIRT_HOOK       no: without the hook.
LIBVIRT=$RUN/libvirt
LIBVIRT_GUESTS=$LIBVIRT/guests
LIBVIRT_URI="qemu:///system?socket=$LIBVIRT/run/libvirt/libvirt-sock"
LIBVIRT_QEMU_USER=${LIBVIRT_QEMU_USER:-$(id -un libvirt-qemu 2>/dev/null || echo root)}
LIBVIRT_HOOK=${LIBVIRT_HOOK:-yes}
# What libvirt found out about QEMU takes seconds, and it checks itself whether it still holds.
LIBVIRT_KNOWN=$BUILD/tests/vm/libvirt-cache
libvirt_space="" libvirt_init="" libvirtd=""

virsh() { command virsh --quiet --connect "$LIBVIRT_URI" "$@"; }

libvirt_configure() {
    local dir
    mkdir -p "$LIBVIRT"/{etc/hooks/qemu.d,lib,log/qemu,cache/qemu,run,guests}
    for dir in etc lib log cache; do chmod 755 "$LIBVIRT/$dir"; done
    chown "$LIBVIRT_QEMU_USER" "$LIBVIRT_GUESTS"
    cat >"$LIBVIRT/etc/qemu.conf" <<CONF
user = "$LIBVIRT_QEMU_USER"
group = "$(id -gn "$LIBVIRT_QEMU_USER")"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
security_default_confined = 0
namespaces = [ ]
cgroup_controllers = [ ]
stdio_handler = "file"
CONF
    cat >"$LIBVIRT/etc/libvirtd.conf" <<CONF
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_rw_perms = "0700"
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
CONF
    [ "$LIBVIRT_HOOK" = no ] || libvirt_hook "$SBIN/bulkhead-libvirt"
    [ ! -d "$LIBVIRT_KNOWN" ] || cp -r "$LIBVIRT_KNOWN" "$LIBVIRT/cache/qemu/capabilities"
}

# libvirt_hook PROGRAM: what is installed as /etc/libvirt/hooks/qemu.d/bulkhead, for this stack.
# libvirtd looks for hooks when it starts.
libvirt_hook() {
    printf '#!/bin/sh\nexec "%s" --run-dir "%s" hook "$@"\n' "$1" "$DIR" >"$LIBVIRT/etc/hooks/qemu.d/bulkhead"
    chmod 755 "$LIBVIRT/etc/hooks/qemu.d/bulkhead"
}

# The namespaces, and a process that keeps them and reaps whoever is orphaned there.
libvirt_enter() {
    # shellcheck disable=SC2016 # meant for the inner shell
    setpriv --pdeathsig KILL unshare --mount --net --pid --fork --kill-child --mount-proc --propagation private \
        bash -euc '
            for dir in /etc/libvirt /var/lib/libvirt /var/log/libvirt /var/cache/libvirt; do mkdir -p $dir; done
            mount --bind "$1/etc" /etc/libvirt
            mount --bind "$1/lib" /var/lib/libvirt
            mount --bind "$1/log" /var/log/libvirt
            mount --bind "$1/cache" /var/cache/libvirt
            mount --bind "$1/run" /run
            mount -t sysfs none /sys # of this network namespace
            ip link set lo up
            touch "$1/entered"
            while :; do sleep 1000; done' - "$LIBVIRT" </dev/null >"$LIBVIRT/space.log" 2>&1 &
    libvirt_space=$!
    endings+=(libvirt_end)
    wait_for 10 test -e "$LIBVIRT/entered" || fail "no namespaces for libvirtd: $(cat "$LIBVIRT/space.log")"
    libvirt_init=$(pgrep -P "$libvirt_space")
}

# libvirt_inside COMMAND...: as libvirtd sees the machine. The shell's child is nsenter,
# whose child is the command.
libvirt_inside() { nsenter --target "$libvirt_init" --mount --net --pid "$@"; }

# libvirt_start: the first time, or anew after libvirt_kill. Returns when it serves.
libvirt_start() {
    need_root
    if [ -z "$libvirt_space" ]; then
        libvirt_configure
        libvirt_enter
    fi
    nsenter --target "$libvirt_init" --mount --net --pid \
        /usr/sbin/libvirtd --pid-file /run/libvirtd.pid --config /etc/libvirt/libvirtd.conf \
        </dev/null >>"$LIBVIRT/libvirtd.out" 2>&1 &
    libvirtd_job=$!
    wait_for 60 virsh version || fail "libvirtd does not answer: $(tail -n 5 "$LIBVIRT/libvirtd.out" "$LIBVIRT/log/libvirtd.log")"
    libvirtd=$(pgrep -P "$libvirtd_job")
    if [ ! -d "$LIBVIRT_KNOWN" ] && [ -d "$LIBVIRT/cache/qemu/capabilities" ]; then
        mkdir -p "${LIBVIRT_KNOWN%/*}"
        cp -r "$LIBVIRT/cache/qemu/capabilities" "$LIBVIRT_KNOWN.$$"
        mv -T "$LIBVIRT_KNOWN.$$" "$LIBVIRT_KNOWN" 2>/dev/null || rm -rf "$LIBVIRT_KNOWN.$$"
    fi
}

# libvirt_kill [SIGNAL]: libvirtd alone, by default as a crash; guests run on. Returns when it is gone.
libvirt_kill() {
    kill "-${1:-KILL}" "$libvirtd"
    wait "$libvirtd_job" 2>/dev/null || true
    libvirtd=
}

# Everything: guests too. at_exit calls it.
libvirt_end() {
    [ -n "$libvirt_space" ] || return 0
    if [ "${status:-0}" -ne 0 ] && [ "${status:-0}" -ne 77 ]; then
        tail -n 20 "$LIBVIRT/log/libvirtd.log" "$LIBVIRT"/log/qemu/*.log 2>/dev/null || true
    fi
    # The first process of a pid namespace takes all others with it, and ends after them.
    kill -9 "${libvirt_init:-$libvirt_space}" 2>/dev/null || true
    wait "$libvirt_space" 2>/dev/null || true
    libvirt_space="" libvirt_init="" libvirtd=""
}

# guest_state NAME: "running", "shut off"...
guest_state() { virsh domstate "$1"; }
guest_is() { [ "$(guest_state "$1" 2>/dev/null)" = "$2" ]; }
# guest_pid NAME: QEMU's, as this shell sees it.
guest_pid() {
    local inner
    inner=$(cat "$LIBVIRT/run/libvirt/qemu/$1.pid") || return 1
    pgrep --ns "$libvirt_init" --nslist pid -f "guest=$1," | while read -r pid; do
        [ "$(awk '/^NSpid:/ {print $NF}' "/proc/$pid/status")" != "$inner" ] || echo "$pid"
    done
}
