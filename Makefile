# Quorate's chores. Everything is a plain go command; this file only remembers
# the long ones. Bare `make` says what there is.

GO       ?= go
BIN      ?= bin
FUZZTIME ?= 6s

.PHONY: help build run test race lint fuzz e2e bench prometheus ci clean

help: ## print this
	@echo 'usage: make TARGET'
	@echo
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo 'variables: BIN=$(BIN) FUZZTIME=$(FUZZTIME)'

build: ## build the server and the load generator into BIN
	$(GO) build -o $(BIN)/ ./cmd/quorate ./benchmarks/loadgen

run: ## start a server with its data in ./data
	$(GO) run ./cmd/quorate

test: ## all tests of the root module
	$(GO) test ./...

race: ## all tests of the root module under the race detector
	$(GO) test -race ./...

lint: ## golangci-lint as pinned in tools/lint, gofmt, vet of the nested modules
	.ci/run lint

fuzz: ## every fuzz target for FUZZTIME
	FUZZTIME=$(FUZZTIME) .ci/run fuzz

e2e: ## end-to-end tests against a real Prometheus (built first)
	.ci/run e2e

bench: ## the load W1: 100k series x 100 rounds against a server built here
	benchmarks/run-w1.sh

prometheus: ## build the real Prometheus and promtool into BIN
	tools/prometheus/build.sh $(BIN)

ci: ## everything that CI runs
	.ci/run

clean: ## remove BIN (never data)
	rm -rf $(BIN)
