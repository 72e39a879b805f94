# Everything that proves and builds Pantau Desa. `make test` is what counts.

GO        ?= go
BIN       := bin
TOOLS     := $(CURDIR)/.tools
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
STAMP     := -X github.com/pantau-desa/pantau/probe.buildVersion=$(VERSION) -X github.com/pantau-desa/pantau/probe.buildTime=$(shell date -u +%Y-%m-%dT%H:%M:%SZ)
LDFLAGS   := -s -w $(STAMP)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
PROMTOOL    := github.com/prometheus/prometheus/cmd/promtool@$(shell $(GO) list -m -f '{{.Version}}' github.com/prometheus/prometheus)
PINT        := github.com/cloudflare/pint@v0.87.0
# A real server that the InfluxDB sink is tested against: it has v2 writes, InfluxQL and Flux.
INFLUXD     := github.com/influxdata/influxdb/cmd/influxd@v1.8.3

# The boxes in the villages: GOARCH, and what else the target needs.
PROBE_TARGETS := amd64 arm64 arm/6 mipsle/softfloat mips/softfloat riscv64
PROBE_MAX_BYTES := 15728640

.DEFAULT_GOAL := build
.PHONY: build install test test-short unit lint tidy generate drift cross bench bench-truth soak soak-day fuzz packages-needed clean

build: ## both binaries into bin/
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/pantau ./cmd/pantau
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/pantau-probe ./cmd/pantau-probe

# Where `make install` puts things; DESTDIR goes before them for packages.
PREFIX     ?= /usr/local
SYSCONFDIR ?= /etc
DESTDIR    ?=
UNITDIR    ?= $(PREFIX)/lib/systemd/system
UNITS      := pantau pantau-target pantau-probe

install: ## what `make build` built, with units and settings; settings that exist are left alone
	@for b in pantau pantau-probe; do test -x $(BIN)/$$b || { echo "$(BIN)/$$b is not built: run 'make build' first, it needs no root"; exit 1; }; done
	@set -e; install -d "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(UNITDIR)" "$(DESTDIR)$(SYSCONFDIR)/pantau" "$(DESTDIR)$(PREFIX)/share/doc/pantau"; \
	for b in pantau pantau-probe; do install -m 755 $(BIN)/$$b "$(DESTDIR)$(PREFIX)/bin/$$b"; done; \
	for u in $(UNITS); do \
	  sed -e 's#^ExecStart=/usr/local/bin/#ExecStart=$(PREFIX)/bin/#' -e 's# /etc/pantau/# $(SYSCONFDIR)/pantau/#' configs/systemd/$$u.service > "$(DESTDIR)$(UNITDIR)/$$u.service"; \
	  chmod 644 "$(DESTDIR)$(UNITDIR)/$$u.service"; \
	  install -m 644 configs/examples/$$u.yaml "$(DESTDIR)$(PREFIX)/share/doc/pantau/$$u.yaml"; \
	  c="$(DESTDIR)$(SYSCONFDIR)/pantau/$$u.yaml"; \
	  if [ -e "$$c" ]; then echo "kept: $$c"; else install -m 644 configs/examples/$$u.yaml "$$c"; fi; \
	done
	@printf '%s\n' '' 'Installed. What to do next, as root:' '  systemctl daemon-reload' \
	  'Collector:' \
	  '  put the inventory into $(SYSCONFDIR)/pantau/inventory (configs/klaten is an example)' \
	  '  pantau check --config $(SYSCONFDIR)/pantau/pantau.yaml && systemctl enable --now pantau' \
	  'Measurement server:' \
	  '  systemctl enable --now pantau-target' \
	  'Probe, with the code from `pantau probe add --site SITE` on the collector:' \
	  '  pantau-probe enroll --collector https://ADDRESS:7443 --code CODE' \
	  '  systemctl enable --now pantau-probe && pantau-probe check'

# Rooms whose tests measure rates and times: not beside others.
TIMED := /probe$$|/probe/(instrument|netlab|ledger)|/cmd/pantau

test: packages-needed lint drift cross $(TOOLS)/promtool $(TOOLS)/pint $(TOOLS)/influxd ## all that proves the project, but the long demo, real-time waits and soaks
	PATH="$(TOOLS):$$PATH" $(GO) test -race -timeout 15m $$($(GO) list ./... | grep -vE '$(TIMED)')
	@echo "what measures in real time, one after the other"
	PATH="$(TOOLS):$$PATH" $(GO) test -race -p 1 -timeout 15m $$($(GO) list ./... | grep -E '$(TIMED)')
	@echo "every benchmark, once"; out=$$(mktemp); $(GO) test -run '^$$' -bench . -benchtime 1x -timeout 10m ./... >$$out 2>&1 \
	  || { cat $$out; rm -f $$out; exit 1; }; grep -c ^Benchmark $$out; rm -f $$out
	@echo "make test: passed"

test-short: ## what answers within a minute or two: no race detector, no long tests
	$(GO) test -short ./...

unit: ; $(GO) test ./...

lint: ## formatting, vet, staticcheck
	@unformatted="$$(gofmt -l $$(git ls-files '*.go' | grep -v '\.pb\.go$$'))"; \
	  if [ -n "$$unformatted" ]; then echo "not formatted by gofmt:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

$(TOOLS)/protoc-gen-go: go.mod
	GOBIN=$(TOOLS) $(GO) install google.golang.org/protobuf/cmd/protoc-gen-go

$(TOOLS)/promtool: go.mod
	GOBIN=$(TOOLS) $(GO) install $(PROMTOOL)

# Built as the main module of its own sources: `go install` would ask for the list
# of its versions, which not every module proxy has.
$(TOOLS)/pint: Makefile
	@mkdir -p $(TOOLS)
	dir=$$($(GO) mod download -json $(PINT) | sed -n 's/^\t"Dir": "\(.*\)",\{0,1\}$$/\1/p'); test -n "$$dir"; \
	  cd "$$dir" && GOFLAGS=-mod=readonly $(GO) build -trimpath -o $@ ./cmd/pint && touch $@

$(TOOLS)/influxd:
	GOBIN=$(TOOLS) $(GO) install $(INFLUXD)

PROTOS := $(shell find probe collector -name '*.proto')

generate: packages-needed $(TOOLS)/protoc-gen-go ## generated code, from its sources
	PATH="$(TOOLS):$$PATH" protoc --go_out=. --go_opt=paths=source_relative $(PROTOS)
	@# The compiler's own version is of no interest and differs between machines.
	sed -i -E '/^\/\/ (- protoc|	protoc) /d' $(PROTOS:.proto=.pb.go)
	$(GO) generate ./dashboards

drift: generate tidy ## generated files and go.mod are what their sources say
	@git diff --exit-code -- $(PROTOS:.proto=.pb.go) dashboards/json go.mod go.sum \
	  || { echo "generated files differ from their sources: run 'make generate tidy' and commit the result"; exit 1; }

tidy: ## -e: a test-only dependency of a dependency is in no registry
	@$(GO) mod tidy -e 2>/dev/null

cross: ## the probe for every box in the villages, within its size budget
	@set -e; mkdir -p $(BIN); for t in $(PROBE_TARGETS); do \
	  arch=$${t%%/*}; opt=$${t#*/}; out=$(BIN)/pantau-probe-linux-$$(echo $$t | tr / -); env=; \
	  case $$t in arm/*) env=GOARM=$$opt;; mips*/*) env=GOMIPS=$$opt;; esac; \
	  env CGO_ENABLED=0 GOOS=linux GOARCH=$$arch $$env $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $$out ./cmd/pantau-probe; \
	  size=$$(stat -c %s $$out); printf '%-22s %5.1f MB\n' $$t $$(echo $$size | awk '{print $$1/1048576}'); \
	  if [ $$size -gt $(PROBE_MAX_BYTES) ]; then echo "pantau-probe for $$t is above its budget of $(PROBE_MAX_BYTES) bytes"; exit 1; fi; \
	done

bench: ## every benchmark, long enough to compare
	$(GO) test -run '^$$' -bench . -benchmem ./...

OUT ?= truth
bench-truth: packages-needed ## speed instruments against lines of known rate; OUT=DIR; goes on where it was broken off; needs root
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/pantau-lab ./cmd/pantau-lab
	$(BIN)/pantau-lab truth --out $(OUT)

OUTAGE ?= 10m
SPEED_TESTS ?= 2000
soak: $(TOOLS)/influxd ## what takes its real time: the InfluxDB server away for OUTAGE, SPEED_TESTS speed tests in a row
	PANTAU_SOAK_SPEED_TESTS=$(SPEED_TESTS) $(GO) test -v -count 1 -timeout 2h -run TestSoak ./probe/instrument/speed/engine
	PATH="$(TOOLS):$$PATH" PANTAU_SOAK_OUTAGE=$(OUTAGE) $(GO) test -v -count 1 -timeout 2h -run TestOutageLosesNothing ./collector/sink/influx

DAY ?= 1h
soak-day: ## a probe's day in DAY, killed again and again: its memory, processor and bytes at the router; needs root
	PANTAU_SOAK_DAY=$(DAY) $(GO) test -v -count 1 -timeout 26h -run '^TestDay$$' ./cmd/pantau/internal/soak

FUZZTIME ?= 20s
fuzz: ## every fuzz test for a while
	@set -e; for p in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p | grep ^Fuzz || true); do \
	    echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p; done; done

# What the tests need beyond Go, installed where apt and root allow, and said.
NEEDED := protoc:protobuf-compiler gcc:gcc systemd-analyze:systemd iperf3:iperf3 /usr/sbin/snmpd:snmpd dbus-daemon:dbus ping:iputils-ping
packages-needed:
	@set -e; missing=; for n in $(NEEDED); do command -v $${n%%:*} >/dev/null || missing="$$missing $${n#*:}"; done; \
	if [ -n "$$missing" ]; then \
	  echo "make: installing with apt:$$missing"; \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$missing >/dev/null; } \
	    || { echo "make: could not install$$missing: install it by hand, then run make again"; exit 1; }; \
	fi

clean: ; rm -rf $(BIN) $(TOOLS)
