# The two commands of the README are demo and test; each sets up what it needs.

ENGINES ?= codebuild debian classic containerd buildkitd

.PHONY: demo test bench build dist image engines lint clean

demo:
	script/demo

test: engines
	ECSBUILD_TEST_ENGINES="$(ENGINES)" go test -count=1 -timeout 20m ./...

engines:
	script/engine install tests browser shells act $(ENGINES)

VERSION ?= $(shell git describe --tags --always --dirty)
# Over 32 MB (linux/amd64) wants a word in the changelog. The tag leaves out gRPC's
# trace pages, which are most of a megabyte.
GOBUILD = CGO_ENABLED=0 go build -trimpath -tags grpcnotrace -ldflags "-s -w -X main.version=$(VERSION)"

OUT ?= ecsbuild

build:
	$(GOBUILD) -o $(OUT) ./cmd/ecsbuild

# What a release holds: a binary a platform, and their checksums.
dist:
	rm -rf dist && mkdir dist
	for p in linux/amd64 linux/arm64 darwin/amd64 darwin/arm64; do \
	  GOOS=$${p%/*} GOARCH=$${p#*/} $(GOBUILD) -o dist/ecsbuild_$${p%/*}_$${p#*/} ./cmd/ecsbuild || exit 1; \
	done
	cd dist && sha256sum ecsbuild_* > SHA256SUMS

# The image, built by ecsbuild itself and kept in the local engine.
image: build
	mkdir -p dist/image && cp ecsbuild /etc/ssl/certs/ca-certificates.crt Dockerfile dist/image/
	env -u CONTAINER_NAME IMAGE_REPO_NAME_1=ecsbuild CONTAINER_NAME_1=ecsbuild IMAGE_TAG=$(VERSION) ./ecsbuild run --dry-run -C dist/image

# All ways, cases and engines, medians of three: half an hour. ARGS="-engines classic -runs 1" for a look.
bench: engines
	go run ./bench $(ARGS)

lint:
	test -z "$$(gofmt -l cmd internal bench)" || { gofmt -d cmd internal bench; exit 1; }
	go vet ./...
	go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...

clean:
	rm -rf ecsbuild dist bench/out
