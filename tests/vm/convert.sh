#!/bin/bash
# SPDX-License-Identifier: MIT
# Guests of libvirt as they are found in the wild (domains/*.xml) become guests on driver domains: what
# bulkhead convert prints is taken by virsh define --validate and by bulkheadd, and says what was lost.
# Controls: libvirt refuses what convert leaves out, and bulkheadd what is half converted.
. "$(dirname "$0")/../integration/lib.bash"
. "$(dirname "$0")/libvirt.bash"
need_root
domains=$SOURCE/tests/vm/domains
stack_start
export LIBVIRT_HOOK=no
libvirt_start

# There need not be KVM here, nor Spice in this QEMU: nothing of convert depends on them.
plain() {
    sed -e "s/<domain type=\(['\"]\)kvm['\"]/<domain type=\1qemu\1/" -e "s/host-passthrough\|host-model/maximum/" \
        -e "s/ migratable=['\"]on['\"]//; s/ check=['\"]\(partial\|none\)['\"]//" "$1"
}
name_of() { xmllint --xpath 'string(/domain/name)' "$1"; }
taken() { virsh define --validate "$1" >"$RUN/virsh" 2>&1 || fail "libvirt refuses ${1##*/}: $(cat "$RUN/virsh")"; }
forgotten() { virsh undefine --nvram "$1" >/dev/null || fail "$1 cannot be undefined"; }
kept() { # FILE NEW XPATH...: the same in both
    local old=$1 new=$2 path
    shift 2
    for path; do
        xmllint --xpath "$path" "$old" >"$RUN/old.part" 2>/dev/null || true
        xmllint --xpath "$path" "$new" >"$RUN/new.part" 2>/dev/null || true
        cmp "$RUN/old.part" "$RUN/new.part" || fail "$path of ${old##*/} is not kept"
    done
}

# ------------------------------------------------------------ each of them, both ways
n=0
for file in "$domains"/*.xml; do
    guest=$(basename "$file" .xml)
    plain "$file" >"$RUN/$guest.xml"
    name=$(name_of "$RUN/$guest.xml")
    taken "$RUN/$guest.xml"
    forgotten "$name"
    bh convert "$RUN/$guest.xml" >"$RUN/$guest.new.xml" 2>"$RUN/$guest.notes" ||
        fail "$guest: $(cat "$RUN/$guest.notes")"
    taken "$RUN/$guest.new.xml"
    # What libvirt has made of it (addresses, a machine's version, defaults) is taken as well.
    virsh dumpxml --inactive "$name" >"$RUN/$guest.libvirt.xml"
    forgotten "$name"
    for xml in new libvirt; do
        bh define "$RUN/$guest.$xml.xml" >/dev/null 2>"$RUN/refused" ||
            fail "bulkheadd refuses $guest.$xml.xml: $(cat "$RUN/refused")"
        bh undefine "$name" >/dev/null
    done
    kept "$RUN/$guest.xml" "$RUN/$guest.new.xml" /domain/os /domain/features /domain/cpu/topology \
        "//disk[@device!='disk']" //boot //controller //graphics \
        "/domain/metadata/*[namespace-uri()!='urn:bulkhead:domain:1']"
    for mac in $(xmllint --xpath '//interface/mac/@address' "$RUN/$guest.xml" 2>/dev/null | cut -d'"' -f2); do
        [ "$(xmllint --xpath "count(//interface/mac[@address='$mac'])" "$RUN/$guest.new.xml")" -eq 1 ] ||
            fail "$guest has lost $mac"
    done
    # A second time it is not changed.
    bh convert "$RUN/$guest.new.xml" >"$RUN/again.xml" 2>"$RUN/again.notes" || fail "$guest is not taken again"
    cmp "$RUN/$guest.new.xml" "$RUN/again.xml" || fail "$guest was changed a second time"
    has 'unchanged: its devices are on driver domains already' <"$RUN/again.notes" ||
        fail "it does not say that $guest is converted: $(cat "$RUN/again.notes")"
    # Every device that stays is told.
    left=$(xmllint --xpath "count(//disk[@type!='vhostuser'] | //interface[@type!='vhostuser'])" "$RUN/$guest.new.xml")
    [ "$(grep -c 'stays as it is: ' "$RUN/$guest.notes")" -eq "$left" ] ||
        fail "$guest: $left devices stay, told: $(cat "$RUN/$guest.notes")"
    n=$((n + 1))
done
[ $n -ge 10 ] || fail "only $n guests"
say "$n guests, converted: libvirt and bulkheadd take each, and it is told what was lost"

# ------------------------------------------------------------------------- controls
refused() { # WHAT SED FILE WHO...: so changed, it is refused
    local what=$1 change=$2 file=$3
    shift 3
    sed -E "$change" "$file" >"$RUN/control.xml"
    ! cmp -s "$file" "$RUN/control.xml" || fail "control: $what: nothing was changed"
    if "$@" "$RUN/control.xml" >"$RUN/control.log" 2>&1; then fail "control: $what is taken"; fi
}
new=$RUN/block.new.xml
refused "a cache mode in a vhost-user disk, by libvirt" "s/(<driver name='qemu' type='raw')/\1 cache='none'/" \
    "$new" virsh define --validate
refused "<readonly/> in a vhost-user disk, by libvirt" "s/(<target dev='vdb'.*)/\1<readonly\/>/" \
    "$new" virsh define --validate
refused "private memory, by libvirt" "s/<access mode='shared'.>//" "$new" virsh define --validate
refused "an unknown element, by libvirt" "s/<iothreads>/<surprise\/><iothreads>/" \
    "$new" virsh define --validate
refused "private memory, by bulkheadd" "s/<access mode='shared'.>//" "$new" bh define
has "memory is not shared" <"$RUN/control.log" || fail "another reason: $(cat "$RUN/control.log")"
refused "a disk that our metadata does not know, by bulkheadd" "/<bulkhead:disk dev='vdb'/d" "$new" bh define
has "nothing is known of vdb" <"$RUN/control.log" || fail "another reason: $(cat "$RUN/control.log")"
refused "a device that does not come back, by bulkheadd" "s/enabled='yes'/enabled='no'/" "$new" bh define
has "reconnect" <"$RUN/control.log" || fail "another reason: $(cat "$RUN/control.log")"
bh define "$new" >/dev/null || fail "control: as it was it is not taken"
say "controls: libvirt and bulkheadd refuse what is not as convert writes it"

# -------------------------------------------------------------------------- options
bh convert --disk-driver fast "$RUN/debian.xml" --net-driver=x >/dev/null 2>&1 && fail "--net-driver=x is no option"
bh convert --disk-driver fast "$RUN/debian.xml" --net-driver dmz 2>/dev/null |
    xmllint --xpath "//backenddomain/@name" - | tr -d '\n' >"$RUN/drivers"
[ "$(cat "$RUN/drivers")" = ' name="fast" name="dmz"' ] || fail "driver domains: $(cat "$RUN/drivers")"
bh --json convert "$RUN/windows.xml" |
    jq -e '.converted == 2 and .left == 2 and (.notes | length) > 5 and (.xml | startswith("<domain"))' >/dev/null ||
    fail "--json"
if bh convert "$RUN/disk.xml" >/dev/null 2>&1; then fail "a missing file is converted"; fi
echo "<domain type='lxc'><name>c</name></domain>" >"$RUN/lxc.xml"
if bh convert "$RUN/lxc.xml" >"$RUN/none" 2>"$RUN/refused"; then fail "a container is converted"; fi
[ ! -s "$RUN/none" ] || fail "something is printed for what is refused"
has "lxc.xml:1: only a <domain type='kvm'> or 'qemu'" <"$RUN/refused" || fail "$(cat "$RUN/refused")"
say "options name the driver domains; what is no guest of QEMU is refused"
