# SPDX-License-Identifier: MIT
# vhost.bash - for scripts about guests behind a vhost-user door.  Their VMM is
# `bulkhead bench vublk`, which speaks the protocol and is no QEMU.

# Who dies is killed here: no verdict of a heartbeat comes between on a busy machine.
STEADY="<b:recovery heartbeat='0'/>"

# ask COMMAND [FILE or NAME]: a request to bulkheadd; its answer.
ask() { "$(helper ask)" "$DIR" "$@"; }
# sentence COMMAND...: of an answer that is to be a refusal.
sentence() {
    local said status=0
    said=$(ask "$@") || status=$?
    [ $status = 1 ] || fail "$* was to be refused, but: status $status $said"
    jq -r .error <<<"$said"
}

# vm_xml NAME DEVICE...: its definition in $RUN/NAME.xml.  A DEVICE: vda=disk0,FILE or
# eth0=net0,MAC, as elements of our metadata (the doors stand ready; nobody plugs them in).
vm_xml() {
    local name=$1 device dev of
    shift
    {
        echo "<domain type='kvm'>"
        echo "  <name>$name</name>"
        echo "  <memory unit='MiB'>256</memory>"
        echo "  <metadata><b:domain xmlns:b='urn:bulkhead:domain:1' kind='guest' door='vhost-user'>"
        for device in "$@"; do
            dev=${device%%=*} of=${device#*=}
            case $dev in
            vd?) echo "    <b:disk dev='$dev' driver='${of%%,*}' file='${of#*,}'/>" ;;
            *) echo "    <b:interface dev='$dev' driver='${of%%,*}'><mac address='${of#*,}'/></b:interface>" ;;
            esac
        done
        echo "  </b:domain></metadata>"
        echo "  <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
        echo "</domain>"
    } >"$RUN/$name.xml"
}
# vm_open NAME DEVICE...
vm_open() {
    vm_xml "$@"
    ask open "$RUN/$1.xml" >"$RUN/$1.answer" || fail "open $*: $(cat "$RUN/$1.answer")"
}
vm_close() { ask close "$1" >/dev/null || fail "close $1"; }

door() { echo "$DIR/guests/$1/$2.sock"; }
# vmm NAME DEV SECONDS [options]: writes and reads that disk, every block checked.
vmm() {
    "$BIN/bulkhead" bench vublk --verify --reconnect --socket "$(door "$1" "$2")" --seconds "$3" --patience 30 \
        --span 16M "${@:4}" >"$RUN/vmm-$1-$2" 2>&1 || { cat "$RUN/vmm-$1-$2" >&2; return 1; }
}

# vmm_load NAME DEV [options] &: the same again and again until $RUN/enough is there.  It may
# begin while nobody listens: a VMM that starts then is started again.
vmm_load() {
    local tries=0
    until [ -e "$RUN/enough" ]; do
        if vmm "$1" "$2" 2 "${@:3}" 2>/dev/null; then
            tries=0
        elif grep -q 'cannot use the disk' "$RUN/vmm-$1-$2" && [ $((++tries)) -lt 100 ]; then
            sleep 0.1
        else
            return 1
        fi
    done
}
# vmm_enough JOB...: they end, and nothing was lost.
vmm_enough() {
    local job
    touch "$RUN/enough"
    for job in "$@"; do
        wait "$job" || fail "a request was lost, or a block is not right: $(tail -n 3 "$RUN"/vmm-*)"
    done
    rm "$RUN/enough"
}

# Log files are opened when there is something to write.
fds() { ls -l "/proc/$1/fd" | grep -vc /logs/; }
# The store's nodes but for what is counted and reported, with N for each domain.
nodes() {
    XENSTORED_PATH=$DIR/store.sock xenstore-ls -f /local | sed -E 's/ = .*//; s#/[0-9]+#/N#g' |
        grep -vE '/(stats|ping|pong)(/|$)|/report/v[a-z]+/N/' | sort
}
# Of a driver domain's spare; "" when there is none.  Each domain has a uid of its own.
spare_pid() {
    local domid
    domid=$(info "$1" '.spare.domid // 0')
    [ "$domid" = 0 ] || pgrep -P "$core" -u $(($(stat -c %u "$DIR/bulkheadd.sock") + domid))
}
settled() { # NAME...: they run, and their spares stand by
    local name
    for name in "$@"; do spared "$name" >/dev/null || return 1; done
}
# holdings: all that must not grow, a line each: descriptors, store nodes, sockets.
holdings() {
    local name pid
    echo "bulkheadd $(fds "$daemon")"
    echo "core $(fds "$core")"
    for name in "$@"; do
        pid=$(info "$name" .pid)
        echo "$name $(fds "$pid")"
    done
    for name in "$@"; do
        pid=$(spare_pid "$name")
        [ -z "$pid" ] || echo "$name@spare $(fds "$pid")"
    done
    nodes
    echo "sockets $(find "$DIR/guests" -type s | sort | tr '\n' ' ')"
}
