# SPDX-License-Identifier: Apache-2.0
# make            build/container, static        make V=1          show the commands
# make quickstart from nothing to a container    make install      PREFIX=/usr/local DESTDIR=
# make test       everything                     make check        clang-tidy, cppcheck, format, dependency arrows
# make fuzz       every fuzz target, TIME=60 seconds each
# make lab        end to end on KVM (emulated)   make bench        the table of times and sizes
# make lib-core   one library alone              make SANITIZE=1   ASan and UBSan, dynamic, in build-asan/
# make bench-vmm  our VMM beside QEMU's         make kernel     our own guest kernel
SHELL    := /bin/bash
SANITIZE ?= 0
ifeq ($(SANITIZE),1)
B        ?= build-asan
else
B        ?= build
endif
V        ?= 0
Q        := $(if $(filter 1,$(V)),,@)
say       = $(if $(filter 1,$(V)),,@printf '  %-7s %s\n' '$(1)' '$(2)')

RELEASE  := 0.1.0
COMMIT   := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
CC       := gcc
WARN     := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wno-unused-parameter
HARDEN   := -fstack-protector-strong -fstack-clash-protection -fcf-protection -fno-common
CPPFLAGS := -I. -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64
CFLAGS   := -std=gnu17 -g -ffunction-sections -fdata-sections -pthread $(WARN) $(HARDEN)
LDFLAGS  := -pthread -Wl,--gc-sections -Wl,-z,relro,-z,now,-z,noexecstack
TP       := build/third_party
ifeq ($(SANITIZE),1)
# clang's see what gcc's do not: a cleanup that uses a variable whose lifetime has ended, arithmetic on NULL.
CC       := clang-14
CFLAGS   += -Wno-gnu-variable-sized-type-not-at-end -O1 -fsanitize=address,undefined -fno-omit-frame-pointer -fPIE
LDFLAGS  += -fsanitize=address,undefined -pie
BUILDTYPE := debug
else
CFLAGS   += -O2 -fPIE -fno-asynchronous-unwind-tables
CPPFLAGS += -D_FORTIFY_SOURCE=2
LDFLAGS  += -static-pie -Wl,-z,pack-relative-relocs
BUILDTYPE := release
endif
TPLIBS   := $(TP)/lib/libcurl.a $(TP)/lib/libigzip.a
LIBS     := $(TPLIBS) -lnghttp2 -lssl -lcrypto -lcares -lzstd -ljson-c -lcap -lseccomp -lext2fs -lcom_err -llz4 -llzma -ldl

MODULES  := core vmm oci net cmd
$(foreach m,$(MODULES),$(eval SRC_$m := $(wildcard $m/*.c)))
obj       = $(patsubst %.c,$(B)/obj/%.o,$(filter %.c,$(1))) $(patsubst %.S,$(B)/obj/%.o,$(filter %.S,$(1)))
OBJ      := $(call obj,main.c vmm/guest_blob.S $(foreach m,$(MODULES),$(SRC_$m)))

# The guest's init: a small static program from vmm/guest and the part of core that needs no host.
GUEST_CORE := core/error.c core/alloc.c core/caps.c core/str.c core/json.c core/path.c core/archive.c core/archive_extract.c core/changes.c
GUEST_SRC  := $(wildcard vmm/guest/*.c) $(GUEST_CORE)
GUEST_OBJ  := $(patsubst %.c,$(B)/guest/%.o,$(GUEST_SRC))

.PHONY: all clean lib-core lib-vmm lib-oci lib-net lib-cmd guest third_party
all: $(B)/container
# c-ares and OpenSSL have functions that would need NSS or plug-ins; nothing calls them, and the linker says so at length.
NSS_WARNING := in statically linked applications|in function .(ares_|BIO_|lookup_service|dlfcn_)
$(B)/container: $(OBJ) $(TPLIBS)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@.full $(OBJ) $(LIBS) 2>$@.link; s=$$?; grep -vE "$(NSS_WARNING)" $@.link >&2; exit $$s
	$(Q)$(if $(filter 1,$(SANITIZE)),cp $@.full $@,strip -o $@ $@.full)

# The commands wait for people and sockets: small beats fast there.
$(B)/obj/cmd/%.o: CFLAGS += -Os
$(B)/obj/%.o: %.c
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D) && $(CC) $(CPPFLAGS) $(CPPFLAGS_$<) -I$(TP)/include $(CFLAGS) -MMD -MP -c -o $@ $<
$(B)/obj/%.o: %.S
	$(call say,AS,$<)
	$(Q)mkdir -p $(@D) && $(CC) $(CPPFLAGS) -DGUEST_INIT='"$(B)/guest/init.zst"' -MMD -MP -c -o $@ $<
$(B)/obj/vmm/guest_blob.o: $(B)/guest/init.zst
$(B)/guest/init.zst: $(B)/guest/init
	$(Q)zstd -q -19 -f -o $@ $<
# The commit in `system version` is that of this build, not of the first one in this directory.
$(B)/obj/core/version.o: $(B)/commit
$(B)/commit: FORCE
	@mkdir -p $(@D) && { echo $(COMMIT) | cmp -s - $@ || echo $(COMMIT) >$@; }
.PHONY: FORCE
FORCE:
CPPFLAGS_core/version.c := -DRELEASE='"$(RELEASE)"' -DCOMMIT='"$(COMMIT)"' -DBUILDTYPE='"$(BUILDTYPE)"'

$(B)/guest/%.o: %.c
	$(call say,CC G,$<)
	$(Q)mkdir -p $(@D) && $(CC) $(CPPFLAGS) -U_FORTIFY_SOURCE -std=gnu17 -Os -g -fno-asynchronous-unwind-tables -ffunction-sections -fdata-sections $(WARN) -fstack-protector-strong -MMD -MP -c -o $@ $<
$(B)/guest/init: $(GUEST_OBJ)
	$(call say,LINK G,$@)
	$(Q)$(CC) -static -Wl,--gc-sections -s -o $@ $(GUEST_OBJ) -ljson-c
guest: $(B)/guest/init

define lib_rule
lib-$(1): $(B)/lib$(1).a
$(B)/lib$(1).a: $(call obj,$(SRC_$(1)))
	$$(call say,AR,$$@)
	$$(Q)rm -f $$@ && ar rcs $$@ $$^
endef
$(foreach m,$(MODULES),$(eval $(call lib_rule,$m)))

third_party: $(TPLIBS)
# Their headers are there once they are built.
$(filter $(B)/obj/oci/% $(B)/obj/vmm/%,$(OBJ)): | $(TPLIBS)
$(TP)/lib/lib%.a: third_party/%.sh
	$(call say,BUILD,$@)
	$(Q)bash third_party/$*.sh $(TP)

# Unit tests: tests/unit/test_<x>.c, one program each; the first line may say `// links: core oci`.
UNIT     := $(patsubst tests/unit/%.c,%,$(wildcard tests/unit/test_*.c))
unit_libs = $(shell sed -n '1s,^// links: *,,p' tests/unit/$(1).c)
define unit_rule
$(B)/unit/$(1): tests/unit/$(1).c $(foreach l,$(call unit_libs,$(1)),$(B)/lib$(l).a) $(if $(filter oci vmm,$(call unit_libs,$(1))),$(TPLIBS))
	$$(call say,UNIT,$$@)
	$$(Q)mkdir -p $$(@D) && $(CC) $(CPPFLAGS) -I$(TP)/include $(CFLAGS) -MMD -MP $$(filter-out -static-pie,$(LDFLAGS)) -pie -o $$@ $$< \
	    -Wl,--start-group $(foreach l,$(call unit_libs,$(1)),$(B)/lib$(l).a) -Wl,--end-group -lcmocka \
	    $(if $(filter oci,$(call unit_libs,$(1))),$(LIBS),$(TP)/lib/libigzip.a -ljson-c -lcrypto -lcap -lseccomp -lzstd -llz4 -llzma) -lz
endef
$(foreach t,$(UNIT),$(eval $(call unit_rule,$t)))
# A guest without a kernel, for the test that runs it in a machine of ours; no sanitizer fits into it.
$(B)/unit/test_vmm_hostile: | $(B)/unit/hostile.elf
$(B)/unit/hostile.elf: tests/guest/hostile.c tests/guest/hostile_fs.c tests/guest/driver.h tests/guest/hostile.h tests/guest/hostile.ld
	$(call say,GUEST,$@)
	$(Q)mkdir -p $(@D) && gcc -I. -std=gnu17 -O1 $(WARN) -ffreestanding -fno-stack-protector -fno-pic -fcf-protection=none -mno-red-zone \
	    -mgeneral-regs-only -fno-asynchronous-unwind-tables -fno-tree-loop-distribute-patterns -nostdlib -static -no-pie \
	    -Wl,-T,tests/guest/hostile.ld -Wl,--build-id=none -Wl,-z,noexecstack,--no-warn-rwx-segments -o $@ $(filter %.c,$^)
.PHONY: unit
unit: $(addprefix $(B)/unit/,$(UNIT))

.PHONY: deps big cycles quickstart test test-unit check fuzz lab bench bench-images bench-vmm kernel kernel-again install man completions
deps:
	$(Q)third_party/deps.sh build
quickstart:
	$(Q)tests/quickstart.sh
# So many end-to-end scripts that failed may run a second time; CI says 2.
AGAIN    ?= 0
test:
	$(Q)third_party/deps.sh build test
	$(Q)$(MAKE) --no-print-directory all unit
	$(Q)tests/images/debian.sh $(B)/images || echo "no Debian image: the tests of it are skipped" # before the tests shut the network out
	$(Q)tests/images/arm64.sh $(B)/images || echo "no arm64 image: the test of foreign architectures is skipped"
	$(Q)third_party/fetch-deb.sh docker-registry build/tools
	$(Q)tests/run.pl --build $(B) --jobs 2 --again $(AGAIN) unit e2e
test-unit: unit
	$(Q)tests/run.pl --build $(B) --jobs 2 unit
check: third_party
	$(Q)third_party/deps.sh build check
	$(Q)tests/check-deps.sh
	$(Q)tests/check-apple.sh
	$(Q)tests/check-attacks.sh
	$(Q)tests/check-format.sh
	$(Q)tests/check-static.sh
TIME     ?= 60
fuzz: third_party
	$(Q)third_party/deps.sh build fuzz
	$(Q)tests/fuzz/run.sh -t $(TIME) -b $(B)/fuzz
lab:
	$(Q)third_party/deps.sh build test lab
	$(Q)$(MAKE) --no-print-directory all $(B)/unit/test_vmm_hostile
	$(Q)tests/lab/test.sh
N        ?= 1000
cycles: all
	$(Q)CYCLES=$(N) tests/e2e/18-cycles.t
big: all
	$(Q)BIG_MIB=4500 MANY=4180000 BIG_LIMIT=900 tests/e2e/20-big.t
bench: all
	$(Q)tests/bench/run.sh
	$(Q)BENCH_TSV=$(B)/bench/main.tsv tests/bench/containers.sh
bench-images: all
	$(Q)third_party/deps.sh build bench
	$(Q)third_party/fetch-deb.sh docker-registry build/tools
	$(Q)tests/images/python.sh $(B)/images # before the bench shuts the network out
	$(Q)tests/bench/images.sh
bench-vmm: all
	$(Q)third_party/deps.sh build test lab
	$(Q)tests/bench/vmm.sh
VMM_LIBS := -Wl,--start-group $(B)/libvmm.a $(B)/libcore.a -Wl,--end-group -ljson-c -lcrypto -lcap -lseccomp -lzstd -llz4 -llzma -lz
# vmm_boot times the product's functions: the linker puts its own around them.
comma    := ,
WRAPPED  := ioctl gmem_new boot_load_elf boot_load_initrd acpi_build boot_write_params jail_prepare jail_enter filter_arm filter_thread
$(B)/bench/vmm_boot: tests/bench/vmm_boot.c $(B)/libvmm.a $(B)/libcore.a
	$(call say,BENCH,$@)
	$(Q)mkdir -p $(@D) && $(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $< $(addprefix -Wl$(comma)--wrap=,$(WRAPPED)) \
	    $(VMM_LIBS)
$(B)/bench/vmboot: tests/lab/vmboot.c
$(B)/bench/vsock_host: tests/bench/vsock_host.c
$(B)/bench/vmboot $(B)/bench/vsock_host: $(B)/libvmm.a $(B)/libcore.a
	$(Q)mkdir -p $(@D) && $(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $(filter %.c,$^) $(VMM_LIBS)
$(B)/bench/race: tests/bench/race.c
$(B)/bench/tsc: tests/lab/tsc.c
$(B)/bench/race $(B)/bench/tsc:
	$(Q)mkdir -p $(@D) && $(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $<
# What runs in a guest has nothing of ours in it.
$(B)/bench/blkload $(B)/bench/netload $(B)/bench/vsockload: $(B)/bench/%: tests/bench/%.c
	$(Q)mkdir -p $(@D) && $(CC) -O2 -static -o $@ $<
$(B)/bench/pid1: tests/bench/pid1.S
	$(Q)mkdir -p $(@D) && $(CC) -nostdlib -static -s -o $@ $<
kernel:
	$(Q)third_party/deps.sh kernel
	$(Q)third_party/kernel.sh build/kernel
# Once more, elsewhere: is it the same, byte by byte?
kernel-again: kernel
	$(Q)third_party/kernel.sh build/kernel-again
	$(Q)sha256sum build/kernel/vmlinux build/kernel-again/vmlinux && cmp build/kernel/vmlinux build/kernel-again/vmlinux

PREFIX   ?= /usr/local
UNITDIR  ?= $(PREFIX)/lib/systemd/system
D         = $(DESTDIR)$(PREFIX)
man: $(B)/container
	$(Q)$(B)/container --generate man $(B)/man
completions: $(B)/container
	$(Q)for s in bash zsh fish; do $(B)/container --generate $$s $(B)/completions || exit 1; done
install: $(B)/container man completions
	install -d $(D)/bin $(D)/share/man/man1 $(D)/share/bash-completion/completions $(D)/share/zsh/site-functions \
	    $(D)/share/fish/vendor_completions.d $(DESTDIR)$(UNITDIR)
	install -m 755 $(B)/container $(D)/bin/container
	for r in apiserver core-images network-vmnet runtime-linux; do ln -sfn container $(D)/bin/container-$$r; done
	install -m 644 $(B)/man/*.1 $(D)/share/man/man1/
	install -m 644 $(B)/completions/container.bash $(D)/share/bash-completion/completions/container
	install -m 644 $(B)/completions/_container $(D)/share/zsh/site-functions/_container
	install -m 644 $(B)/completions/container.fish $(D)/share/fish/vendor_completions.d/container.fish
	for u in container-apiserver.service container-apiserver.socket; do \
	    sed 's,@PREFIX@,$(PREFIX),g' cmd/units/$$u.in >$(DESTDIR)$(UNITDIR)/$$u || exit 1; done
	if [ -s build/kernel/vmlinux ]; then install -D -m 644 build/kernel/vmlinux $(D)/share/container/vmlinux; fi

clean:
	rm -rf build build-asan

-include $(OBJ:.o=.d) $(GUEST_OBJ:.o=.d) $(wildcard $(B)/unit/*.d)
