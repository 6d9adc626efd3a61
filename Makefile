# SPDX-License-Identifier: MIT
# Bulkhead. `make help` lists the targets.

BUILD    ?= build
PREFIX   ?= /usr/local
DESTDIR  ?=
VERSION  := 0.1.0

CC       ?= gcc
CLANG    ?= clang
PKG      := pkg-config

WARN     := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2
HARDEN   := -fstack-protector-strong -fno-common -fPIE $(if $(SAN),,-D_FORTIFY_SOURCE=2)
CPPFLAGS += -D_GNU_SOURCE -I. -Ifrontends/include -DBULKHEAD_VERSION='"$(VERSION)"'
CFLAGS   ?= -O2 -g
CFLAGS   += -std=c17 $(WARN) $(HARDEN) -pthread
LDFLAGS  += -Wl,-z,relro,-z,now

# SAN=address,undefined or SAN=thread: an instrumented build in its own folder.
# Programs that run in an empty root stay static and uninstrumented there; the
# units, the fuzzers and the in-process tests are what sanitizers watch.
ifdef SAN
comma    := ,
override BUILD := $(BUILD)-$(subst $(comma),-,$(SAN))
CFLAGS   += -fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all
LDFLAGS  += -fsanitize=$(SAN)
endif

# CRASH=1: a build for tests, with the crash points of hyp-shim/crash.h, in its own folder.
ifdef CRASH
override BUILD := $(BUILD)-crash
CPPFLAGS += -DBULKHEAD_CRASH_POINTS
endif

OBJ      := $(BUILD)/obj
obj       = $(patsubst %.c,$(OBJ)/%.o,$(1))
pkg_cflags := $(shell $(PKG) --cflags libxml-2.0 jansson liburing 2>/dev/null)
CPPFLAGS += $(pkg_cflags)

# ---- what each program is made of: a folder is a part -----------------------
SHIM_SRC   := $(wildcard hyp-shim/*.c) $(wildcard hyp-shim/local/*.c)
CORE_SRC   := $(filter-out %/main.c,$(wildcard hyp-shim/local/core/*.c))
STORE_SRC  := $(filter-out %/main.c,$(wildcard hyp-shim/local/store/*.c))
NETDEV_SRC := $(filter-out %/main.c,$(wildcard hyp-shim/local/netdev/*.c))
BACK_SRC   := $(wildcard backends/*.c)
BLK_SRC    := $(wildcard backends/blk/*.c)
NET_SRC    := $(wildcard backends/net/*.c)
TAP_SRC    := $(filter-out %/tap.c,$(wildcard frontends/door/tap*.c))
FRAME_SRC  := frontends/door/frame.c
VHOST_SRC  := $(filter-out %/main.c,$(wildcard frontends/door/vhost_user/*.c))
LIBVIRT_SRC := $(filter-out %/main.c,$(wildcard deploy/libvirt/*.c))
FRONT_SRC  := $(wildcard frontends/*.c)
POLICY_SRC := $(wildcard policy/*.c)
DAEMON_SRC := $(filter-out %/main.c,$(wildcard driverdom/daemon/*.c))
CLI_SRC    := $(filter-out %/main.c,$(wildcard deploy/cli/*.c))
CONVERT_SRC := $(wildcard deploy/cli/convert*.c)
BENCH_SRC  := $(wildcard tests/bench/*.c)
FAKE_SRC   := tests/fake_hyp.c

SHIM_A   := $(BUILD)/libshim.a
FRONT_A  := $(BUILD)/libbulkhead.a
FRONT_SO := $(BUILD)/libbulkhead.so
ALL_A    := $(BUILD)/liball.a
PLUGIN   := $(BUILD)/nbdkit-bulkhead-plugin.so

PROGRAMS := $(BUILD)/bulkheadd $(BUILD)/bulkhead $(BUILD)/bulkhead-core $(BUILD)/bulkhead-store \
            $(BUILD)/bulkhead-netdev $(BUILD)/bulkhead-blk $(BUILD)/bulkhead-net $(BUILD)/bulkhead-nbd \
            $(BUILD)/bulkhead-tap $(BUILD)/bulkhead-vhost $(BUILD)/bulkhead-libvirt \
            $(BUILD)/blkfront-example $(BUILD)/netfront-example
# In a sanitizer build only what can be watched is built.
ifdef SAN
TARGETS  := $(ALL_A)
else
TARGETS  := $(PROGRAMS) $(PLUGIN) $(FRONT_A) $(FRONT_SO)
endif

.PHONY: all
all: $(TARGETS)

# DPDK is linked in, so that a driver domain's root can stay empty: its headers
# are not ours to warn about, and what EAL and the PMDs would open is answered
# by backends/net/eal.c and answers.c (the wrapped calls).  What is wrapped must
# be in an archive, in the tests too.
DPDK_DIR   = $(shell $(PKG) --variable=libdir libdpdk)
DPDK_INC   = $(patsubst -I%,-isystem %,$(shell $(PKG) --cflags libdpdk))
DPDK_PMDS  = bus_vdev mempool_ring net_af_packet net_af_xdp net_tap net_null net_pcap net_ring
DPDK_LIBS  = ethdev net mbuf mempool ring kvargs telemetry eal meter hash rcu security cryptodev gso ip_frag bpf gro pci
DPDK_WRAP  = -Wl,-u,dbus_create $(foreach name,$(shell cat backends/net/wrapped 2>/dev/null),-Wl,--wrap=$(name),-u,__wrap_$(name))
,         := ,
DPDK_LINK  = $(DPDK_WRAP) -Wl,--whole-archive $(DPDK_PMDS:%=$(DPDK_DIR)/librte_%.a) -Wl,--no-whole-archive \
             -Wl,--start-group $(DPDK_LIBS:%=$(DPDK_DIR)/librte_%.a) -Wl,--end-group \
             -Wl,--no-warnings -lnuma -l:libxdp.a -l:libbpf.a -l:libpcap.a -lbsd -lmd -lelf -lz -lzstd -lm
$(OBJ)/backends/net/%.o $(OBJ)/driverdom/net.o $(OBJ)/tests/unit/test_net%.o: CPPFLAGS += $(DPDK_INC)
$(BUILD)/fuzz/obj/backends/net/%.o $(BUILD)/fuzz/obj/tests/fuzz/fuzz_netback.o: CPPFLAGS += $(DPDK_INC)

STATIC   := $(if $(SAN),,-static-pie)

$(SHIM_A):  $(call obj,$(SHIM_SRC))
$(FRONT_A): $(call obj,$(FRONT_SRC) $(SHIM_SRC))
$(ALL_A):   $(call obj,$(SHIM_SRC) $(CORE_SRC) $(STORE_SRC) $(NETDEV_SRC) $(BACK_SRC) $(BLK_SRC) $(NET_SRC) $(FRONT_SRC) $(TAP_SRC) $(FRAME_SRC) $(VHOST_SRC) $(POLICY_SRC) $(DAEMON_SRC) $(CLI_SRC) $(LIBVIRT_SRC) $(BENCH_SRC) $(FAKE_SRC))
%.a:
	@rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/bulkhead-core: $(call obj,hyp-shim/local/core/main.c $(CORE_SRC))
	$(CC) $(CFLAGS) $(LDFLAGS) $(STATIC) -o $@ $^
$(BUILD)/bulkhead-store: $(call obj,hyp-shim/local/store/main.c $(STORE_SRC)) $(SHIM_A)
	$(CC) $(CFLAGS) $(LDFLAGS) $(STATIC) -o $@ $^ -lseccomp
$(BUILD)/bulkhead-blk: $(call obj,driverdom/blk.c driverdom/serve.c $(BACK_SRC) $(BLK_SRC)) $(SHIM_A)
	$(CC) $(CFLAGS) $(LDFLAGS) $(STATIC) -o $@ $^ -luring -lseccomp
$(BUILD)/bulkhead-net: $(call obj,driverdom/net.c driverdom/serve.c $(BACK_SRC) $(NET_SRC)) $(SHIM_A) backends/net/wrapped
	$(CC) $(CFLAGS) $(LDFLAGS) $(STATIC) -o $@ $(filter-out %/wrapped,$^) $(DPDK_LINK) -lseccomp
$(BUILD)/bulkhead-netdev: $(call obj,hyp-shim/local/netdev/main.c $(NETDEV_SRC)) $(SHIM_A)
	$(CC) $(CFLAGS) $(LDFLAGS) $(STATIC) -o $@ $^ -lseccomp
$(BUILD)/bulkhead-tap: $(call obj,frontends/door/tap.c $(TAP_SRC) $(FRAME_SRC)) $(FRONT_A)
	$(CC) $(CFLAGS) $(LDFLAGS) $(STATIC) -o $@ $^ -lseccomp
$(BUILD)/bulkhead-vhost: $(call obj,frontends/door/vhost_user/main.c $(VHOST_SRC) $(FRAME_SRC)) $(FRONT_A)
	$(CC) $(CFLAGS) $(LDFLAGS) $(STATIC) -o $@ $^ -lseccomp
$(BUILD)/bulkhead-libvirt: $(call obj,deploy/libvirt/main.c $(LIBVIRT_SRC) deploy/cli/connection.c $(CONVERT_SRC) policy/text.c) $(SHIM_A)
	$(CC) $(CFLAGS) $(LDFLAGS) -pie -o $@ $^ -lvirt -lxml2 -ljansson
$(BUILD)/bulkhead-nbd: $(call obj,frontends/door/nbd.c) $(SHIM_A)
	$(CC) $(CFLAGS) $(LDFLAGS) -pie -o $@ $^ -lseccomp
$(BUILD)/bulkheadd: $(call obj,driverdom/daemon/main.c $(DAEMON_SRC) $(POLICY_SRC)) $(SHIM_A)
	$(CC) $(CFLAGS) $(LDFLAGS) -pie -o $@ $^ -lxml2 -ljansson -lseccomp -lcap-ng
$(BUILD)/bulkhead: $(call obj,deploy/cli/main.c $(CLI_SRC) policy/text.c $(BENCH_SRC)) $(FRONT_A)
	$(CC) $(CFLAGS) $(LDFLAGS) -pie -o $@ $^ -ljansson -lxml2 -luring -lseccomp
$(BUILD)/%-example: $(OBJ)/frontends/example/%-example.o $(FRONT_A)
	$(CC) $(CFLAGS) $(LDFLAGS) -pie -o $@ $^ -lseccomp

# Shared objects need PIC and export the public API only.
$(OBJ)/pic/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -fPIC -fvisibility=hidden -MMD -MP -c -o $@ $<
pic = $(patsubst %.c,$(OBJ)/pic/%.o,$(1))
$(FRONT_SO): $(call pic,$(FRONT_SRC) $(SHIM_SRC)) frontends/libbulkhead.map
	$(CC) $(CFLAGS) $(LDFLAGS) -shared -Wl,-soname,libbulkhead.so.0 -Wl,--version-script=frontends/libbulkhead.map -o $@ $(filter %.o,$^) -lseccomp
$(PLUGIN): $(call pic,frontends/door/nbd_plugin.c frontends/door/lane.c $(FRONT_SRC) $(SHIM_SRC))
	$(CC) $(CFLAGS) $(LDFLAGS) -shared -o $@ $^ -lseccomp

# The schema is carried inside the program (.incbin).
$(OBJ)/policy/schema.o $(BUILD)/fuzz/obj/policy/schema.o: policy/bulkhead.rng

$(OBJ)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

-include $(shell find $(OBJ) -name '*.d' 2>/dev/null)

# ---- tests ------------------------------------------------------------------
UNIT     := $(patsubst tests/unit/%.c,$(BUILD)/tests/unit/%,$(wildcard tests/unit/test_*.c))
INTEG_C  := $(patsubst tests/integration/%.c,$(BUILD)/tests/integration/%,$(wildcard tests/integration/*.c))
TEST_LIBS := -lcmocka -luring -lseccomp -lxml2 -ljansson -lcap-ng -lxenstore -Wl,--as-needed -lvirt -Wl,--no-as-needed
$(BUILD)/tests/unit/test_net%: $(OBJ)/tests/unit/test_net%.o $(ALL_A) backends/net/wrapped
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) -pie -o $@ $(filter-out %/wrapped,$^) $(DPDK_LINK) $(TEST_LIBS)
$(BUILD)/tests/%: $(OBJ)/tests/%.o $(ALL_A)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) -pie -o $@ $^ $(TEST_LIBS)

# Programs that a test runs inside a jail with an empty root.
$(BUILD)/tests/integration/helpers/%: $(OBJ)/tests/integration/helpers/%.o $(SHIM_A)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) $(STATIC) -o $@ $^ -lseccomp
$(BUILD)/tests/integration/test_core: | $(BUILD)/tests/integration/helpers/core_domain $(BUILD)/bulkhead-core
# The hostile driver domain has a block driver domain's ring.
$(BUILD)/tests/integration/helpers/confine_probe: $(call obj,tests/integration/helpers/confine_probe.c $(BACK_SRC) $(BLK_SRC)) $(SHIM_A)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) $(STATIC) -o $@ $^ -luring -lseccomp
# A disk driver domain that goes wrong when it is asked to.
$(BUILD)/tests/integration/helpers/bad_blk: $(call obj,tests/integration/helpers/bad_blk.c driverdom/blk.c driverdom/serve.c $(BACK_SRC) $(BLK_SRC)) $(SHIM_A)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) $(STATIC) -Wl,--wrap=blk_parse,--wrap=blk_queue_done -o $@ $^ -luring -lseccomp
# For fence.sh: a file system that can be late, and the core without its fence.
$(BUILD)/tests/integration/helpers/slowfs: $(OBJ)/tests/integration/helpers/slowfs.o
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) -pie -o $@ $^ -lfuse3
$(BUILD)/tests/integration/helpers/unfenced_core: $(call obj,tests/integration/helpers/unfenced_core.c hyp-shim/local/core/main.c $(CORE_SRC))
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) $(STATIC) -Wl,--wrap=flock -o $@ $^
# A request to bulkheadd, from a script.
$(BUILD)/tests/integration/helpers/ask: $(OBJ)/tests/integration/helpers/ask.o
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) -pie -o $@ $^ -ljansson
$(BUILD)/tests/integration/test_confine: | $(BUILD)/tests/integration/helpers/confine_probe $(BUILD)/bulkhead-core $(BUILD)/bulkhead-store
$(BUILD)/tests/integration/test_netdev: | $(BUILD)/bulkhead-core $(BUILD)/bulkhead-store $(BUILD)/bulkhead-netdev

HELPERS  := $(patsubst tests/integration/%.c,$(BUILD)/tests/integration/%,$(wildcard tests/integration/helpers/*.c))

.PHONY: unit integration-programs
integration-programs: $(INTEG_C) $(HELPERS)
unit: $(UNIT)
	@tests/run-unit $(UNIT)

# ---- fuzzing: libFuzzer, every source built anew with coverage ---------------
FUZZ     := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_SRC := $(SHIM_SRC) $(CORE_SRC) $(STORE_SRC) $(BACK_SRC) $(BLK_SRC) $(NET_SRC) $(FRONT_SRC) $(VHOST_SRC) $(FRAME_SRC) $(POLICY_SRC) $(CONVERT_SRC) $(DAEMON_SRC) $(FAKE_SRC)
FUZZ_CFLAGS := -std=c17 $(WARN) -O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -pthread
FUZZ_SECONDS ?= 10
fobj = $(patsubst %.c,$(BUILD)/fuzz/obj/%.o,$(1))
$(BUILD)/fuzz/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CLANG) $(CPPFLAGS) $(FUZZ_CFLAGS) -MMD -MP -c -o $@ $<
$(BUILD)/fuzz/libfuzzed.a: $(call fobj,$(FUZZ_SRC))
$(BUILD)/fuzz/fuzz_netback: $(BUILD)/fuzz/obj/tests/fuzz/fuzz_netback.o $(BUILD)/fuzz/libfuzzed.a
	$(CLANG) $(FUZZ_CFLAGS) -fsanitize=fuzzer -o $@ $^ $(DPDK_LINK) -lseccomp
$(BUILD)/fuzz/fuzz_%: $(BUILD)/fuzz/obj/tests/fuzz/fuzz_%.o $(BUILD)/fuzz/libfuzzed.a
	$(CLANG) $(FUZZ_CFLAGS) -fsanitize=fuzzer -o $@ $^ -luring -lseccomp -lxml2 -ljansson -lcap-ng
-include $(shell find $(BUILD)/fuzz -name '*.d' 2>/dev/null)

.PHONY: fuzz fuzzers
fuzzers: $(FUZZ)
fuzz: $(FUZZ)
	@tests/fuzz/run $(FUZZ_SECONDS) $(FUZZ)

# ---- what people call ---------------------------------------------------------
# Packages come first and make starts anew after them: what it looked up before
# they were there (pkg-config) would be wrong.
AGAIN = $(MAKE) --no-print-directory BUILD=$(BUILD) $(if $(filter -j%,$(MAKEFLAGS)),,-j$$(nproc))

.PHONY: help demo check check-fast bench tcb tidy install uninstall clean
help:
	@echo 'make              build into $(BUILD)/'
	@echo 'make demo         two guests on one disk driver domain, verified (root)'
	@echo 'make check        every test (root); check-fast: under two minutes'
	@echo 'make bench        what it costs: tables (root)'
	@echo 'make fuzz         every fuzzer for FUZZ_SECONDS=$(FUZZ_SECONDS)'
	@echo 'make tcb          lines of code of each part'
	@echo 'make tidy         clang-tidy'
	@echo 'make install      into DESTDIR=$(DESTDIR) PREFIX=$(PREFIX); uninstall'
	@echo 'make deb          a Debian package, into $(BUILD)/deb'
	@echo 'make clean        remove $(BUILD)/'
	@echo 'CRASH=1           with any of these: a build for tests, with crash points, into $(BUILD)-crash/'
demo:
	@deploy/packages build run demo
	@echo 'building into $(BUILD)/'
	@$(AGAIN) -s all $(BUILD)/tests/integration/helpers/tcp_check
	@BUILD=$(BUILD) deploy/demo
check check-fast:
	@deploy/packages
	@BUILD=$(BUILD) tests/check $(if $(filter check-fast,$@),--fast)
bench: all
	@BUILD=$(BUILD) tests/bench/all
tcb:
	@deploy/tcb

TIDY_SRC := $(filter-out tests/vm/%,$(wildcard hyp-shim/*.c hyp-shim/*/*.c hyp-shim/*/*/*.c backends/*.c backends/*/*.c \
            frontends/*.c frontends/*/*.c frontends/*/*/*.c driverdom/*.c driverdom/*/*.c policy/*.c deploy/cli/*.c deploy/libvirt/*.c tests/*.c tests/*/*.c))
tidy:
	@printf '%s\n' $(TIDY_SRC) | xargs -P $(or $(JOBS),2) -n 4 sh -c \
	  'clang-tidy --quiet "$$@" -- $(subst ','\'',$(CPPFLAGS) $(DPDK_INC)) -std=c17 -pthread 2>/dev/null' tidy

# Where libvirt and systemd look; both know /usr/local as well, but libvirt's hooks are in /etc alone.
SYSCONFDIR ?= /etc
UNITDIR   ?= $(PREFIX)/lib/systemd/system
LIBEXEC   := $(PREFIX)/libexec/bulkhead
HOOK      := $(SYSCONFDIR)/libvirt/hooks/qemu.d/bulkhead
UNITS     := bulkheadd.service bulkhead-domains.service bulkhead-libvirt.service
MANUALS   := man1/bulkhead.1 man8/bulkheadd.8 man5/bulkhead-xml.5
INSTALLED  = bin/bulkhead sbin/bulkheadd libexec/bulkhead lib/libbulkhead.a lib/libbulkhead.so lib/libbulkhead.so.0 \
             lib/pkgconfig/bulkhead-blkfront.pc lib/pkgconfig/bulkhead-netfront.pc include/bulkhead share/bulkhead \
             share/bash-completion/completions/bulkhead lib/sysusers.d/bulkhead.conf lib/tmpfiles.d/bulkhead.conf \
             $(MANUALS:%=share/man/%)
# place FROM TO: as FROM is, with what only an installation knows filled in.
place = install -d $(DESTDIR)$(dir $(2)) && sed 's|@PREFIX@|$(PREFIX)|g; s|@LIBEXEC@|$(LIBEXEC)|g; s|@VERSION@|$(VERSION)|g' $(1) > $(DESTDIR)$(2)
install: all
	install -D -m 755 $(BUILD)/bulkhead $(DESTDIR)$(PREFIX)/bin/bulkhead
	install -D -m 755 $(BUILD)/bulkheadd $(DESTDIR)$(PREFIX)/sbin/bulkheadd
	install -d $(DESTDIR)$(LIBEXEC)
	install -m 755 $(addprefix $(BUILD)/bulkhead-,core store netdev blk net nbd tap vhost libvirt) deploy/systemd/start-domains $(DESTDIR)$(LIBEXEC)
	install -m 644 $(PLUGIN) $(DESTDIR)$(LIBEXEC)
	install -D -m 644 $(FRONT_A) $(DESTDIR)$(PREFIX)/lib/libbulkhead.a
	install -m 644 $(FRONT_SO) $(DESTDIR)$(PREFIX)/lib/libbulkhead.so.0
	ln -sf libbulkhead.so.0 $(DESTDIR)$(PREFIX)/lib/libbulkhead.so
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/include/bulkhead frontends/include/bulkhead/*.h
	$(foreach lib,blkfront netfront,$(call place,frontends/bulkhead-$(lib).pc.in,$(PREFIX)/lib/pkgconfig/bulkhead-$(lib).pc) &&) true
	$(foreach unit,$(UNITS),$(call place,deploy/systemd/$(unit),$(UNITDIR)/$(unit)) &&) true
	$(foreach page,$(MANUALS),$(call place,deploy/man/$(notdir $(page)),$(PREFIX)/share/man/$(page)) &&) true
	install -D -m 644 deploy/systemd/bulkhead.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/bulkhead.conf
	install -D -m 644 deploy/systemd/bulkhead.tmpfiles $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/bulkhead.conf
	$(call place,deploy/libvirt/qemu-hook,$(HOOK)) && chmod 755 $(DESTDIR)$(HOOK)
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/bulkhead policy/bulkhead.rng
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/bulkhead/examples deploy/examples/*.xml
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/bash-completion/completions deploy/completions/bulkhead
uninstall:
	rm -rf $(addprefix $(DESTDIR)$(PREFIX)/,$(INSTALLED)) $(addprefix $(DESTDIR)$(UNITDIR)/,$(UNITS)) $(DESTDIR)$(HOOK)

# A Debian package, and one for developers, into $(BUILD)/deb. Made in a copy of the tree, where debian/ is
# deploy/debian.
.PHONY: deb
deb:
	rm -rf $(BUILD)/deb
	mkdir -p $(BUILD)/deb/bulkhead
	tar -cf - --exclude-vcs --exclude='./build*' --exclude='./$(BUILD)' . | tar -C $(BUILD)/deb/bulkhead -xf -
	cp -a deploy/debian $(BUILD)/deb/bulkhead/debian
	cd $(BUILD)/deb/bulkhead && env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL -u BUILD -u PREFIX -u DESTDIR dpkg-buildpackage -b -us -uc
	rm -rf $(BUILD)/deb/bulkhead

.SECONDARY:
clean:
	rm -rf $(BUILD) $(BUILD)-crash
