# The everyday commands. `make` or `make help` lists the targets: the text after each `##`.
# They need Go (go.mod says which), a C compiler for the race detector, and Node 20 with npm for
# the web tests.

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BIN := bin/connhub
BUILD := go build -trimpath -ldflags '-s -w -X github.com/connhub/connhub/internal/build.version=$(VERSION)'
TOOL := go tool -modfile=tools/go.mod

# For each package. The limit only ends tests that hang: the slowest package needs some minutes on 2
# quiet cores with the race detector, and several times as long beside further work.
TEST_TIMEOUT ?= 30m
# Tests that run without the race detector as well, as parts of their names, and their packages:
# tests of memory, which is different with the detector, and tests that are smaller with it.
NO_RACE := Takes Allocates TakeIsHeld BudgetsCloseTheLargest MembersThatStay
NO_RACE += NoScheduleBreaks EverySmallSchedule TableIsWhatItsHubHas
NO_RACE += FloodOfAcks ManyLinksEnd KernelKeepsLittleOfWhat
NO_RACE += GoroutinePerLink/(many_closes|flood_of_acks)
NO_RACE_IN := ./hub ./hub/edge ./control/mesh/core ./control/mesh/move ./test/process
FUZZTIME ?= 1m
# Of make fuzz: inputs that both decoders of sends get.
INPUTS ?= 10000000
# Of make chaos: how many schedules run, and the first of them.
SEEDS ?= 20
SEED ?= 1
# Of make deploys: how often each hub restarts.
RESTARTS ?= 20
# BENCH selects the benchmarks of make bench and bench-micro by a regular expression. RUNS is how
# often make bench runs each; the middle run counts.
BENCH ?= .
RUNS ?= 3
CHROMIUM ?= /usr/bin/chromium
export CHROMIUM

# need fails with the name of a missing program and its purpose.
need = command -v $(1) >/dev/null 2>&1 || { echo 'missing: $(1) ($(2))' >&2; exit 1; }

##@ Run

.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' Makefile

.PHONY: run
run: need-go ## Start a hub for trying out; ARGS='--help' shows its flags
	go run ./cmd/connhub dev $(ARGS)

.PHONY: build
build: need-go ## Build bin/connhub, static
	CGO_ENABLED=0 $(BUILD) -o $(BIN) ./cmd/connhub

.PHONY: image
image: ## Build the container image connhub:VERSION
	@$(call need,docker,the engine that builds the image)
	docker build --build-arg VERSION=$(VERSION) --tag connhub:$(VERSION) .

##@ Check

# The Go tests wait for processes half of the time, and the browser's tests for the browser.
# Together they take as long as their CPU time.
.PHONY: test
test: need-go cc ## Run every test, with the race detector
	@$(MAKE) -j2 test-go test-beside

# Prints its output at its end, so that it does not mix with the lines of the Go tests.
.PHONY: test-beside
test-beside:
	@said=$$(mktemp); $(MAKE) test-k8s test-web >"$$said" 2>&1; code=$$?; cat "$$said"; rm "$$said"; exit $$code

# The slowest packages come first, so that none of them ends alone.
SLOWEST := ./test/process ./hub/edge ./control/mesh/core ./control/mesh
# The packages whose hubs, etcds and clients are dozens of processes. Each runs alone, behind all
# others: more processes at the same time break every limit of time.
CROWDED := ./test/cluster ./test/links ./test/strangers ./test/chaos

.PHONY: test-go
test-go: need-go cc ## Run the Go tests
	go test -race -p 4 -timeout $(TEST_TIMEOUT) $(SLOWEST) $$(go list ./... | grep -vxF "$$(go list $(CROWDED))")
	go test -race -p 1 -timeout $(TEST_TIMEOUT) $(CROWDED)
	go test -timeout $(TEST_TIMEOUT) -run '$(subst $() $(),|,$(NO_RACE))' $(NO_RACE_IN)

.PHONY: test-k8s
test-k8s: need-go ## Check deploy/k8s against the binary, and run its pods as processes
	cd deploy/k8s/test && go test -timeout $(TEST_TIMEOUT) .

.PHONY: test-web
test-web: build test/web/node_modules/.package-lock.json chromium proxies ## Run the tests in a browser and with a Node backend
	@$(call need,node,version 20 or later)
	cd test/web && node --test --test-reporter=spec --test-timeout=1200000 --test-force-exit

.PHONY: test-web-long
test-web-long: ## Run the web tests in their long form, about 3 minutes
	CONNHUB_TEST_LONG=1 $(MAKE) test-web

.PHONY: test-cluster
test-cluster: need-go ## Run the tests of a cluster in their long form, about 7 minutes
	CONNHUB_TEST_LONG=1 go test -count=1 -timeout 30m -v ./test/cluster

.PHONY: test-links
test-links: need-go ## Run the tests of many links and strangers in their long form, about 5 minutes
	CONNHUB_TEST_LONG=1 go test -count=1 -p 1 -timeout 30m -v ./test/links ./test/strangers

.PHONY: deploys
deploys: need-go ## Restart three hubs under load RESTARTS (20) times, in about a minute
	CONNHUB_TEST_LONG=1 go test -count=1 -timeout 30m -v -run TestDrains ./test/cluster -restarts $(RESTARTS)

# A failure prints its seed, and the line that runs it again.
.PHONY: chaos
chaos: need-go ## Run SEEDS (20) schedules of faults from seed SEED (1), some minutes each
	CONNHUB_TEST_LONG=1 go test -count=1 -timeout 0 -v -run NoSchedule ./test/chaos -seeds $(SEEDS) -seed $(SEED)

# Runs in the folder of the package: there go test shows the output of tests.
.PHONY: bench
bench: need-go ## Print figures beside the raw limit, about 30 minutes; BENCH=fanout prints one
	cd test/engine && go test -tags bench -count=1 -timeout 60m -run '(?i)$(BENCH)' -runs $(RUNS)

.PHONY: bench-micro
bench-micro: need-go ## Run the Go benchmarks whose names match BENCH
	go test -run '^$$' -bench '$(BENCH)' -benchmem ./...

.PHONY: fuzz
fuzz: need-go ## Fuzz each target for FUZZTIME (1m), and give both decoders of sends INPUTS (10000000)
	@grep -roE --include='*_test.go' --exclude-dir=node_modules '^func Fuzz[A-Za-z0-9_]+' . | sort | \
	while IFS=: read -r file func; do \
		echo "$${file%/*} $${func#func }"; \
		go test -run '^$$' -fuzz "^$${func#func }\$$" -fuzztime $(FUZZTIME) "$${file%/*}" || exit 1; \
	done
	go test -count=1 -v -run '^TestBoth.*Agree' -timeout 60m ./control/form -inputs $(INPUTS)

.PHONY: lint
lint: lint-proto lint-generated lint-mod lint-imports lint-no-race lint-figures lint-go ## Run every check that is no test

.PHONY: lint-proto
lint-proto: need-go ## Check the protos: rules and format
	$(TOOL) buf lint
	$(TOOL) buf format api/proto --diff --exit-code

# Generates beside the tree, so that the check does not change the tree.
.PHONY: lint-generated
lint-generated: need-go ## Check that gen/ agrees with the protos
	@set -e; fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	$(TOOL) buf generate --output "$$fresh"; \
	diff -r "$$fresh/gen" gen || { echo 'gen/ is stale: make generate' >&2; exit 1; }

.PHONY: lint-mod
lint-mod: need-go ## Check that go.mod is tidy
	go mod tidy -diff
	cd deploy/k8s/test && go mod tidy -diff

.PHONY: lint-imports
lint-imports: need-go ## Check that the linter reports each forbidden import
	test/lint/imports

# A test that is renamed or moved would no longer run without the detector, and nothing would fail.
.PHONY: lint-no-race
lint-no-race: ## Check that NO_RACE and NO_RACE_IN name tests and all their packages
	@for name in $(foreach n,$(NO_RACE),$(firstword $(subst /, ,$(n)))); do \
		grep -qE "^func Test[A-Za-z0-9_]*$$name" $(NO_RACE_IN:%=%/*_test.go) || \
			{ echo "NO_RACE: no test in $(NO_RACE_IN) has $$name in its name" >&2; exit 1; }; \
	done
	@for file in $$(grep -rlE --include='*_test.go' --exclude-dir=node_modules --exclude-dir=bed \
		'RaceEnabled|SetChecksUnderRace|^//go:build .*!race' .); do \
		case ' $(NO_RACE_IN) ' in *" $${file%/*} "*) ;; \
			*) echo "NO_RACE_IN: $$file has tests for it" >&2; exit 1;; esac; \
	done

.PHONY: lint-figures
lint-figures: need-go ## Check names, prose and line lengths against the aims and the list of debts
	go run ./test/lint/house -check

.PHONY: lint-go
lint-go: need-go ## Check the Go code: vet, format, rules
	go vet -tags bench ./...
	go vet -tags no_embedded_etcd ./cmd/... ./discovery/... ./internal/build # as the image is built
	$(TOOL) golangci-lint run ./...
	cd deploy/k8s/test && go vet . && go tool -modfile=../../../tools/go.mod golangci-lint run

.PHONY: figures
figures: need-go ## Print how readable the code is beside the aims; ARGS='-v hub' shows what counts against hub
	@go run ./test/lint/house $(ARGS)

##@ Change

.PHONY: generate
generate: need-go ## Generate gen/ from api/proto
	$(TOOL) buf generate

.PHONY: fmt
fmt: need-go ## Format Go and protos
	$(TOOL) golangci-lint fmt
	$(TOOL) buf format api/proto --write

.PHONY: figures-lower
figures-lower: need-go ## Write figures that have become better to test/lint/house/debts.txt
	go run ./test/lint/house -lower

.PHONY: clean
clean: ## Remove everything that was built and installed here
	rm -rf bin test/results test/web/node_modules

# The targets above depend on these.

.PHONY: need-go
need-go:
	@$(call need,go,see go.mod for the version)
	@go list -m >/dev/null # says so when it is too old

# npm only warns of a Node that is too old for a package.
test/web/node_modules/.package-lock.json: test/web/package.json test/web/package-lock.json test/web/.npmrc
	@$(call need,node,version 20 or later)
	@$(call need,npm,it installs the packages of the web tests)
	@node -e 'process.exit(+(process.versions.node.split(".")[0] < 20))' || { echo 'node is older than 20' >&2; exit 1; }
	cd test/web && npm ci
	@touch $@

# debian installs Debian packages. Without apt it fails with the name of the missing program.
debian = { \
		command -v apt-get >/dev/null 2>&1 || { echo 'missing: $(2)' >&2; exit 1; }; \
		sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
		$$sudo apt-get update && $$sudo apt-get install -y --no-install-recommends $(1) \
			|| { echo 'missing: $(2), and it can not be installed' >&2; exit 1; }; \
	}

# Installs a C compiler where there is none: the race detector is built with it.
.PHONY: cc
cc:
	@command -v cc >/dev/null 2>&1 || $(call debian,gcc libc6-dev,a C compiler for the race detector)

# Installs Debian's browser where there is none.
.PHONY: chromium
chromium:
	@[ -x "$(CHROMIUM)" ] || $(call debian,chromium,$(CHROMIUM); CHROMIUM can name one of yours)
	@[ -x "$(CHROMIUM)" ] || { echo 'missing: $(CHROMIUM); CHROMIUM can name one of yours' >&2; exit 1; }

# Installs Debian's nginx and haproxy where they are missing. Debian has them in /usr/sbin.
.PHONY: proxies
proxies:
	@PATH="$$PATH:/usr/sbin"; { command -v nginx && command -v haproxy; } >/dev/null 2>&1 || \
		$(call debian,nginx haproxy,nginx or haproxy)
