#!/bin/bash
# SPDX-License-Identifier: MIT
# The Debian package builds and installs. It does so in a machine of its own: this one's files with a
# layer over them, in namespaces. Its units and manuals are clean, what it installed serves a disk, an
# upgrade leaves it running, and removal leaves nothing behind.
. "$(dirname "$0")/../integration/lib.bash"
need_root
for tool in dpkg-buildpackage:dpkg-dev dh:debhelper systemd-analyze:systemd man:man-db readelf:binutils \
    qemu-io:qemu-utils jq:jq python3:python3-minimal pgrep:procps; do
    command -v "${tool%:*}" >/dev/null || fail "${tool%:*} is missing (package ${tool#*:}): deploy/packages test installs it"
done
spaces_of_its_own() { unshare --mount --pid --net --ipc --uts --fork --kill-child --propagation private "$@"; }

# Where the kernel cannot lay anything over this root there is no machine to be had from it.
mkdir "$RUN/machine" "$RUN/debs" "$RUN/open"
cat >"$RUN/lay" <<'LAY'
set -eu
mount -t tmpfs layer "$1/machine"
mkdir "$1/machine/root"
# What is a file system of its own is not seen through the layer over the root: it gets one as well.
for part in / /usr /usr/local /etc /var /var/lib /var/cache /opt; do
    mountpoint -q "$part" || [ "$part" = / ] || continue
    name=${part//\//_}
    mkdir "$1/machine/"{over,work}"$name"
    mount -t overlay overlay -o "lowerdir=$part,upperdir=$1/machine/over$name,workdir=$1/machine/work$name" "$1/machine/root$part"
    echo "$part" >>"$1/machine/parts"
done
LAY
said=$(spaces_of_its_own bash "$RUN/lay" "$RUN" 2>&1) || skip "no layer can be laid over the files of this machine: ${said%%$'\n'*}"

# ----------------------------------------------------------------------------- the packages
make -C "$SOURCE" MAKEFLAGS= BUILD="$RUN/build" deb >"$RUN/deb.log" 2>&1 || { tail -n 20 "$RUN/deb.log" >&2; fail "make deb"; }
mv "$RUN"/build/deb/*.deb "$RUN/debs"
rm -rf "$RUN/build"
ours=$(ls "$RUN"/debs/bulkhead_*.deb) dev=$(ls "$RUN"/debs/libbulkhead-dev_*.deb)

dpkg-deb -x "$ours" "$RUN/open"
needs=$(dpkg-deb -f "$ours" Depends)
for library in libc6 libvirt0 libxml2 libjansson4 libseccomp2 libcap-ng0 liburing2 nbdkit; do
    grep -qE "(^|, )$library( |,|$)" <<<"$needs" || fail "the package does not depend on $library: $needs"
done
[ "$(dpkg-deb -I "$ours" conffiles)" = /etc/libvirt/hooks/qemu.d/bulkhead ] || fail "conffiles: $(dpkg-deb -I "$ours" conffiles)"
stripped() { ! readelf -SW "$1" | has -E ' \.(symtab|debug_info) '; }
shares() { readelf -dW "$1" | has '(NEEDED)'; }
elf=0 static=0
for program in "$RUN"/open/usr/{bin,sbin,libexec/bulkhead,lib}/*; do
    [ "$(head -c 4 "$program" 2>/dev/null | tail -c 3)" = ELF ] || continue
    elf=$((elf + 1))
    stripped "$program" || fail "${program#"$RUN/open"} has symbols or debug information in it"
    case $program in
    */bulkhead-nbd | */bulkhead-libvirt | */bulkhead | */bulkheadd | *.so*) shares "$program" || fail "control: ${program##*/} needs no library" ;;
    *) if shares "$program"; then fail "${program##*/} runs in an empty root, and needs libraries"; fi && static=$((static + 1)) ;;
    esac
done
[ $elf -ge 10 ] && [ $static -ge 6 ] || fail "there are $elf programs in the package, $static of them static"
if stripped "$BUILD/bulkhead"; then fail "control: the build tree's own program has no symbols"; fi
! grep -rlF -e "$RUN" -e "$SOURCE" "$RUN/open" || fail "a file of the package names the folder it was built in"
for page in "$RUN"/open/usr/share/man/*/*; do
    [ "${page%.gz}" != "$page" ] || fail "${page#"$RUN/open"} is not compressed"
done
say "make deb: $(cd "$RUN/debs" && ls ./*.deb | tr '\n' ' ')"

# ------------------------------------------------------- what is done in the machine
cat >"$RUN/inside" <<'INSIDE'
set -eu -o pipefail
fail() { echo "FAILED: $*" >&2; exit 1; }
# has: as grep -q, but to the end.
has() { grep "$@" >/dev/null; }
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
quietly() { "$@" >/tmp/said 2>&1 || { cat /tmp/said >&2; fail "$*"; }; }
ours=$(ls /tmp/debs/bulkhead_*.deb) dev=$(ls /tmp/debs/libbulkhead-dev_*.deb)

unit_file() { dpkg-query -L bulkhead | grep "/systemd/system/$1.service$"; }

# What the layer has and the machine below it has not, or has otherwise; but for what dpkg, ldconfig and
# useradd write down for themselves. In /var/lib/dpkg only the name counts.
changes() {
    local part kind path
    while read -r part; do
        find "/tmp/layer/over${part//\//_}" -mindepth 1 -printf '%y %P\n' | while read -r kind path; do
            path=${part%/}/$path
            case $path in
            /var/cache/* | /var/log/* | /etc/ld.so.cache | /etc/.pwd.lock | /etc/*- | /tmp | /run | /old) continue ;;
            /var/lib/dpkg/*bulkhead*) ;;
            /var/lib/dpkg/*) continue ;;
            esac
            if [ ! -e "/tmp/below$path" ] && [ ! -L "/tmp/below$path" ]; then
                echo "new: $path"
            elif [ "$kind" = c ] && [ ! -c "/tmp/below$path" ]; then
                echo "gone: $path"
            elif [ "$kind" = f ] && ! cmp -s "$path" "/tmp/below$path"; then
                echo "changed: $path"
            fi
        done
    done </tmp/layer/parts
}

if [ -n "$(dpkg-query -W -f '${db:Status-Status}' bulkhead 2>/dev/null | grep -v not-installed)" ]; then
    echo "  this machine has the package itself: its copy here is purged first"
    quietly dpkg -P libbulkhead-dev bulkhead
fi
changes >/tmp/before
quietly dpkg -i "$ours" "$dev"
changes | has '^new: /usr/sbin/bulkheadd$' || fail "control: a new file is not seen"
changes | has '^changed: /etc/passwd$' || fail "control: a changed file is not seen"
[ "$(id -u bulkhead)" = 1912602624 ] || fail "there is no user bulkhead"
[ "$(stat -c '%U %a' /run/bulkhead /var/lib/bulkhead | tr '\n' ' ')" = 'root 755 root 711 ' ] || fail "the directories: $(stat -c '%n %U %a' /run/bulkhead /var/lib/bulkhead)"
echo "  installed: $(dpkg-query -L bulkhead | wc -l) paths"

for unit in bulkheadd bulkhead-domains bulkhead-libvirt; do
    path=$(unit_file $unit) || fail "there is no $unit.service"
    said=$(systemd-analyze verify "$path" 2>&1) || fail "$unit: $said"
    [ -z "$said" ] || fail "$unit: $said"
    [ -L /etc/systemd/system/multi-user.target.wants/$unit.service ] || fail "$unit is not started at boot"
done
# The controls: a unit that starts what is not there, one that has a word which systemd does not know, and a bad page.
for change in 's|/sbin/bulkheadd|/sbin/no-such-program|' 's|^KillMode=|KillMood=|'; do
    sed "$change" "$(unit_file bulkheadd)" >/tmp/spoilt.service
    [ -n "$(systemd-analyze verify /tmp/spoilt.service 2>&1)" ] || fail "control: systemd-analyze has nothing to say of $change"
done
# render PAGE: what man has to say of it. -l: it is not looked up; a cat page is not made.
render() { man --warnings=w -E UTF-8 -l -Tutf8 -Z "$1" 2>&1 >/dev/null; }
for page in man1/bulkhead.1 man8/bulkheadd.8 man5/bulkhead-xml.5; do
    said=$(render /usr/share/man/$page.gz) || fail "$page: $said"
    [ -z "$said" ] || fail "$page: $said"
    ! zcat /usr/share/man/$page.gz | has '@[A-Z]*@' || fail "$page has something in it that was not filled in"
done
{ zcat /usr/share/man/man1/bulkhead.1.gz; echo '.NOSUCHMACRO'; } >/tmp/spoilt.1
[ -n "$(render /tmp/spoilt.1)" ] || fail "control: man has nothing to say of a macro that there is not"
# Each option of the two commands is in their manuals.
for page in bulkhead.1 bulkheadd.8; do
    man -l -Tascii -P cat /usr/share/man/man?/$page.gz | sed 's/.\x08//g' >/tmp/page
    for option in $("${page%.*}" --help | grep -oE -e '--[a-z-]+' | sort -u | grep -vxe --help); do
        has -e "$option" /tmp/page || fail "$page does not know $option"
    done
done
echo "  three units, which systemd-analyze verify has nothing to say of; three manuals"

hook=/etc/libvirt/hooks/qemu.d/bulkhead
start=$(sed -n 's/^ExecStart=//p' "$(unit_file bulkheadd)")
# As its unit starts it; the service manager's socket is ours.
serve() {
    rm -f /tmp/notify
    python3 - /tmp/notify >/tmp/told <<'P' &
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
s.settimeout(30)
print(s.recv(100).decode())
P
    waiter=$!
    until [ -S /tmp/notify ] || ! kill -0 $waiter 2>/dev/null; do sleep 0.05; done
    chmod 777 /tmp/notify # as the service manager's
    NOTIFY_SOCKET=/tmp/notify $start >/tmp/bulkheadd.log 2>&1 &
    daemon=$!
    wait $waiter && has READY=1 /tmp/told || fail "bulkheadd does not say that it is ready: $(cat /tmp/told /tmp/bulkheadd.log)"
}
# unit_starts UNIT: what its ExecStart= and Environment= say.
unit_starts() {
    local unit
    unit=$(unit_file "$1")
    env $(sed -n 's/^Environment=//p' "$unit") $(sed -n 's/^ExecStart=//p' "$unit")
}
disk() { quietly qemu-io -f raw -c "$1" 'nbd+unix:///vda?socket=/run/bulkhead/guests/g1/nbd.sock'; }
pids() { pgrep -x bulkhead-core; for name in disk0 g1; do bulkhead --json info $name | jq .pid; done; }

serve
cp /usr/share/bulkhead/examples/{disk0,g1}.xml /etc/bulkhead/domains
truncate -s 64M /var/lib/bulkhead/g1.img
quietly unit_starts bulkhead-domains
disk 'write -P 7 0 1M'
disk 'read -P 7 0 1M'
$hook elsewhere prepare begin - >/tmp/said 2>&1 <<<"<domain type='kvm'><name>elsewhere</name></domain>" ||
    fail "the hook refuses a guest that is not ours: $(cat /tmp/said)"
if $hook bad prepare begin - >/tmp/said 2>&1 <<<"<domain type='kvm'><name>bad</name><metadata>
    <b:domain xmlns:b='urn:bulkhead:domain:1' kind='guest' door='vhost-user'><b:disk dev='vda'/></b:domain></metadata></domain>"; then
    fail "control: the hook takes a guest whose disk has nothing behind it"
fi
echo "  the installed daemon tells the service manager that it is ready, and serves the disk of an example"

# An upgrade: what runs, runs on. A restart of the unit kills bulkheadd and nothing else.
for line in KillMode=process RestartKillSignal=SIGKILL; do
    has "^$line\$" "$(unit_file bulkheadd)" || fail "bulkheadd.service does not say $line"
done
before=$(pids)
owner=$(stat -c %u /run/bulkhead)
quietly dpkg -i "$ours"
[ "$(stat -c %u /run/bulkhead)" = "$owner" ] || fail "an upgrade took the run directory away from bulkheadd"
kill -9 $daemon
wait $daemon 2>/dev/null || true
serve
quietly unit_starts bulkhead-domains
[ "$(pids)" = "$before" ] || fail "an upgrade stopped what ran: $before became $(pids)"
disk 'read -P 7 0 1M'
quietly bulkhead stop g1
quietly unit_starts bulkhead-domains
[ "$(pids)" != "$before" ] || fail "control: a new door is the same process"
disk 'read -P 7 0 1M'
echo "  an upgrade, and a new bulkheadd: the same processes serve on"

kill $daemon
wait $daemon || fail "bulkheadd ended with status $?"
! pgrep -l bulkhead || fail "it left processes"
quietly dpkg -r libbulkhead-dev bulkhead
$hook elsewhere prepare begin - </dev/null || fail "without the programs, the hook is in the way of guests"
[ -e /etc/bulkhead/domains/g1.xml ] && [ -e /var/lib/bulkhead/g1.img ] || fail "removal took what is the operator's"
rm /etc/bulkhead/domains/*.xml /var/lib/bulkhead/g1.img
quietly dpkg -P libbulkhead-dev bulkhead
changes >/tmp/after
diff /tmp/before /tmp/after >/tmp/left || fail "left behind: $(cat /tmp/left)"
[ ! -e /run/bulkhead ] || fail "/run/bulkhead was left behind"
echo "  removed: no file, directory or user is left"
INSIDE

cat >"$RUN/boot" <<'BOOT'
set -eu
. "$1/lay"
cd "$1/machine/root"
mount -t tmpfs -o mode=1777 tmp tmp
cp -r "$1/debs" "$1/inside" tmp
mkdir tmp/layer tmp/below
mount --bind "$1/machine" tmp/layer
while read -r part; do mount --bind "$part" "tmp/below$part"; done <"$1/machine/parts"
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs -o mode=755 run run
mkdir -p tmp/old
pivot_root . tmp/old
umount -l /tmp/old
cd /
exec bash /tmp/inside
BOOT
spaces_of_its_own bash "$RUN/boot" "$RUN" || fail "see above"
