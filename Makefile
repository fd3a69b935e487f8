# The two commands to know: `make demo` and `make test`. Both set up what they need, system packages included.

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What runs er and makes the example images, and what the tests need beside that.
RUNS := $(VENV)/.runs
READY := $(VENV)/.ready
IMAGES := .cache/images/app.tar
KEY := .cache/keys/demo
# Tests at a time, for two processors: much of what they do is waiting for hosts. More of them cost all more: thirteen
# files took 622 s of a processor and 442 s by eight, 556 s and 365 s by five.
WORKERS ?= 6
# Or each `er` and each worker would compile this program anew. Before a run of the tests one process compiles them, which
# takes a dozen seconds of a processor: workers that begin together would each do it.
unexport PYTHONDONTWRITEBYTECODE

# Booting hosts (er try) and testing them. On other systems than Debian and Ubuntu they are yours to install.
BOOT_PACKAGES := python3 python3-venv ca-certificates curl debian-archive-keyring iproute2 mmdebstrap openssh-client \
  passt systemd-container busybox-static packer qemu-system-x86 qemu-utils mtools e2fsprogs fuse2fs
TEST_PACKAGES := bind9-dnsutils bsdextrautils iptables nmap openssl shellcheck docker-registry pebble testssl.sh wrk strace ovmf gzip \
  xz-utils zstd dnsmasq-base genisoimage podman crun netavark openssh-server rclone haproxy bindfs

.DEFAULT_GOAL := help
.PHONY: help demo test unit check fuzz bench recording attacks audits bakes cis cuts packer sweeps wild shape images setup system-boot system-test clean

help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: system-boot images $(KEY) ## Bake the example host's image here, boot it twice, and serve its page over HTTPS
	$(BIN)/er build-image examples/hello.yaml --target qemu --with-stacks --reuse -o .cache/demo

# Installing what tests need keeps one processor busy: another one makes what the first hosts stand on meanwhile.
test: system-test $(RUNS) ## Run all tests; hosts are booted where that can be done
	@if [ "$$(uname -s)" = Linux ] && [ "$$(id -u)" = 0 ]; then \
	  $(BIN)/python -m tests.base_trees & trap "kill $$! 2>/dev/null" EXIT; \
	  $(MAKE) --no-print-directory setup images $(KEY) || exit; \
	  $(BIN)/pytest --collect-only -q >/dev/null; \
	  $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder; \
	elif [ -n "$$CI" ]; then \
	  echo "error: the machine tests need root and Linux, and CI runs them all" >&2; exit 1; \
	else \
	  echo "note: the machine tests boot real hosts, which needs root and Linux: run 'sudo make test' for them" >&2; \
	  $(MAKE) --no-print-directory setup images $(KEY) || exit; \
	  $(BIN)/pytest -n 2 -m "not machine"; \
	fi

unit: setup ## Run the tests that start nothing and need nothing
	$(BIN)/pytest tests/unit

check: setup ## Lint and type-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

shape: setup ## Measure modules, functions and imports, beside those of another revision: make shape REV=main
	$(BIN)/python -m tests.shape $(REV)

fuzz: system-test setup ## Put every hostile value into every text of a spec and a Compose file; takes an hour
	ER_FUZZ=1 $(BIN)/pytest tests/unit/test_hostile.py tests/machine/test_formats.py

bench: system-test setup images $(KEY) ## Measure against what people do today, as ratios; writes docs/benchmarks.md
	$(BIN)/python -m bench
	$(BIN)/python -m bench.sizes

recording: system-boot setup images $(KEY) ## Record a run of er try, as root; writes docs/try.svg
	$(BIN)/python -m bench.recording

# Of each of these `make test` tries a few points: the files that import tests/sweeps.py.
SWEPT := $(shell grep -lE '^from tests(\.sweeps import| import sweeps$$)' tests/*/test_*.py | grep -v -e unit/ -e audit/)
sweeps: system-test setup images $(KEY) ## Try every provider, every point of an `er server apply` and of a restore, every call of AWS, every firewall rule, a disk for data and NFS in virtual machines; writes their tables
	ER_SWEEPS=1 UPDATE=1 $(BIN)/pytest -n 2 --dist loadfile $(SWEPT)

wild: system-test setup ## Convert the Compose files of 100 known projects, and let Podman's generator read the units; writes docs/wild.md
	UPDATE=1 $(BIN)/pytest tests/unit/test_wild.py tests/machine/test_wild.py

# Part of `make test` where virtual machines are fast.
bakes: system-test setup images $(KEY) ## Bake in a container and in a virtual machine, compare, boot by BIOS and UEFI; emulated 20 minutes
	ER_BAKES=1 $(BIN)/pytest $(addprefix tests/packer/test_,bake.py two_bakes.py disk.py)

attacks: system-test setup images $(KEY) ## Attack a virtual machine from inside a container; writes its table into docs/containment.md
	ER_ATTACKS=1 UPDATE=1 $(BIN)/pytest tests/packer/test_attacks.py

audits: system-test setup images $(KEY) ## Run Lynis, OpenSCAP, testssl.sh and others on a plain host and on both of ours; writes docs/audits.md
	ER_SWEEPS=1 UPDATE=1 $(BIN)/pytest tests/audit/test_audits.py

# No package has the content yet; it is built from the source of the SCAP Security Guide (product debian13).
cis: system-test setup images $(KEY) ## Score hosts by CIS Debian 13: make cis CONTENT=/path/of/ssg-debian13-ds.xml
	@[ -r "$(CONTENT)" ] || { echo "error: say which: make cis CONTENT=/path/of/ssg-debian13-ds.xml" >&2; exit 1; }
	ER_SWEEPS=1 ER_CIS_CONTENT="$(abspath $(CONTENT))" $(BIN)/pytest -s tests/audit/test_cis.py

cuts: system-test setup images $(KEY) ## Cut the power at every step of a first boot and boot again; writes docs/power-cuts.md
	$(BIN)/python -m tests.machine.cuts

# Debian's 1.6.6 is what `make test` builds with; this is for today's, with the plugins that it has.
packer: system-test setup images $(KEY) ## Run what builds with Packer against another one: make packer PACKER=/opt/packer/packer
	@[ -x "$(PACKER)" ] || { echo "error: say which: make packer PACKER=/path/of/packer" >&2; exit 1; }
	PATH="$(dir $(abspath $(PACKER))):$$PATH" ER_PACKER="$(abspath $(PACKER))" ER_BAKES=1 \
	  $(BIN)/pytest $(addprefix tests/packer/test_,templates.py clouds.py failures.py aws.py bake.py two_bakes.py)

images: $(IMAGES) ## Make the example images from packages, so that no container registry is needed

setup: $(READY)

$(RUNS): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/pip install --quiet --editable . --group examples
	@touch $@

$(READY): $(RUNS)
	$(BIN)/pip install --quiet --group dev
	@touch $@

$(IMAGES): examples/make_images.py builder/oci/image_archive.py $(RUNS)
	$(BIN)/python examples/make_images.py

$(KEY):
	@mkdir -p $(@D)
	ssh-keygen -q -t ed25519 -N '' -C demo -f $@

# Only what is missing is installed; RUNLEVEL keeps packages from starting services of theirs.
define install
@command -v dpkg-query >/dev/null || { echo "note: not Debian or Ubuntu; needed: $(1)" >&2; exit 0; }; \
missing=$$(for name in $(1); do \
  dpkg-query -W -f '$${db:Status-Status}' $$name 2>/dev/null | grep -qx installed || echo $$name; done); \
[ -n "$$missing" ] || exit 0; \
if [ "$$(id -u)" != 0 ]; then echo "note: missing packages, install them as root: apt-get install" $$missing >&2; exit 0; fi; \
apt-get -qq update && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 \
  install --no-install-recommends $$missing >/dev/null
endef

system-boot:
	$(call install,$(BOOT_PACKAGES))

system-test: system-boot
	$(call install,$(TEST_PACKAGES))

clean: ## Remove what was made here (not the cached hosts: see er try --help)
	rm -rf $(VENV) .cache dist build
