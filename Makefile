# Build, test and install Glassbox.  `make help` lists the targets.
#
# PREFIX   where programs and man pages go, /usr/local unless told otherwise
# DESTDIR  a directory to install below, for packages
# PROFILE  cargo profile of the programs, release unless told otherwise

PREFIX  ?= /usr/local
DESTDIR ?=
PROFILE ?= release
CARGO   ?= cargo

bindir  := $(PREFIX)/bin
sbindir := $(PREFIX)/sbin
libdir  := $(PREFIX)/lib
mandir  := $(PREFIX)/share/man
datadir := $(PREFIX)/share
# Cargo's directory for a profile is its name, but for `dev`.
built   := $(or $(CARGO_TARGET_DIR),target)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))

# Where systemd and D-Bus look, as pkg-config says; what their packages ship is the default.  Debian 12 still says
# /lib for what is in /usr/lib.
ask    = $(shell pkg-config --variable=$2 $1 2>/dev/null)
merged = $(if $(filter usr/lib,$(shell readlink /lib)),$(patsubst /lib/%,/usr/lib/%,$1),$1)
where  = $(call merged,$(or $(call ask,$1,$2),$3))

systemunits      := $(call where,systemd,systemd_system_unit_dir,/usr/lib/systemd/system)
userunits        := $(call where,systemd,systemd_user_unit_dir,/usr/lib/systemd/user)
systemgenerators := $(call where,systemd,systemd_system_generator_dir,/usr/lib/systemd/system-generators)
usergenerators   := $(call where,systemd,systemd_user_generator_dir,/usr/lib/systemd/user-generators)
sysusers         := $(call where,systemd,sysusers_dir,/usr/lib/sysusers.d)
tmpfiles         := $(call where,systemd,tmpfiles_dir,/usr/lib/tmpfiles.d)
dbus             := $(call where,dbus-1,datadir,/usr/share)/dbus-1
polkit           := $(call where,polkit-gobject-1,actiondir,/usr/share/polkit-1/actions)

pages := $(wildcard man/*.1 man/*.5 man/*.8)

# All that is installed: mode, source, target.
define FILES
0755 $(built)/glassbox-qemu $(bindir)/glassbox-qemu
0755 $(built)/glassboxctl $(bindir)/glassboxctl
0755 $(built)/glassboxd $(sbindir)/glassboxd
0755 $(built)/glassbox-broker $(libdir)/glassbox/glassbox-broker
0755 wrappers/libguestfs-hv $(libdir)/glassbox/libguestfs-hv
0755 units/network $(libdir)/glassbox/network
0755 $(built)/glassbox-generator $(systemgenerators)/glassbox-generator
0755 $(built)/glassbox-generator $(usergenerators)/glassbox-generator
0644 units/qemu@.service $(systemunits)/qemu@.service
0644 units/glassbox-instance@.service $(systemunits)/glassbox-instance@.service
0644 units/glassbox-network@.service $(systemunits)/glassbox-network@.service
0644 units/swtpm@.service $(systemunits)/swtpm@.service
0644 units/virtiofsd@.service $(systemunits)/virtiofsd@.service
0644 units/passt@.service $(systemunits)/passt@.service
0644 units/nbdkit@.service $(systemunits)/nbdkit@.service
0644 units/qemu-pr-helper@.service $(systemunits)/qemu-pr-helper@.service
0644 units/vhost-device-vsock@.service $(systemunits)/vhost-device-vsock@.service
0644 units/glassboxd.service $(systemunits)/glassboxd.service
0644 units/glassboxd.socket $(systemunits)/glassboxd.socket
0644 units/glassbox-broker.service $(systemunits)/glassbox-broker.service
0644 units/glassbox-registry.target $(systemunits)/glassbox-registry.target
0644 units/user/qemu@.service $(userunits)/qemu@.service
0644 units/user/glassbox-instance@.service $(userunits)/glassbox-instance@.service
0644 units/user/glassboxd.service $(userunits)/glassboxd.service
0644 units/user/glassboxd.socket $(userunits)/glassboxd.socket
0644 units/user/glassbox-registry.target $(userunits)/glassbox-registry.target
0644 units/glassbox.sysusers $(sysusers)/glassbox.conf
0644 units/glassbox.tmpfiles $(tmpfiles)/glassbox.conf
0644 units/org.glassbox.Glassbox1.conf $(dbus)/system.d/org.glassbox.Glassbox1.conf
0644 units/org.glassbox.Glassbox1.service $(dbus)/system-services/org.glassbox.Glassbox1.service
0644 units/org.glassbox.Broker1.conf $(dbus)/system.d/org.glassbox.Broker1.conf
0644 units/org.glassbox.Broker1.service $(dbus)/system-services/org.glassbox.Broker1.service
0644 units/org.glassbox.policy $(polkit)/org.glassbox.policy
0644 completions/glassbox-qemu $(datadir)/bash-completion/completions/glassbox-qemu
0644 completions/_glassbox-qemu $(datadir)/zsh/site-functions/_glassbox-qemu
0644 completions/glassbox-qemu.fish $(datadir)/fish/vendor_completions.d/glassbox-qemu.fish
0644 completions/glassboxctl $(datadir)/bash-completion/completions/glassboxctl
0644 completions/_glassboxctl $(datadir)/zsh/site-functions/_glassboxctl
0644 completions/glassboxctl.fish $(datadir)/fish/vendor_completions.d/glassboxctl.fish
$(foreach page,$(pages),0644 $(page) $(mandir)/man$(subst .,,$(suffix $(page)))/$(notdir $(page))
)
endef
export FILES

.PHONY: help build test bench demo man install uninstall

help:
	@echo 'make build      the programs, in $(built)'
	@echo 'make test       format, lints and all tests; those on a real systemd need root and the network once'
	@echo 'make bench      the benchmarks'
	@echo 'make demo       a guest as a unit, step by step, on a real systemd in a container'
	@echo 'make man        the man pages and completions, from man/*.md and the options of the programs'
	@echo 'make install    what make build made; PREFIX=$(PREFIX) DESTDIR=$(DESTDIR)'
	@echo 'make uninstall  remove what make install put there'

build:
	$(CARGO) build --profile $(PROFILE) --workspace --exclude tests --exclude corpus
	@mkdir -p target
	@touch target/.glassbox-built-$(PROFILE)

test:
	@$(CARGO) run --quiet --package tests --bin runtests

bench:
	$(CARGO) bench --workspace

demo:
	@$(CARGO) build --quiet --package tests --bins
	@$(CARGO) run --quiet --package tests --bin demo

man:
	UPDATE_MAN=1 $(CARGO) test --quiet --package tests --test tidy man_pages

# Only copies: what is not built is told, not built, so that `sudo make install` leaves no files of root in target/.
# Units and wrappers name the programs below /usr, which is changed to PREFIX on the way.
install:
	@printf '%s\n' "$$FILES" | while read -r mode source target; do \
	    [ -n "$$mode" ] || continue; \
	    [ -f "$$source" ] || { echo "make install: $$source is missing; run 'make build' first" >&2; exit 1; }; \
	    case $$source in \
	    units/* | wrappers/*) sed -e 's|/usr/bin/glassbox|$(bindir)/glassbox|g' -e 's|/usr/sbin/glassbox|$(sbindir)/glassbox|g' \
	        -e 's|/usr/lib/glassbox/|$(libdir)/glassbox/|g' \
	        "$$source" | install -D -m "$$mode" /dev/stdin "$(DESTDIR)$$target" ;; \
	    *) install -D -m "$$mode" "$$source" "$(DESTDIR)$$target" ;; \
	    esac || exit 1; \
	done
	@[ -n "$(DESTDIR)" ] || echo 'Installed.  Now: systemd-sysusers && systemd-tmpfiles --create && systemctl daemon-reload && systemctl reload dbus'

uninstall:
	@printf '%s\n' "$$FILES" | while read -r mode source target; do \
	    [ -n "$$mode" ] || continue; \
	    rm -f "$(DESTDIR)$$target" || exit 1; \
	done
