# `make help` lists the targets.
CARGO ?= cargo

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort

.PHONY: test
test: deps ## everything: units, world, sockets, laboratory
	$(CARGO) test --workspace
