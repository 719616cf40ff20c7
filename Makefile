# The commands a person types, and the only ones CI runs. What a step does stands in tools/; this file says what comes
# before what. The minimum Rust version stands in Cargo.toml and nowhere else.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:
# No target is a file: each is a word to type.
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*/\1/p' $(lastword $(MAKEFILE_LIST)))

# Where `make run` listens; the next free port is taken when this one is in use.
PORT ?= 6379

# Where cargo builds, and what it builds there.
BUILD := $(abspath $(or $(CARGO_TARGET_DIR),target))
export MODULE_PATH := $(BUILD)/release/libredis_lock.so

# The comparison is a workspace of its own, so that its many dependencies touch neither the module nor the tests.
COMPARE := --locked --manifest-path compare/Cargo.toml --target-dir $(BUILD)/compare

# The least module that locks, which the benchmark sets ours beside.
floor = cc -O2 -g -Wall -Wextra -Werror -shared -fPIC -o $(BUILD)/release/floor.so bench/floor.c

# The servers to test on: Debian's, and two from the packages pinned in tools/servers.txt.
SERVERS := $(CURDIR)/target/servers
export SERVER_BIN ?= $(SERVERS)/debian/redis-server
ALL_SERVERS := $(SERVERS)/debian/redis-server $(SERVERS)/redis/redis-server $(SERVERS)/valkey/redis-server

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what a build needs, or say in one line what is missing
	@tools/setup.sh

build: setup ## build the module: target/release/libredis_lock.so
	cargo build --release --locked --package redis-lock

run: build ## start a server with the module in the foreground (PORT=6379)
	@tools/run.sh $(PORT)

demo: build ## watch locks wait, expire, survive a restart: a few seconds
	@tools/demo.sh

test: SERVERS_FOR_DEPLOYMENTS ?= $(SERVERS)/valkey/redis-server
test: unit matrix snippets cluster-test ## run all tests of the module, on all servers; failovers under load on one

unit: setup ## run the tests that need no server
	@tools/setup.sh matrix
	tools/nextest.sh --locked --workspace --lib --bins

soak: setup ## compare the core with its model in a million random runs, for a night (RUNS=1000000)
	@tools/setup.sh matrix
	LOCK_MODEL_RUNS=$(or $(RUNS),1000000) SIM_RUNS=$(or $(RUNS),1000000) tools/nextest.sh --locked --profile soak --package redis-lock --lib \
		-E 'test(/model_tests|simulator::nobody/)'

miri: setup ## interpret the tests of the pure core, and stop at undefined behaviour; needs rustup for a nightly Rust
	@tools/setup.sh matrix
	@tools/miri.sh

sim: setup ## play failovers in one thread, and print the story of one that goes wrong (SEED=1 STEPS=400 RUNS=14000)
	SIM_SEED=$(or $(SEED),1) SIM_STEPS=$(or $(STEPS),400) SIM_RUNS=$(or $(RUNS),$(if $(SEED),1,14000)) \
		cargo test --locked --package redis-lock --lib simulator$(if $(SEED),::nobody) -- --nocapture --test-threads=1

integration: build ## run the server tests on one server (SERVER_BIN=path TESTS=name)
	@tools/setup.sh matrix
	@tools/integration.sh $(SERVER_BIN)

checked: setup ## the same, with a module that checks its whole state after each step (SERVER_BIN=path TESTS=name)
	@tools/setup.sh matrix
	cargo build --locked --package redis-lock
	@MODULE_PATH=$(BUILD)/debug/libredis_lock.so tools/integration.sh $(SERVER_BIN)

matrix: build ## run the server tests on Redis 7.0, Redis 8.2 and Valkey 9.1 (TESTS=name)
	@tools/setup.sh matrix
	@tools/servers.sh $(SERVERS)
	@tools/integration.sh $(ALL_SERVERS)

snippets: build ## run the Python, Go, JavaScript and SQL of the documentation (SNIPPETS=go/readme)
	@tools/setup.sh snippets
	@tools/snippets.sh

test-clients: build ## test the client libraries on all servers (LANG=python for one, SERVERS_FOR_CLIENTS=path)
	@tools/setup.sh snippets
	@tools/servers.sh $(SERVERS)
	@CLIENT=$(or $(filter $(basename $(notdir $(wildcard tools/clients/*.sh))),$(LANG)),all) tools/clients.sh $(or $(SERVERS_FOR_CLIENTS),$(ALL_SERVERS))

fresh: ## type README's commands on an empty Debian 12; needs root (FRESH=test or FRESH=snippets for make test, or make snippets, too)
	@tools/fresh.sh

test-monitoring: build ## put monitoring/ to the test with Prometheus and redis_exporter
	@tools/setup.sh matrix
	@tools/servers.sh $(SERVERS)
	@tools/monitoring.sh test $(ALL_SERVERS)

dashboard: build ## play a bad day before Prometheus, and draw the dashboard: docs/monitoring.png
	@tools/setup.sh snippets
	@tools/monitoring.sh picture $(SERVER_BIN)

cli: setup ## build the program redis-lock: target/cli/release/redis-lock
	cargo build --release --locked --manifest-path cli/Cargo.toml --target-dir $(BUILD)/cli

cli-test: build ## check and test the program redis-lock (TESTS=name, SERVERS_FOR_CLI=path for one server)
	@tools/setup.sh matrix
	@tools/servers.sh $(SERVERS)
	@CLI_TARGET=$(BUILD)/cli tools/cli.sh test $(or $(SERVERS_FOR_CLI),$(ALL_SERVERS))

cli-bench: build ## say what redis-lock run adds to a command, and what LOCK.SCAN and a picture of top take
	@tools/servers.sh $(SERVERS)
	@CLI_TARGET=$(BUILD)/cli tools/cli.sh bench $(or $(SERVERS_FOR_CLI),$(ALL_SERVERS))

package: setup ## make target/package: .tar.gz, .deb, .rpm, debug symbols, the commands as JSON
	@tools/setup.sh package
	@tools/package.sh

package-test: setup ## the same, and install it in an empty Debian 12 and 11, take a lock, remove it
	@tools/setup.sh package
	@tools/servers.sh $(SERVERS)
	@NEWER_SERVER=$(SERVERS)/valkey/redis-server tools/package.sh test

bench: build ## measure speed and memory against other ways to lock (ARGS=--help; ARGS=clients for the client libraries)
ifeq ($(ARGS),clients)
	@tools/setup.sh snippets
	@tools/servers.sh $(SERVERS)
	@tools/bench-clients.sh $(SERVERS)/valkey/redis-server
else
	@tools/setup.sh bench
	@tools/servers.sh $(SERVERS)
	$(floor)
	VALKEY_BIN=$(SERVERS)/valkey/redis-server cargo run --release --locked --package lock-bench -- $(ARGS)
endif

counts: build ## hold what a pair, a hand-off and the module's mere presence cost, on all servers, in instructions
	@tools/setup.sh matrix
	@tools/setup.sh bench
	@tools/servers.sh $(SERVERS)
	$(floor)
	cargo run --release --locked --package lock-bench -- --gate instructions
	for server in $(ALL_SERVERS); do \
		cargo run --release --locked --package lock-bench -- --gate --server $$server floor bystanders || exit 1; \
	done

compare: build ## set it beside other locks, write docs/comparison.md (QUICK=1 prints the same from short runs)
	@tools/setup.sh matrix
	@tools/setup.sh compare
	@tools/servers.sh $(SERVERS)
	@source tools/compare.sh target/compare/peers; VALKEY_BIN=$(SERVERS)/valkey/redis-server \
	cargo run --release $(COMPARE) -- \
		$(if $(QUICK),--quick,--write docs/comparison.md) $(ARGS)

compare-test: setup ## check and test the comparison itself; it needs hundreds of crates
	@tools/setup.sh matrix
	@tools/setup.sh compare
	cargo fmt --manifest-path compare/Cargo.toml --check
	cargo clippy $(COMPARE) --all-targets -- -D warnings
	tools/nextest.sh $(COMPARE) --config-file .config/nextest.toml

cluster-test: build ## break real deployments under load, a few times each: nobody holds a lock twice
	@tools/setup.sh matrix
	@tools/setup.sh deployments
	@tools/servers.sh $(SERVERS)
	@DEPLOYMENTS_TARGET=$(BUILD)/deployments tools/deployments.sh test $(or $(SERVERS_FOR_DEPLOYMENTS),$(ALL_SERVERS))

failovers: build ## lose the newest grants in many failovers, and count the locks that are held twice (N=100, ARGS=--help)
	@tools/servers.sh $(SERVERS)
	@DEPLOYMENTS_TARGET=$(BUILD)/deployments tools/deployments.sh run \
		$(or $(SERVERS_FOR_DEPLOYMENTS),$(SERVERS)/valkey/redis-server) failovers --count $(or $(N),100) $(ARGS)

deployments: build ## break a real deployment under load in one way (ARGS="stopped --rounds 3", ARGS=--help for all)
	@tools/setup.sh deployments
	@tools/servers.sh $(SERVERS)
	@DEPLOYMENTS_TARGET=$(BUILD)/deployments tools/deployments.sh run \
		$(or $(SERVERS_FOR_DEPLOYMENTS),$(SERVERS)/valkey/redis-server) $(or $(ARGS),--help)

deploy-node: build ## bring examples/deploy/node.conf up on loopback, and say what to type; Ctrl-C ends it
	@tools/deploy.sh node

deploy-sentinel: build ## the same for a primary, two replicas and three Sentinels
	@tools/deploy.sh sentinel

deploy-cluster: build ## the same for a cluster of three primaries and three replicas
	@tools/deploy.sh cluster

deploy-test: build ## bring each of them up, type what it says, and end it
	@tools/servers.sh $(SERVERS)
	@tools/deploy.sh test $(or $(SERVERS_FOR_DEPLOYMENTS),$(ALL_SERVERS))

lint: setup ## check format, lints, documentation and shell syntax
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items
	for script in .ci/run tools/*.sh tools/clients/*.sh; do bash -n "$$script" || exit 1; done

deny: ## check licences, versions and sources of all dependencies (ARGS=advisories for known holes; needs github.com)
	@tools/setup.sh matrix
	@tools/deny.sh $(ARGS)

fmt: ## format the code
	cargo fmt --all
	cargo fmt --manifest-path compare/Cargo.toml
	cargo fmt --manifest-path cli/Cargo.toml
	cargo fmt --manifest-path deployments/Cargo.toml

doc: setup ## build the documentation of the code: target/doc
	cargo doc --locked --workspace --no-deps --document-private-items

book: setup ## build the pages as a book: target/book (the first time it builds mdBook, a minute or two)
	@tools/book.sh

clean: ## remove everything that was built or fetched
	cargo clean
	rm -rf target
