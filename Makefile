# Two commands matter: `make up` and `make test`.
GO      ?= go
DIR     ?= .slipway
CLUSTER ?= .cluster
VERSION ?= $(shell git describe --always --dirty 2>/dev/null || echo dev)
LDFLAGS  = -s -w -X main.version=$(VERSION)

# As what is shipped is built; tests and the programs that they start share what was compiled.
export CGO_ENABLED = 0

.PHONY: up down cluster cluster-down clean build install test race lint bench sim mutants generate fmt deb

## up: install what is missing, build, start a rack in the background, deploy examples/hello
up: install build
	@scripts/up.sh $(DIR)

## down: stop the rack; leaves nothing but its data
down:
	@scripts/down.sh $(DIR)

## cluster: three servers and three nodes on this machine, each in a host of its own
cluster: install build
	@GO="$(GO)" scripts/cluster.sh $(CLUSTER)

## cluster-down: end them; leaves nothing
cluster-down:
	@GO="$(GO)" scripts/cluster.sh down $(CLUSTER)
	rm -rf $(CLUSTER)

## clean: stop the rack and remove its data and the binaries
clean: down
	rm -rf $(DIR) bin bench.json

## build: the binaries, in bin/
build:
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/slipway ./cmd/slipwayd ./cmd/sliplog

## deb: the Debian package, in bin/ (see docs/operate.md)
deb: OUT = bin
deb:
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o '$(OUT)/' ./cmd/slipway ./cmd/slipwayd ./cmd/sliplog
	@scripts/deb.sh '$(VERSION)' '$(OUT)' '$(OUT)'

## install: what a node needs, on Debian and Ubuntu; elsewhere the list of what is missing
install:
	@scripts/install.sh containerd runc nft ip busybox tini-static curl jq

## test: everything that CI runs
test: install lint race
	$(GO) test -timeout 40m ./...
	@$(MAKE) --no-print-directory mutants

## race: what runs many goroutines, under the race detector
race:
	@scripts/install.sh gcc
	CGO_ENABLED=1 $(GO) test -race -timeout 20m $$($(GO) list ./agent/... ./api/... ./e2e/bubble ./raftstore/... ./runtime ./runtime/fake ./runtime/logfmt ./server/...)
	CGO_ENABLED=1 $(GO) test -race -short -timeout 10m ./e2e/chaos -args -faults 150

## lint: formatting and vet, of the CLI for macOS too; the rules of the house are in e2e/tidy
lint:
	@files=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$files" || { echo "not gofmt-ed: $$files"; exit 1; }
	$(GO) vet ./...
	GOOS=darwin $(GO) vet ./cmd/slipway ./api/... ./manifest

## sim: the control plane in virtual time, under faults
sim:
	$(GO) test -count=1 -timeout 60m -run 'TestFaults|TestSameSeed' ./e2e/sim -args -hours 1000

## mutants: realistic bugs, each of which the simulator or a property has to find
mutants:
	SLIPWAY_MUTANTS=1 $(GO) test -count=1 -timeout 30m -v -run TestMutants ./e2e/mutants

## bench: figures beside a peer or a floor of the same run, also written to bench.json
bench: build
	@scripts/install.sh containerd runc nft ip busybox tini-static haproxy wrk jq
	@GO="$(GO)" scripts/bench.sh $(CURDIR)/bench.json

## generate: the wire, from the .proto files
generate:
	@scripts/install.sh protoc
	GOBIN=$(CURDIR)/bin/tools $(GO) install google.golang.org/protobuf/cmd/protoc-gen-go
	GOBIN=$(CURDIR)/bin/tools $(GO) install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.1
	PATH=$(CURDIR)/bin/tools:$$PATH $(GO) generate ./api/pb

## fmt: format the code
fmt:
	gofmt -w $$(git ls-files '*.go')
