package baseimage

import (
	"context"
	"errors"
	"io"
	"math/rand"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"github.com/ecsbuild/ecsbuild/internal/hoststate"
	"github.com/ecsbuild/ecsbuild/internal/httptransport"
	"github.com/ecsbuild/ecsbuild/internal/localregistry"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// upstream is a registry with a base image, whose requests for manifests are counted.
func upstream(t *testing.T) (ref string, img v1.Image, manifests *atomic.Int32) {
	t.Helper()
	local := localregistry.New(t.TempDir())
	manifests = &atomic.Int32{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/manifests/") {
			manifests.Add(1)
		}
		local.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	img, err := random.Image(3000, 2, random.WithSource(rand.NewSource(1)))
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.ParseReference(strings.TrimPrefix(s.URL, "http://") + "/base:1")
	if err != nil {
		t.Fatal(err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	defer transport.CloseIdleConnections()
	if err := remote.Write(tag, img, remote.WithTransport(transport)); err != nil {
		t.Fatal(err)
	}
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return tag.String() + "@" + d.String(), img, manifests
}

func anonymous(context.Context, string) (plan.Account, bool) { return plan.Account{}, false }

func images(t *testing.T, login func(context.Context, string) (plan.Account, bool), state *hoststate.State) *Images {
	t.Helper()
	b := New(login, "test", state)
	t.Cleanup(b.Close)
	return b
}

// TestLayers: a layer is found by its digest and by its diffID, and its bytes are
// upstream's; the manifest is read once, by this run or an earlier one.
func TestLayers(t *testing.T) {
	ref, img, manifests := upstream(t)
	state := hoststate.Open(t.TempDir())
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	d, err1 := layers[0].Digest()
	diffID, err2 := layers[0].DiffID()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		b := images(t, anonymous, state)
		if _, _, ok := b.LayerByDigest(t.Context(), digest.Digest(d.String())); ok {
			t.Error("a layer of an image that nobody has seen")
		}
		b.Observe(ref, "linux/amd64")
		b.Observe("not a reference", "linux/amd64")
		b.Observe(ref, "a/b/c/d/e")
		size, open, ok := b.LayerByDigest(t.Context(), digest.Digest(d.String()))
		if !ok {
			t.Fatal("it is not found by its digest")
		}
		body, err := open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(body)
		_ = body.Close()
		if err != nil || int64(len(data)) != size || digest.FromBytes(data).String() != d.String() {
			t.Errorf("%d bytes of %d, %v", len(data), size, err)
		}
		if got, _, _, ok := b.LayerByDiffID(t.Context(), digest.Digest(diffID.String())); !ok || got.String() != d.String() {
			t.Errorf("by its diffID: %s", got)
		}
		if _, _, ok := b.LayerByDigest(t.Context(), digest.FromString("another")); ok {
			t.Error("another layer is found")
		}
	}
	if n := manifests.Load(); n != 1 {
		t.Errorf("%d manifests were read", n)
	}
}

// TestRedirect: a registry may not have us fetch a layer from where it cannot reach itself.
func TestRedirect(t *testing.T) {
	s := httptest.NewServer(http.RedirectHandler("http://169.254.169.254/latest/meta-data/", http.StatusTemporaryRedirect))
	t.Cleanup(s.Close)
	ref := strings.TrimPrefix(s.URL, "http://") + "/base:1"
	_, err := images(t, anonymous, hoststate.Open(t.TempDir())).Resolve(t.Context(), ref)
	var address *httptransport.AddressError
	if !errors.As(err, &address) || address.Host != "169.254.169.254" {
		t.Errorf("%v", err)
	}
}

// TestCanceledCallerIsForgotten: after one image's context has ended, the next image
// still finds the layers.
func TestCanceledCallerIsForgotten(t *testing.T) {
	ref, img, _ := upstream(t)
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	d, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	b := images(t, anonymous, nil)
	b.Observe(ref, "linux/amd64")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, ok := b.LayerByDigest(ctx, digest.Digest(d.String())); ok {
		t.Error("a canceled caller finds it")
	}
	if _, _, ok := b.LayerByDigest(t.Context(), digest.Digest(d.String())); !ok {
		t.Error("the next caller does not find it")
	}
}

// TestCopy puts the layers that are worth it, and stops at a failure.
func TestCopy(t *testing.T) {
	ref, _, _ := upstream(t)
	b := images(t, anonymous, nil)
	var n atomic.Int32
	put := func(_ context.Context, _ digest.Digest, _ int64, open func() (io.ReadCloser, error)) error {
		n.Add(1)
		body, err := open()
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, body)
		return errors.Join(err, body.Close())
	}
	if err := b.Copy(t.Context(), ref, "linux/amd64", 0, put); err != nil || n.Load() != 0 {
		t.Errorf("an image that nobody has seen: %v", err)
	}
	b.Observe(ref, "linux/amd64")
	if err := b.Copy(t.Context(), ref, "linux/amd64", 0, put); err != nil || n.Load() != 2 {
		t.Errorf("%d layers, %v", n.Load(), err)
	}
	if err := b.Copy(t.Context(), ref, "linux/amd64", 1<<20, put); err != nil || n.Load() != 2 {
		t.Errorf("%d layers, %v", n.Load(), err)
	}
	reason := errors.New("full")
	if err := b.Copy(t.Context(), ref, "linux/amd64", 0,
		func(context.Context, digest.Digest, int64,
			func() (io.ReadCloser, error)) error {
			return reason
		}); !errors.Is(err, reason) {
		t.Errorf("%v", err)
	}
	if err := b.Copy(t.Context(), "not a reference", "linux/amd64", 0, put); err == nil {
		t.Error("what is no reference is copied")
	}
	// An anonymous pull from Docker Hub counts: nothing is read there ahead.
	hub := "index.docker.io/library/php:8@sha256:" + strings.Repeat("1", 64)
	b.Observe(hub, "linux/amd64")
	if err := b.Copy(t.Context(), hub, "linux/amd64", 0, put); err != nil || n.Load() != 2 {
		t.Errorf("%d layers, %v", n.Load(), err)
	}
}

func TestResolve(t *testing.T) {
	ref, img, _ := upstream(t)
	for _, login := range []func(context.Context, string) (plan.Account, bool){
		anonymous,
		func(context.Context, string) (plan.Account, bool) {
			return plan.Account{Username: "u", Password: plan.NewSecret("p")}, true
		},
		func(context.Context, string) (plan.Account, bool) {
			return plan.Account{Password: plan.NewSecret("an identity token")}, true
		},
	} {
		b := images(t, login, nil)
		tag, _, _ := strings.Cut(ref, "@")
		d, err := b.Resolve(t.Context(), tag)
		want, werr := img.Digest()
		if err != nil || werr != nil || d.String() != want.String() {
			t.Errorf("%s, %v", d, err)
		}
		for _, missing := range []string{strings.Replace(tag, ":1", ":2", 1), "not a reference"} {
			if _, err := b.Resolve(t.Context(), missing); err == nil {
				t.Errorf("%s is found", missing)
			}
		}
	}
}

func TestLimitHeader(t *testing.T) {
	for header, want := range map[string]int{"100;w=21600": 100, "7": 7, "": -1, "x": -1} {
		if got := limit(header); got != want {
			t.Errorf("%q: %d", header, got)
		}
	}
}
