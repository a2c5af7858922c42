# `make help` lists the targets.
CARGO ?= cargo
CALLER ?= port
CALLEE ?= port
# The laboratory waits more than it works: two tests for each processor at a time.
TEST_THREADS ?= $(shell expr 2 '*' $$(nproc))

# What the optimised command is compiled by, where it is there; `make build PROFILE=` does without. What has changed since it was made
# would be a warning each. Cargo can't be told of a folder with a space in its name this way.
PROFILE := host/profile/postern.profdata
PROFILED := $(if $(word 2,$(CURDIR)),,$(if $(wildcard $(PROFILE)),-Cprofile-use=$(CURDIR)/$(PROFILE) -Cllvm-args=-no-pgo-warn-mismatch))
RELEASE := $(if $(PROFILED),RUSTFLAGS="$$RUSTFLAGS $(PROFILED)") $(CARGO)

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort

.PHONY: build
build: ## the postern command, optimised: target/release/postern
	$(RELEASE) build --release -p host --bin postern

.PHONY: profile
profile: deps bench-deps ## the profile that `build` optimises by, anew (host/profile/README.md says when); a quarter of an hour
	host/profile/gather

.PHONY: run
run: build ## everything in one process on loopback, with two demo users
	@echo
	@echo "Postern listens on 127.0.0.1:5060 (UDP and TCP). Demo users:"
	@echo "  sip:alice@127.0.0.1  password wonderland"
	@echo "  sip:bob@127.0.0.1    password builder"
	@echo "Register two phones with them and call from one to the other; then, in another terminal:"
	@echo "  target/release/postern calls            who called whom"
	@echo "  target/release/postern explain last     why the media went where it went"
	@echo "Ctrl-C ends it."
	@echo
	@target/release/postern run -c configs/all-in-one.yaml

.PHONY: test
test: deps ## everything: units, world, sockets, laboratory (POSTERN_LONG=1: 3 idle minutes for scenarios 1k and 2c instead of 70 and 45 s, and a restart storm of 100,000 peers)
	RUST_TEST_THREADS=$(TEST_THREADS) $(CARGO) test --workspace

.PHONY: load
load: deps build ## sipp's 10,000 calls at 500 a second through both load-test files, nothing failed, nothing sent twice
	POSTERN_FULL_LOAD=1 POSTERN_BINARY=$(CURDIR)/target/release/postern $(CARGO) test -p conformance --test lab_load

.PHONY: demo-peers
demo-peers: ## a peer behind each kind of NAT: who is online for whom, by which path, and why
	@$(CARGO) run -q -p conformance --example demo_peers

.PHONY: demo
demo: ## two phones behind two NATs call each other; the ladder, the reasons and the verdict: make demo CALLER=sym CALLEE=port
	@$(CARGO) run -q -p conformance --example demo -- $(CALLER) $(CALLEE)

.PHONY: deps
deps: ## what the tests need from Debian (as root it installs, else it names it), and Asterisk in a folder of its own
	@conformance/deps
	@conformance/peers/asterisk/setup > /dev/null || echo "the tests with Asterisk will be skipped"

.PHONY: kernel-path
kernel-path: ## the eBPF object of the kernel path, anew from its source (needs clang, llvm, libbpf-dev)
	host/src/kernel/compile

.PHONY: bench-deps
bench-deps: ## what the benches and `profile` need besides: a C compiler
	@conformance/deps bench

.PHONY: bench
bench: deps bench-deps build ## Postern beside Kamailio and rtpengine; writes conformance/bench/RESULTS.md
	conformance/bench/bench

.PHONY: bench-peers
bench-peers: ## a reflector beside a bare echo, and logins at an access server (conformance/bench/PEERS.md says what was seen)
	$(RELEASE) run --release -q -p host --example reflector_load
	$(RELEASE) run --release -q -p conformance --example access_load

.PHONY: idle
idle: build ## what 20,000 idle TLS connections cost in memory (as root, or with ulimit -n 41000)
	$(RELEASE) run --release -q -p host --example idle_tls -- target/release/postern

SECONDS ?= 60
FUZZ_TARGETS ?= sip stream headers uri sdp digest stun media nodes proxy
FUZZ_VECTORS = conformance/vectors/rfc4475 conformance/vectors/rfc5118
.PHONY: fuzz
fuzz: ## coverage-guided fuzzing of what reads the wire: make fuzz SECONDS=60 (for each target; FUZZ_TARGETS="sip sdp" for some)
	@$(CARGO) fuzz --version >/dev/null 2>&1 || $(CARGO) install cargo-fuzz --locked
	@for target in $(FUZZ_TARGETS); do \
		mkdir -p conformance/fuzz/corpus/$$target conformance/fuzz/seeds/$$target && \
		$(CARGO) fuzz run --fuzz-dir conformance/fuzz --sanitizer none $$target \
			conformance/fuzz/corpus/$$target conformance/fuzz/seeds/$$target $(FUZZ_VECTORS) \
			-- -max_total_time=$(SECONDS) -max_len=4096 || exit 1; \
	done
