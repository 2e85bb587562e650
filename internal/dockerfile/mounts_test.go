package dockerfile

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCacheMounts(t *testing.T) {
	f, err := Parse([]byte(`FROM base AS deps
ARG TARGETARCH
RUN --mount=type=cache,target=/root/.npm/ --mount=type=secret,id=token npm ci
RUN --mount=type=cache,id=go,target=/root/go,sharing=locked go build
RUN --mount=type=cache,target=/var/cache/apt,uid=33,mode=0700 apt-get update
FROM base
RUN --mount=type=cache,target=/root/.npm npm test
RUN --mount=type=cache,id=pip-$TARGETARCH,target=/root/.cache pip install
RUN --mount=type=cache,from=deps,source=/x,target=/y true
RUN --mount=type=bind,target=/z true
`))
	if err != nil {
		t.Fatal(err)
	}
	mounts, leftOut := f.CacheMounts()
	want := []CacheMount{{ID: "/root/.npm"}, {ID: "/var/cache/apt", Owned: true, UID: 33, Mode: 0o700}, {ID: "go"}}
	if diff := cmp.Diff(want, mounts) + cmp.Diff([]string{"/y", "pip-$TARGETARCH"}, leftOut); diff != "" {
		t.Error(diff)
	}
	if mounts, leftOut := (*File)(nil).CacheMounts(); mounts != nil || leftOut != nil {
		t.Errorf("%v, %v", mounts, leftOut)
	}
}
