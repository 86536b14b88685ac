# tcap: see CONTRIBUTING.md. "make" builds ./tcap, "make help" lists the rest.

GO       ?= go
FUZZTIME ?= 1m

# Stamped by hand: it works from an archive without git, too, and does not
# depend on -buildvcs.
VERSION := $(or $(shell git describe --tags --always --dirty 2>/dev/null),devel)
COMMIT  := $(or $(shell git rev-parse --short=12 HEAD 2>/dev/null),unknown)
LDFLAGS := -X main.version=$(VERSION) -X main.commit=$(COMMIT)

# What the compiler optimizes tcap by. It has not the name that "go build" looks
# for by itself, since every package that tcap imports is compiled anew for it,
# and tests and checks compile them already.
PROFILE := cmd/tcap/tcap.pgo

# Kernel tests count what the whole machine does, so packages run one at a
# time, and never from the cache: the kernel is no file that it could watch.
# The C programs are compiled once and kept for test-vm.
PROGRAMS := $(CURDIR)/.build/programs
GOTEST    = TCAP_TEST_PROGRAMS=$(PROGRAMS) $(KERNEL) $(GO) test -count=1 -p 1 -timeout 20m
ifeq ($(shell id -u),0)
KERNEL = TCAP_KERNEL_TESTS=1
endif

.PHONY: all
all: ## build ./tcap, one static binary (the default)
	CGO_ENABLED=0 $(GO) build -trimpath -pgo=$(PROFILE) -ldflags '$(LDFLAGS)' -o tcap ./cmd/tcap

.PHONY: test
test: ## install what the tests need, and run them; as root the kernel tests too
	@scripts/deps.sh test
	@rm -rf $(PROGRAMS) && mkdir -p $(PROGRAMS)
	$(GOTEST) ./...

.PHONY: race
race: ## the same under the race detector
	@scripts/deps.sh test
	@rm -rf $(PROGRAMS) && mkdir -p $(PROGRAMS)
	$(GOTEST) -race ./...

.PHONY: test-vm
test-vm: ## the kernel tests in Debian's 6.1 kernel under QEMU (VM_RUN=regex)
	@scripts/test-vm.sh

.PHONY: check
check: ## format, vet, staticcheck, layers, other platforms, generated files
	@scripts/check.sh

.PHONY: generate
generate: ## rebuild the BPF objects and their Go from bpf/*.c
	@scripts/deps.sh generate
	$(GO) generate ./bpf/...

.PHONY: pgo
pgo: ## renew the profile that the compiler optimizes tcap by
	@GO=$(GO) scripts/pgo.sh

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (1m)
	@FUZZTIME=$(FUZZTIME) scripts/fuzz.sh

.PHONY: bench
bench: ## measure, as ratios against the floor, bpftrace and heaptrack
	@scripts/deps.sh bench
	@scripts/bench.sh

.PHONY: demo
demo: all ## record a leaky server with its client, and print the answers
	@scripts/demo.sh

.PHONY: help
help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
