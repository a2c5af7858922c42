# `make help` lists the targets.
CARGO ?= cargo

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort

.PHONY: test
test: deps ## everything: units, world, sockets, laboratory
	$(CARGO) test --workspace

.PHONY: deps
deps: ## what the tests need from Debian (as root it installs, else it names it)
	@conformance/deps

.PHONY: bench-deps
bench-deps: ## what the benches need besides: Kamailio, rtpengine, a C compiler
	@conformance/deps bench

.PHONY: bench
bench: deps bench-deps ## Postern beside Kamailio and rtpengine; writes conformance/bench/RESULTS.md
	$(CARGO) build --release --bin postern
	conformance/bench/bench
