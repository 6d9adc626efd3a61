#!/bin/bash
# SPDX-License-Identifier: MIT
# What `make install` puts down works from there: an example compiled with
# pkg-config and the installed header, an installed daemon, an attached guest.
. "$(dirname "$0")/lib.bash"
need_root
make() { command make -s -C "$SOURCE" BUILD="$BUILD" DESTDIR="$RUN/root" PREFIX=/opt/bulkhead MAKEFLAGS= "$@"; }
make install
root=$RUN/root/opt/bulkhead
for file in bin/bulkhead sbin/bulkheadd libexec/bulkhead/bulkhead-{core,store,netdev,blk,net,nbd,tap,vhost,libvirt} \
    libexec/bulkhead/start-domains libexec/bulkhead/nbdkit-bulkhead-plugin.so lib/libbulkhead.{a,so,so.0} include/bulkhead/{blk,net}front.h \
    lib/pkgconfig/bulkhead-{blk,net}front.pc share/bulkhead/bulkhead.rng share/bulkhead/examples/disk0.xml \
    lib/systemd/system/{bulkheadd,bulkhead-domains,bulkhead-libvirt}.service lib/{sysusers,tmpfiles}.d/bulkhead.conf \
    share/man/man1/bulkhead.1 share/man/man5/bulkhead-xml.5 share/man/man8/bulkheadd.8; do
    [ -e "$root/$file" ] || fail "make install leaves out $file"
done
hook=$RUN/root/etc/libvirt/hooks/qemu.d/bulkhead
[ -x "$hook" ] || fail "make install leaves out libvirt's hook"
grep -qF /opt/bulkhead/libexec/bulkhead/bulkhead-libvirt "$hook" || fail "the hook does not know where the program is: $(cat "$hook")"
! grep -rlI '@[A-Z]*@' "$RUN/root" || fail "something was not filled in when that was installed"
! grep -rlI "$BUILD\|$SOURCE" "$root" || fail "an installed text file names the build folder"

export PKG_CONFIG_SYSROOT_DIR=$RUN/root PKG_CONFIG_LIBDIR=$root/lib/pkgconfig
example=$SOURCE/frontends/example
# shellcheck disable=SC2046
cc -o "$RUN/shared" "$example/blkfront-example.c" $(pkg-config --cflags --libs bulkhead-blkfront)
# shellcheck disable=SC2046
cc -o "$RUN/nic" "$example/netfront-example.c" $(pkg-config --cflags --libs bulkhead-netfront)
unset PKG_CONFIG_SYSROOT_DIR PKG_CONFIG_LIBDIR
say "the examples compile against the installed library"

BIN=$root/bin SBIN=$root/sbin
stack_start
driver disk0
image a.img 16M
guest g1 disk0 "$RUN/a.img" native
LD_LIBRARY_PATH=$root/lib "$RUN/shared" "$DIR/guests/g1/attach.sock"
image b.img 16M
guest g2 disk0 "$RUN/b.img"
verified_fio g2 8M
say "the installed stack serves a native guest and an NBD guest"
stack_stop

make uninstall
left=$(find "$RUN/root" ! -type d)
[ -z "$left" ] || fail "make uninstall leaves $left"
