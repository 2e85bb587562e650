# The two commands of the README are demo and test; each sets up what it needs.

ENGINES ?= codebuild debian classic containerd buildkitd

.PHONY: help demo test soak unit engines build release image bench lint clean

help: ## list these targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

demo: ## the whole job on examples/, against a registry on this machine
	script/demo

test: engines ## every test, on real engines (root, Debian or Ubuntu)
	ECSBUILD_TEST_ENGINES="$(ENGINES)" go test -count=1 -parallel 3 -timeout 20m ./...

soak: engines ## what takes long: faults without an end, a hundred kills, load, searches for secrets, fuzzing
	ECSBUILD_SOAK=1 ECSBUILD_TEST_ENGINES="$(ENGINES)" go test -v -count=1 -parallel 2 -timeout 180m \
	  -run '^(TestFaultMatrix|TestKilled|TestLoad|TestSecrets|TestHostFailures)$$' ./cmd/ecsbuild
	script/fuzz 200000

unit: ## the tests that need no root, engine, browser or network
	go test ./...

engines: ## install the engines and tools that tests need
	script/engine install tests browser shells act conformance templates $(ENGINES)

VERSION ?= $(shell git describe --tags --always --dirty)
# Over 34 MB (linux/amd64) wants a word in the changelog. The tag leaves out gRPC's
# trace pages, which are most of a megabyte. -buildvcs=false leaves out the commit: see script/release.
GOBUILD = CGO_ENABLED=0 go build -trimpath -buildvcs=false -tags grpcnotrace -ldflags "-s -w -X main.version=$(VERSION)"

OUT ?= ecsbuild

build: ## the binary
	$(GOBUILD) -o $(OUT) ./cmd/ecsbuild

release: ## what a release holds, in dist/, made twice and compared: VERSION=0.2.0
	script/release build $(VERSION)
	script/release verify $(VERSION)

image: build ## the container image, built by ecsbuild itself and kept in the local engine
	rm -rf dist/image && mkdir -p dist/image/out
	cp ecsbuild /etc/ssl/certs/ca-certificates.crt dist/image/out/ && cp Dockerfile dist/image/
	printf 'tag: "$(VERSION)"\nimages:\n  - {container: ecsbuild, repository: ecsbuild, additional_contexts: {build: .}}\n' >dist/image/ecsbuild.yml
	env -u AWS_REGION -u AWS_DEFAULT_REGION ./ecsbuild run --dry-run -C dist/image

# ARGS="-engines codebuild -runs 1" for a quick look.
bench: engines ## compare with the shell and buildx bake: an hour and a half
	go run ./bench $(ARGS)

lint: ## gofmt, go vet, staticcheck
	test -z "$$(gofmt -l cmd internal bench)" || { gofmt -d cmd internal bench; exit 1; }
	go vet ./...
	go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...

clean: ## remove what was built
	rm -rf ecsbuild dist bench/out
