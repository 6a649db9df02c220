# One optimised profile for everything: librdkafka is built anew for each.
FEATURES := --workspace --features fail-points
# The tests' build: our own crates hardly optimised, which halves the build, and in many units, so that little is built again after a change. What
# they depend on is shared with every other build. Models and simulated lives compute, everything else waits for servers.
OURS := dinnerbell $(addprefix dinnerbell-,core sim wire config token kafka postgres bench)
COMPUTE := $(addprefix dinnerbell-,core sim wire)
TEST_CARGO := cargo $(foreach crate,$(OURS),--config profile.release.package.$(crate).codegen-units=64 \
	--config profile.release.package.$(crate).opt-level=$(if $(filter $(crate),$(COMPUTE)),1,0))
RUN_TESTS = $(TEST_CARGO) test --no-fail-fast --release --locked $(FEATURES)
PROTOCOL := --test architecture --test model --test simulation
CLIPPY := cargo clippy --release --locked --all-targets $(FEATURES) -- -D warnings
# The demo's build: whoever tries it waits for the compiler first. What our crates depend on is shared with every other build.
DEMO_CARGO := cargo $(foreach crate,$(filter-out dinnerbell-sim,$(OURS)),--config profile.release.package.$(crate).opt-level=1)
# Code that is hardly optimised needs more of the stack than threads get by default.
test prove check: export RUST_MIN_STACK ?= 8388608
# Tests wait for servers more than they compute.
TEST_THREADS ?= 7
# Whoever works here builds again and again: what did not change of a crate is kept. A build from nothing takes a little longer by it.
check test prove lint: export CARGO_INCREMENTAL ?= 1
# Where rustup puts cargo, for shells that do not know it yet.
export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: help demo check test lint prove bench figures screenshots

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

demo: ## the whole service on one machine, set-up included; flags: make demo ARGS=--once
	@scripts/setup demo
	$(DEMO_CARGO) run --release --locked -- demo $(ARGS)

check: ## what needs no server, for each commit: format, clippy, unit tests, architecture, models, simulated lives
	@scripts/setup lint
	cargo fmt --all --check
	$(CLIPPY)
	$(RUN_TESTS) --lib $(PROTOCOL) --no-run
	@# The unit tests wait, the models compute: side by side. Half of the random lives are for make test alone.
	$(RUN_TESTS) --lib -- --test-threads $(TEST_THREADS) >.cache/units.log 2>&1 & units=$$!; \
	DINNERBELL_LIVES=$${DINNERBELL_LIVES:-200} $(RUN_TESTS) $(PROTOCOL) -- --skip stateright; protocol=$$?; wait $$units; units=$$?; cat .cache/units.log; exit $$((units + protocol))

test: ## unit, model and integration tests on real Kafka and PostgreSQL, set-up included
	@scripts/setup test
	scripts/with-rig $(RUN_TESTS) $(ARGS) -- --test-threads $(TEST_THREADS) $(TEST_ARGS)

prove: ## the tests that take longer, and the proof that each guard is needed
	@scripts/setup test
	scripts/with-rig $(RUN_TESTS) $(ARGS) -- --ignored --test-threads 1 $(TEST_ARGS)

bench: ## this machine's own limits, and the service against them
	@scripts/setup test
	scripts/with-rig sh -c 'scripts/rig configuration >.cache/rig/dinnerbell.toml && \
		exec cargo run --release --locked -- bench -c .cache/rig/dinnerbell.toml "$$@"' bench $(ARGS)

figures: ## the figures and pictures of docs/performance.md, measured anew: half an hour on a machine that does nothing else
	@scripts/setup figures
	scripts/with-rig scripts/figures $(ARGS)

screenshots: ## the pictures of the page in docs/pictures, taken anew of a real service in a real browser
	@scripts/setup screenshots
	DINNERBELL_PICTURES=$(CURDIR)/docs/pictures scripts/with-rig $(TEST_CARGO) test --release --locked $(FEATURES) --test browser -- pictures::

lint: ## format, warnings, links of the doc comments, licences and bans
	@scripts/setup lint
	cargo fmt --all --check
	$(CLIPPY)
	RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' cargo doc --release --locked --no-deps --document-private-items $(FEATURES)
	.cache/cargo-deny/bin/cargo-deny --locked check --hide-inclusion-graph licenses bans sources
