# The two commands: `sudo make demo` and `sudo make test`. They install what is missing.

GO      ?= $(or $(shell command -v go),/usr/local/go/bin/go)
ENGINE  ?= 28.5
RUN     ?= .
SKIP    ?= ^$$
LABS    ?= 2
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
DOCKER  ?= docker
# The managed plugin's name is REGISTRY:TAG. It must not be causeway:latest.
REGISTRY ?= causeway
TAG      ?= 0.1
TOOLS   := bin/tools
GOTESTSUM := $(TOOLS)/gotestsum-1.13.0
LINTER    := $(TOOLS)/golangci-lint-2.12.0
TESTSUM   := $(GOTESTSUM) --format pkgname --

# What builds, tests and lab call, by the package that has it.
PACKAGES := gcc=gcc libc6-dev=/usr/include/stdio.h git=git ca-certificates=/etc/ssl/certs/ca-certificates.crt \
	iproute2=ip iptables=iptables nftables=nft kmod=modprobe procps=ps mount=mount util-linux=unshare \
	iputils-ping=ping iputils-arping=arping tcpdump=tcpdump ethtool=ethtool iperf3=iperf3 \
	busybox-static=busybox xz-utils=xz debootstrap=debootstrap sockperf=sockperf

# sudo leaves Go out of the PATH, and a user's has no sbin.
export PATH := $(PATH):$(patsubst %/,%,$(dir $(GO))):/usr/sbin:/sbin

.PHONY: help deps build deb plugin plugin-push generate lint test test-unit test-e2e test-smoke test-ui test-matrix bench bench-scale bench-go bench-report fuzz fuzz-short hammer test-churn test-faults test-security soak demo lab-down clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' Makefile

deps: ## Install the Debian packages that are missing
	@missing=""; for pair in $(PACKAGES); do \
		need=$${pair#*=}; case $$need in /*) test -e $$need;; *) command -v $$need >/dev/null;; esac \
		|| missing="$$missing $${pair%%=*}"; done; \
	if [ -n "$$missing" ]; then echo "==> installing:$$missing"; \
		apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends $$missing; fi

build: ## Build bin/causeway and bin/causeway-lab, static
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w -X main.stamped=$(VERSION)' -o bin/ ./cmd/...

deb: $(if $(BUILT),,build) ## Build the Debian package bin/causeway.deb
	deb/build bin/causeway '$(VERSION)' bin/causeway.deb

# BUILT=1 uses bin/causeway as it is.
plugin: $(if $(BUILT),,build) ## Build the managed plugin REGISTRY:TAG in the local engine
	$(DOCKER) build -q -t causeway-rootfs .
	rm -rf plugin && mkdir -p plugin/rootfs && cp plugin-config.json plugin/config.json
	id=$$($(DOCKER) create causeway-rootfs) && $(DOCKER) export $$id | tar -x -C plugin/rootfs && $(DOCKER) rm $$id >/dev/null
	@echo "==> the plugin's root file system has $$(du -sh plugin/rootfs | cut -f1)"
	$(DOCKER) plugin create $(REGISTRY):$(TAG) plugin

plugin-push: plugin ## Push it: make plugin-push REGISTRY=host:port/name
	$(DOCKER) plugin push $(REGISTRY):$(TAG)

$(GOTESTSUM):
	@echo "==> building gotestsum"
	GOBIN=$(CURDIR)/$(TOOLS) $(GO) install gotest.tools/gotestsum@v1.13.0 && mv $(TOOLS)/gotestsum $@

$(LINTER):
	@echo "==> building golangci-lint (some minutes, once)"
	GOBIN=$(CURDIR)/$(TOOLS) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.12.0 && mv $(TOOLS)/golangci-lint $@

generate: ## Build the BPF programs, which are committed
	@command -v clang >/dev/null && test -e /usr/include/bpf/bpf_helpers.h || { echo "install clang, llvm and libbpf-dev"; exit 1; }
	$(GO) generate ./internal/portfilter ./internal/talk ./internal/fastpath

# A cache of its own: a common one has findings of other clones, and of files that are gone.
lint: $(LINTER) ## Run the linters of .golangci.yml
	GOLANGCI_LINT_CACHE=$(CURDIR)/bin/lint-cache $(LINTER) run ./...

# What runs on mixed engines runs there alone.
MIXED := Test(Plugin|Mirror)$$

test: SKIP = $(MIXED)
test: deps build test-unit fuzz-short test-e2e test-smoke ## All tests, the end-to-end ones on one engine, a part of them on mixed ones

# -p=3: some packages wait more than they work.
test-unit: deps build $(GOTESTSUM) ## Tests of the packages, with the race detector
	bin/causeway-lab tools $(TESTSUM) -race -p=3 -parallel=6 $$($(GO) list ./... | grep -v /test$$)

# ENGINE=28.5,20.10 gives h1, h2, … one each. MANAGED=1 runs causeway as a managed plugin in all tests.
# LABS=1 runs one lab after the other, on a slow machine.
test-e2e: deps build $(GOTESTSUM) ## End-to-end tests on real engines (RUN=regexp ENGINE=20.10|26.1|28.5 MANAGED=1)
	CAUSEWAY_ENGINE=$(ENGINE) CAUSEWAY_MANAGED=$(MANAGED) $(TESTSUM) -count=1 -parallel=$(LABS) -timeout=40m -run '$(value RUN)' -skip '$(SKIP)' ./test

test-smoke: ## A part of the end-to-end tests on different engines at once
	$(MAKE) test-e2e ENGINE=28.5,20.10,26.1 RUN='$(MIXED)'

# Without chromium these tests are skipped elsewhere. SHOTS=FOLDER keeps their pictures, as in docs/ui.
SHOTS ?=
test-ui: deps build $(GOTESTSUM) ## The page of causeway ui in a real browser, on two hosts and on a hundred made up
	@command -v chromium >/dev/null || { apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends chromium; }
	CAUSEWAY_ENGINE=$(ENGINE) CAUSEWAY_SCREENSHOTS=$(if $(SHOTS),$(abspath $(SHOTS))) $(TESTSUM) -count=1 -run 'InABrowser$$|TestUI$$' ./ui ./test

test-matrix: deps build $(GOTESTSUM) ## The end-to-end tests on each engine, on different ones at once, and as a managed plugin
	for engine in 20.10 26.1 28.5 28.5,20.10,26.1; do $(MAKE) test-e2e ENGINE=$$engine || exit 1; done
	$(MAKE) test-e2e MANAGED=1

BENCH := bin/causeway-bench

$(BENCH): FORCE
	CGO_ENABLED=0 $(GO) build -trimpath -o $@ ./test/bench

FORCE:

# A quiet machine takes a quarter of an hour. ROUNDS=1 SHORT=1 tries it; ROWS=host,overlay,vxlan takes some.
ROUNDS ?= 3
ROWS   ?=
SHORT  ?=
# TRIAL='a busy machine' marks the page.
TRIAL  ?=
bench: deps build $(BENCH) ## Measure beside Docker's own networks, into docs/benchmarks.md (ROUNDS= ROWS= SHORT=1 TRIAL=)
	$(BENCH) run --rounds=$(ROUNDS) $(if $(ROWS),--rows='$(ROWS)') $(if $(SHORT),--short) --trial='$(TRIAL)'

# SIZES are hosts; each is an agent in one process, of some 11 MiB: 1000 take 12 GiB and half an hour.
SIZES ?= 10,100,300,1000
SCALE := docs/benchmarks/scale.json
bench-scale: deps build $(BENCH) ## How agents, store and changes grow with the cluster, into the same page (SIZES= TRIAL=)
	mkdir -p $(dir $(SCALE)) && rm -f $(SCALE)
	CAUSEWAY_BENCH_COMMAND='sudo make bench-scale SIZES=$(SIZES)' CAUSEWAY_BENCH_TRIAL='$(TRIAL)' \
	$(GO) test -count=1 -v -timeout=2h ./test/bench/scale -args -hosts=$(SIZES) -period=20s -results=$(CURDIR)/$(SCALE); status=$$?; \
	for bench in '10000 -benchtime=5x -count=3' 'Thousand -benchtime=1x'; do $(GO) test -run '^$$' -bench $$bench ./vxlan; done \
	| tee /dev/stderr | $(BENCH) kernel || status=1; \
	$(BENCH) report && exit $$status

bench-report: $(BENCH) ## Write docs/benchmarks.md again from docs/benchmarks/*.json
	$(BENCH) report

bench-go: deps ## Go's own benchmarks, of single functions
	$(GO) test -run '^$$' -bench . -benchmem ./...

# Starts and stops of containers; a seed is printed, and can be given again.
OPERATIONS ?= 100000
SEED ?= 0

hammer: ## Try to have an address given twice: writers, killed agents, dying engines (OPERATIONS=100000 SEED=)
	$(GO) test -count=1 -v -timeout=3h ./test/hammer -args -operations=$(OPERATIONS) -seed=$(SEED)

# What comes in from outside: FUZZ_PURE links no etcd, and is built and fuzzed within seconds.
FUZZ_PURE := internal/openflow/FuzzUpdates internal/jsonrpc/FuzzCall internal/vswitch/FuzzFlows internal/vswitch/FuzzRows \
	internal/rtmsg/FuzzMessage internal/rtmsg/FuzzJournal internal/addrprobe/FuzzClaims names/FuzzAnswer \
	trust/FuzzParseToken trust/FuzzMaterial join/FuzzJoin
FUZZ := $(FUZZ_PURE) driver/FuzzDecodeOptions driver/FuzzCalls ipam/FuzzRequestPool ipam/FuzzCalls ipam/FuzzRecords \
	reconcile/view/FuzzRecords backup/FuzzCopy kvstore/FuzzRestore
FUZZTIME ?= 10m

fuzz: ## Fuzz what comes in from outside, each target for FUZZTIME=10m
	set -e; for target in $(FUZZ); do echo "==> $$target"; \
		$(GO) test -run '^$$' -fuzz "^$${target##*/}$$" -fuzztime $(FUZZTIME) ./$${target%/*}; done

fuzz-short:
	$(MAKE) fuzz FUZZ='$(FUZZ_PURE)' FUZZTIME=2s

# FAULTS is a part of some faults' names, or several with commas; each takes one to three minutes.
FAULTS ?= all

test-faults: deps build ## One fault after the other on three hosts under load, as a table (FAULTS=killed,cut SEED=)
	CAUSEWAY_FAULTS='$(FAULTS)' SEED=$(filter-out 0,$(SEED)) $(GO) test -count=1 -v -parallel=1 -timeout=3h -run 'Test(Faults|BootStorm|KeyRotation)$$' ./test

test-security: deps build ## Try attacks on a network of each mode and on Docker's overlay, into docs/security.md
	CAUSEWAY_SECURITY=../docs/security.md CAUSEWAY_ENGINE=$(ENGINE) $(GO) test -count=1 -v -timeout=1h -run 'TestSecurity$$' ./test

LENGTH ?= 2h

soak: deps build ## Random faults for LENGTH=2h on three hosts under load; what the agents use stays flat (SEED=)
	mkdir -p docs/faults
	CAUSEWAY_SOAK='$(LENGTH)' SEED=$(filter-out 0,$(SEED)) $(GO) test -count=1 -v -timeout=5h -run 'TestSoak$$' ./test

CHURN ?= 10m

test-churn: deps build ## Kill the store's members in turn while containers start and stop, on four hosts (CHURN=10m)
	CAUSEWAY_CHURN='$(CHURN)' CAUSEWAY_ENGINE=$(ENGINE) CAUSEWAY_MANAGED=$(MANAGED) $(GO) test -count=1 -v -parallel=1 -timeout=3h -run 'TestQuorum$$' ./test

demo: deps build ## Two Docker hosts, one network
	./demo.sh

lab-down: ## Take the demo's lab down
	bin/causeway-lab down

clean: ## Remove what was built
	rm -rf bin plugin
