# The verbs a person needs. Each installs what it misses (apt, as root) and says so.
SHELL := /bin/bash
SWIFT ?= swift
BUILD := $(SWIFT) build -c release --static-swift-stdlib --explicit-target-dependency-import-check error
BIN := .build/release/racetrack
ARGS ?=

BUILD_PACKAGES := libbpf-dev libmnl-dev libnetfilter-conntrack-dev libmicrohttpd-dev libgnutls28-dev libcap-ng-dev libyaml-dev libjansson-dev nettle-dev libcrypt-dev pkg-config
RUN_PACKAGES := iproute2 nftables
# What the committed skeletons of the eBPF programs are made with, besides the Swift toolchain's clang.
PROBE_PACKAGES := libbpf-dev bpftool
# Headers to compile the C sources for the other architecture with.
CHECK_PACKAGES := $(BUILD_PACKAGES) $(PROBE_PACKAGES) libc6-dev-arm64-cross
IMAGE_PACKAGES := buildah mmdebstrap curl prometheus
DEPLOY_PACKAGES := prometheus python3-venv
BENCH_PACKAGES := conntrack tcpdump curl procps python3
TEST_PACKAGES := iptables conntrack curl openssl procps prometheus python3-venv
# Real resolvers, the server that they ask, and the witness of what they send. prometheus brings a program with Go's resolver.
TEST_PACKAGES += gcc musl-tools libc-ares-dev bind9-dnsutils dnsmasq-base unbound dnsperf tcpdump util-linux

# Real kernels under qemu.
KERNEL_PACKAGES := qemu-system-x86 busybox-static kmod xz-utils iptables ipvsadm conntrack bsdextrautils

.PHONY: help build run demo test score kernels check probe bench bench-probe image clean deploy-check build-packages run-packages test-packages kernel-packages bench-packages image-packages deploy-packages probe-packages check-packages

help: ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

build: build-packages ## build the release binary
	$(BUILD) --product racetrack
	@cp $(BIN) .build/racetrack && strip .build/racetrack

run: build run-packages ## build, and run the agent on this machine's kernel (ARGS="--log.level debug" ...)
	./.build/racetrack agent $(ARGS)

demo: build run-packages ## make real races in private namespaces and watch every loss being named
	./.build/racetrack selftest $(ARGS)

test: build-packages run-packages test-packages ## every test, those against this machine's kernel too (needs root)
	@Tests/run.sh

score: build-packages run-packages test-packages ## 500 losses a cause in one second beside 5,000 lookups a second: the confusion matrix by grade
	RACETRACK_SCORE=full $(SWIFT) test -c release -Xswiftc -enable-testing --filter ScoredRunTests

bench: build run-packages bench-packages ## what a query costs, against a C floor and conntrack -E plus tcpdump (QUICK=1: a minute; needs root)
	$(BUILD) --product racebench
	$(SWIFT) build -c release --product AllocationShim
	@python3 Tests/Bench/bench.py $(if $(QUICK),--quick) $(ARGS)

kernels: build run-packages kernel-packages ## the compatibility table: other kernels under qemu, every service mode (QUICK=1: two kernels, minutes; ARGS="6.1 --races reply")
	$(SWIFT) build --product vmlab
	$(SWIFT) build --product racelab
	@Tests/VM/kernels.sh $(if $(QUICK),--quick) $(ARGS)

bench-probe: build run-packages bench-packages ## what the kernel probe costs bystanders: a UDP flood with it and without (needs root)
	$(BUILD) --product racebench
	@python3 Tests/Bench/probe.py $(ARGS)

probe: probe-packages ## compile the eBPF programs and make their skeletons anew, which are committed
	CShims/bpf.sh

check: check-packages ## formatting, what the house rules forbid, whether the eBPF skeletons are what their sources make, and the C sources on arm64
	@Tests/check.sh

deploy-check: deploy-packages ## the alert rules with their tests, and the manifest
	@Deploy/check.sh

image: build run-packages image-packages ## build the image without a registry, and run it here (needs root)
	@Deploy/image/build-offline.sh
	@Deploy/image/test-image.sh

clean: ## remove what was built
	rm -rf .build

# Installs the packages of $(1) that are missing. Services that come with them (prometheus, unbound) are not started: policy-rc.d says so while apt runs.
define install
	@missing=(); for package in $(1); do \
	  dpkg-query -W -f '$${Status}' "$$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$$package"); done; \
	if [ "$${#missing[@]}" -gt 0 ]; then \
	  echo "installing: $${missing[*]}"; \
	  if [ ! -e /usr/sbin/policy-rc.d ]; then \
	    trap 'rm -f /usr/sbin/policy-rc.d' EXIT; printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; fi; \
	  apt-get -o Acquire::Retries=5 update -qq && DEBIAN_FRONTEND=noninteractive \
	    apt-get -o Acquire::Retries=5 install -y -qq --no-install-recommends "$${missing[@]}" >/dev/null; fi
endef

build-packages:
	$(call install,$(BUILD_PACKAGES))
run-packages:
	$(call install,$(RUN_PACKAGES))
test-packages:
	$(call install,$(TEST_PACKAGES))
kernel-packages:
	$(call install,$(KERNEL_PACKAGES))
image-packages:
	$(call install,$(IMAGE_PACKAGES))
deploy-packages:
	$(call install,$(DEPLOY_PACKAGES))
check-packages:
	$(call install,$(CHECK_PACKAGES))
probe-packages:
	$(call install,$(PROBE_PACKAGES))
bench-packages:
	$(call install,$(BENCH_PACKAGES))
