# The commands a person types, and the only ones CI runs. What a step does stands in tools/; this file says what comes
# before what. The minimum Rust version stands in Cargo.toml and nowhere else.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup build run demo test unit soak integration matrix snippets test-clients fresh bench bystanders compare compare-test lint fmt doc clean

# Where `make run` listens; the next free port is taken when this one is in use.
PORT ?= 6379

# Where cargo builds, and what it builds there.
BUILD := $(abspath $(or $(CARGO_TARGET_DIR),target))
export MODULE_PATH := $(BUILD)/release/libredis_lock.so

# The comparison is a workspace of its own, so that its many dependencies touch neither the module nor the tests.
COMPARE := --locked --manifest-path compare/Cargo.toml --target-dir $(BUILD)/compare

# The servers to test on: Debian's, and two from the packages pinned in tools/servers.txt.
SERVERS := $(CURDIR)/target/servers
export SERVER_BIN ?= $(SERVERS)/debian/redis-server
ALL_SERVERS := $(SERVERS)/debian/redis-server $(SERVERS)/redis/redis-server $(SERVERS)/valkey/redis-server

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what a build needs, or say in one line what is missing
	@tools/setup.sh

build: setup ## build the module: target/release/libredis_lock.so
	cargo build --release --locked --package redis-lock

run: build ## start a server with the module in the foreground (PORT=6379)
	@tools/run.sh $(PORT)

demo: build ## watch locks wait, expire, survive a restart: a few seconds
	@tools/demo.sh

test: unit matrix snippets ## run all tests of the module, on all servers

unit: setup ## run the tests that need no server
	cargo test --locked --workspace --lib --bins

soak: setup ## compare the core with its model in a million random runs, for a night (RUNS=1000000)
	LOCK_MODEL_RUNS=$(or $(RUNS),1000000) cargo test --locked --package redis-lock --lib model_tests

integration: build ## run the server tests on one server (SERVER_BIN=path TESTS=name)
	@tools/integration.sh $(SERVER_BIN)

matrix: build ## run the server tests on Redis 7.0, Redis 8.2 and Valkey 9.1 (TESTS=name)
	@tools/setup.sh matrix
	@tools/servers.sh $(SERVERS)
	@tools/integration.sh $(ALL_SERVERS)

snippets: build ## run the Python, Go and JavaScript of the documentation (SNIPPETS=go/readme)
	@tools/setup.sh snippets
	@tools/snippets.sh

test-clients: build ## test the client libraries on all servers (LANG=python for one, SERVERS_FOR_CLIENTS=path)
	@tools/setup.sh snippets
	@tools/servers.sh $(SERVERS)
	@CLIENT=$(or $(filter $(basename $(notdir $(wildcard tools/clients/*.sh))),$(LANG)),all) tools/clients.sh $(or $(SERVERS_FOR_CLIENTS),$(ALL_SERVERS))

fresh: ## type README's commands on an empty Debian 12; needs root (FRESH=test for make test too)
	@tools/fresh.sh

test-monitoring: build ## put monitoring/ to the test with Prometheus and redis_exporter
	@tools/setup.sh matrix
	@tools/servers.sh $(SERVERS)
	@tools/monitoring.sh $(ALL_SERVERS)

package: build ## make target/package: .tar.gz, .deb, debug symbols, the commands as JSON
	@tools/setup.sh package
	@tools/package.sh

package-test: build ## the same, and install the .deb in an empty Debian 12, take a lock, remove it
	@tools/setup.sh package
	@tools/package.sh test

bench: build ## measure speed and memory against other ways to lock (ARGS=--help)
	@tools/setup.sh bench
	@tools/servers.sh $(SERVERS)
	cargo build --release --locked --package lock-bench --examples
	VALKEY_BIN=$(SERVERS)/valkey/redis-server cargo run --release --locked --package lock-bench -- $(ARGS)

bystanders: build ## hold what the module costs those who use no locks, on all servers, in instructions
	@tools/setup.sh matrix
	@tools/setup.sh bench
	@tools/servers.sh $(SERVERS)
	cargo build --release --locked --package lock-bench --examples
	for server in $(ALL_SERVERS); do \
		cargo run --release --locked --package lock-bench -- --gate --server $$server bystanders || exit 1; \
	done

compare: build ## set it beside other locks, write docs/comparison.md (QUICK=1 prints the same from short runs)
	@tools/setup.sh matrix
	@tools/setup.sh compare
	@tools/servers.sh $(SERVERS)
	@source tools/compare.sh target/compare/peers; VALKEY_BIN=$(SERVERS)/valkey/redis-server \
	cargo run --release $(COMPARE) -- \
		$(if $(QUICK),--quick,--write docs/comparison.md) $(ARGS)

compare-test: setup ## check and test the comparison itself; it needs hundreds of crates
	@tools/setup.sh compare
	cargo fmt --manifest-path compare/Cargo.toml --check
	cargo clippy $(COMPARE) --all-targets -- -D warnings
	cargo test $(COMPARE)

lint: setup ## check format, lints, documentation and shell syntax
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items
	for script in .ci/run tools/*.sh tools/clients/*.sh; do bash -n "$$script" || exit 1; done

fmt: ## format the code
	cargo fmt --all
	cargo fmt --manifest-path compare/Cargo.toml

doc: setup ## build the documentation of the code: target/doc
	cargo doc --locked --workspace --no-deps --document-private-items

clean: ## remove everything that was built or fetched
	cargo clean
	rm -rf target
