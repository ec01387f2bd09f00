# Verbs only: each is one line, what it does is in contrib/, tests/ and the harness.
PREFIX ?= /usr/local
DESTDIR ?=
export PREFIX DESTDIR
# In front: a distribution's own Rust in /usr/bin may be older than what rustup has here.
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

.PHONY: build release test test-node test-node-short test-node-critest test-node-suite test-node-arm64 test-power test-security test-service test-arch test-arm64 faults conformance soak demo bench lint fmt deny install uninstall deps deps-install clean

build: ## the workspace, for development
	cargo build --workspace --locked
release: ## what is installed
	cargo build --release --workspace --locked
deps: ## installs what building, demo and tests need and is missing (as root)
	contrib/deps/system.sh test && contrib/deps/rust.sh test && contrib/deps/crictl.sh && contrib/deps/registry.sh && contrib/deps/runc.sh && contrib/deps/policy-oracle.sh && contrib/deps/arm64.sh aarch64-unknown-linux-gnu
deps-install: ## of that only what building and running cricket need, for a node (as root)
	contrib/deps/system.sh install && contrib/deps/rust.sh run
demo: ## a pod from pull to clean-up on scratch paths (as root)
	contrib/deps/system.sh run && contrib/deps/rust.sh run && $(MAKE) -s release && target/release/demo
test: deps ## lint, unit and integration tests, leak check (as root)
	tests/run.sh
faults: ## kills, full disks, hangs, a soak and power cuts, long, and the table of what was lost (as root); ARGS=faults_monitor for some
	contrib/deps/system.sh test && contrib/deps/rust.sh run && contrib/deps/registry.sh && contrib/deps/runc.sh && tests/faults.sh $(ARGS)
conformance: ## all of critest, the CRI's own test suite (as root); ARGS="--focus REGEX" for some of it
	contrib/deps/system.sh conformance && contrib/deps/rust.sh run && contrib/deps/registry.sh && contrib/deps/runc.sh && contrib/deps/critest.sh && tests/conformance/run.sh $(ARGS)
soak: ## churn under random kills (as root); MINUTES=5, SEED=… repeats one, PROGRAM=… another build
	contrib/deps/system.sh test && contrib/deps/rust.sh run && contrib/deps/registry.sh && contrib/deps/runc.sh && $(MAKE) -s build && target/debug/soak $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(PROGRAM)
test-node: ## in a Debian virtual machine: a reboot, the systemd driver, and test-service and test-security (as root, 25 minutes)
	contrib/deps/system.sh run && contrib/deps/rust.sh run && tests/node/run.sh whole
test-node-short: ## of that what CI runs: a pod under the systemd driver, a restart, kill -9, a reboot (as root)
	contrib/deps/system.sh run && contrib/deps/rust.sh run && PROFILE=debug tests/node/run.sh short
test-node-critest: ## all of critest in that machine, under the systemd driver (as root, an hour)
	contrib/deps/system.sh conformance && contrib/deps/rust.sh run && tests/node/run.sh conformance
test-node-suite: ## the integration tests in that machine, on cgroup v2 (as root, two hours); ARGS=pods for some
	contrib/deps/system.sh run && contrib/deps/rust.sh run && PROFILE=debug tests/node/run.sh suite $(ARGS)
test-node-arm64: ## the short form of test-node in an arm64 Debian under qemu-system-aarch64 (as root, half an hour)
	contrib/deps/system.sh run && contrib/deps/rust.sh run && tests/node/arm64.sh
test-power: ## power cuts of that machine (as root, two hours); ARGS="--cuts 60 --kills 50 --seed N"
	contrib/deps/system.sh run && contrib/deps/rust.sh run && tests/node/run.sh cuts $(ARGS)
test-power-short: ## of that what CI runs: one kill, and three cuts of one run
	contrib/deps/system.sh run && contrib/deps/rust.sh run && PROFILE=debug tests/node/run.sh cuts --kills 1 --cuts 3 --seconds 20
test-security: ## AppArmor and user namespaces in that machine, by crun and runc (as root)
	contrib/deps/system.sh run && contrib/deps/rust.sh run && tests/node/run.sh security
test-service: ## the units in that machine: reload, a hang, an upgrade, stop, shutdown (as root)
	contrib/deps/system.sh run && contrib/deps/rust.sh run && tests/node/run.sh service
test-arch: ## makepkg builds the Arch package, pacman installs it into a scratch root (as root)
	contrib/deps/system.sh run && contrib/deps/rust.sh run && tests/arch/run.sh
test-arm64: ## the same cross-built for aarch64, and the static target; it runs under qemu-user (as root)
	contrib/deps/system.sh run && contrib/deps/rust.sh run && tests/arch/arm64.sh
bench: ## figures beside the peers' (as root); ARGS="--socket …" measures another runtime
	contrib/deps/system.sh test && contrib/deps/rust.sh run && contrib/deps/registry.sh && $(MAKE) -s release && target/release/bench-cri $(ARGS)
lint: ## no warning, formatted, builds without OpenPGP, dependencies allowed where cargo-deny is here
	cargo fmt --all --check && cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo check --locked --no-default-features
	contrib/deps/deny.sh present
fmt:
	cargo fmt --all
deny: ## licences, sources and bans of the dependencies; builds cargo-deny where it is missing
	contrib/deps/deny.sh
install: ## what `make release` built, below $DESTDIR$PREFIX
	contrib/install.sh install
uninstall:
	contrib/install.sh uninstall
clean:
	cargo clean
