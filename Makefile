# The verbs a person needs. Each installs what it misses (apt, as root) and says so.
SHELL := /bin/bash
SWIFT ?= swift
BUILD := $(SWIFT) build -c release --static-swift-stdlib --explicit-target-dependency-import-check error
BIN := .build/release/racetrack
ARGS ?=

BUILD_PACKAGES := libmnl-dev libnetfilter-conntrack-dev libmicrohttpd-dev libgnutls28-dev libcap-ng-dev libyaml-dev nettle-dev libcrypt-dev pkg-config
RUN_PACKAGES := iproute2 nftables
BENCH_PACKAGES := conntrack tcpdump curl procps python3
TEST_PACKAGES := iptables conntrack curl openssl procps prometheus python3-venv

.PHONY: help build run demo test check bench image clean build-packages run-packages test-packages bench-packages

help: ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

build: build-packages ## build the release binary
	$(BUILD) --product racetrack
	@cp $(BIN) .build/racetrack && strip .build/racetrack

run: build run-packages ## build, and run the agent on this machine's kernel (ARGS="--log.level debug" ...)
	./.build/racetrack agent $(ARGS)

demo: build run-packages ## make real races in private namespaces and watch every loss being named
	./.build/racetrack selftest $(ARGS)

test: build-packages run-packages test-packages ## every test, those against this machine's kernel too (needs root)
	@Tests/run.sh

bench: build run-packages bench-packages ## what a query costs, against a C floor and conntrack -E plus tcpdump (QUICK=1: a minute; needs root)
	$(BUILD) --product racebench
	$(SWIFT) build -c release --product AllocationShim
	@python3 Tests/Bench/bench.py $(if $(QUICK),--quick) $(ARGS)

check: ## formatting, and what the house rules forbid
	@Tests/check.sh

clean: ## remove what was built
	rm -rf .build

# Installs the packages of $(1) that are missing.
define install
	@missing=(); for package in $(1); do \
	  dpkg-query -W -f '$${Status}' "$$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$$package"); done; \
	if [ "$${#missing[@]}" -gt 0 ]; then \
	  echo "installing: $${missing[*]}"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$${missing[@]}" >/dev/null; fi
endef

build-packages:
	$(call install,$(BUILD_PACKAGES))
run-packages:
	$(call install,$(RUN_PACKAGES))
test-packages:
	$(call install,$(TEST_PACKAGES))
bench-packages:
	$(call install,$(BENCH_PACKAGES))
