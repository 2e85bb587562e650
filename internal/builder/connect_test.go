package builder

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ecsbuild/ecsbuild/internal/endpoint"
	"github.com/ecsbuild/ecsbuild/internal/enginetest"
)

func TestConnect(t *testing.T) {
	for name, tt := range map[string]struct {
		fake     *enginetest.Engine
		buildkit bool
		store    StoreKind
		text     string
	}{
		"classic": {&enginetest.Engine{}, false, Classic, "Docker engine 28.5.2 (classic store)"},
		"containerd": {&enginetest.Engine{Containerd: true, Version: "29.1.0"}, false, Containerd,
			"Docker engine 29.1.0 (containerd store)"},
		"buildkitd": {&enginetest.Engine{}, true, BuildKitd, "buildkitd v0.34.2"},
	} {
		e := connect(t, tt.fake, tt.buildkit)
		if e.Store != tt.store || e.String() != tt.text {
			t.Errorf("%s: %s, %s", name, e.Store, e)
		}
		if p, err := e.Platform(t.Context()); p != "linux/amd64" || err != nil {
			t.Errorf("%s: %s, %v", name, p, err)
		}
		_, ok := e.FreeDisk()
		if ok == tt.buildkit {
			t.Errorf("%s: its disk is known: %v", name, ok)
		}
	}
	for _, ep := range []endpoint.Endpoint{{Docker: "unix:///nowhere/docker.sock"},
		{BuildKit: "unix:///nowhere/buildkitd.sock"},
		{Docker: "ssh://host"}} {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		_, err := Connect(ctx, ep)
		cancel()
		var e *endpoint.UnreachableError
		if !errors.As(err, &e) || e.Lost || !strings.Contains(err.Error(), ep.String()) {
			t.Errorf("%s: %v", ep, err)
		}
	}
}

func TestOlderThan(t *testing.T) {
	for version, want := range map[string]bool{"20.10.24": true, "23.0.0": false, "22.9": true, "v28.5.2": false,
		"dev": false, "1": false, "x.y": false} {
		if got := (&Engine{Version: version}).olderThan(23, 0); got != want {
			t.Errorf("%s: %v", version, got)
		}
	}
	if (&Engine{Version: "1.0", Store: BuildKitd}).olderThan(23, 0) {
		t.Error("buildkitd has Docker's versions")
	}
}

// TestLocalDigests: a buildkitd has no images of its own.
func TestLocalDigests(t *testing.T) {
	fake := &enginetest.Engine{}
	e := connect(t, fake, false)
	img := randomImage(t)
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	fake.Name("base:1", img)
	if got := e.LocalDigests(t.Context(), "base:1"); len(got) != 1 || got[0] != d.String() {
		t.Errorf("%v", got)
	}
	if got := e.LocalDigests(t.Context(), "base:2"); got != nil {
		t.Errorf("%v", got)
	}
	if got := connect(t, &enginetest.Engine{}, true).LocalDigests(t.Context(), "base:1"); got != nil {
		t.Errorf("%v", got)
	}
}
