package dockerpush

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/moby/moby/client"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"

	"github.com/ecsbuild/ecsbuild/internal/enginetest"
	"github.com/ecsbuild/ecsbuild/internal/hoststate"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/layer"
	"github.com/ecsbuild/ecsbuild/internal/localregistry"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
	"github.com/ecsbuild/ecsbuild/internal/registry"
	"github.com/ecsbuild/ecsbuild/internal/report"
)

func TestMain(m *testing.M) {
	// net/http keeps a closed connection half a second, for an answer that is still on its way.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// world is an engine and a registry, whose requests are counted.
type world struct {
	engine *enginetest.Engine
	pusher *Pusher
	store  *registry.Repository
	local  http.Handler // the registry that it is in

	mu       sync.Mutex
	requests map[string]int                                    // by method
	answer   func(w http.ResponseWriter, r *http.Request) bool // before the registry does, nil for never
}

func newWorld(t *testing.T, engine *enginetest.Engine) *world {
	t.Helper()
	w := &world{engine: engine, requests: map[string]int{}}
	docker, _ := engine.Start(t)
	c, err := client.New(client.WithHost(docker))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	w.pusher = New(c, "the engine")
	t.Cleanup(w.pusher.Close)
	local := localregistry.New(t.TempDir())
	w.local = local
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.requests[r.Method]++
		answer := w.answer
		w.mu.Unlock()
		if answer == nil || !answer(rw, r) {
			local.ServeHTTP(rw, r)
		}
	}))
	t.Cleanup(s.Close)
	host, err := registry.ParseHost(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	rc := registry.NewClient(host, nil, "test", nil)
	t.Cleanup(rc.Close)
	w.store = rc.Repository("shop")
	return w
}

func (w *world) push(id string, build plan.Build, state *hoststate.State, bases image.Bases) Push {
	return Push{
		Image: plan.Image{Containers: []string{"web"}, Repository: "shop", Build: build},
		ID:    digest.Digest(id), Store: w.store, State: state, Bases: bases,
		Begin: func(report.Kind, string) *progress.Span { return nil },
		Note:  func(progress.Severity, string) {},
	}
}

func newImage(t *testing.T, layers int64) v1.Image {
	t.Helper()
	img, err := random.Image(4000, layers, random.WithSource(rand.NewSource(layers)))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// TestPush: what the engine pushes is in the registry, byte for byte, and the name that
// it had is gone.
func TestPush(t *testing.T) {
	w := newWorld(t, &enginetest.Engine{})
	img := newImage(t, 3)
	if near, err := w.pusher.SharesLoopback(t.Context()); !near || err != nil {
		t.Fatalf("%v, %v", near, err)
	}
	a, err := w.pusher.Push(t.Context(), w.push(w.engine.Add(img), plan.Build{}, nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	want, err := img.RawManifest()
	if err != nil || !bytes.Equal(want, a.Root().Data) || !a.Root().Whole(t.Context(), w.store) {
		t.Errorf("%s, %v", a.Root().Data, err)
	}
	w.pusher.Close()
	if tags := w.engine.Tags(); len(tags) != 2 || tags[0][1:] != tags[1][1:] {
		t.Errorf("%v", tags)
	}
}

// TestPushRewrites: layers are compressed as the image asks for, and in the next run the
// engine need not send them.
func TestPushRewrites(t *testing.T) {
	for name, build := range map[string]plan.Build{
		"zstd":         {Compression: plan.Zstd},
		"reproducible": {Reproducible: true},
	} {
		w := newWorld(t, &enginetest.Engine{})
		id := w.engine.Add(newImage(t, 2))
		state := hoststate.Open(t.TempDir())
		var digests []digest.Digest
		for range 2 {
			a, err := w.pusher.Push(t.Context(), w.push(id, build, state, nil))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			var m image.Contents
			if err := json.Unmarshal(a.Root().Data, &m); err != nil || len(m.Layers) != 2 ||
				!a.Root().Whole(t.Context(), w.store) {
				t.Errorf("%s: %s, %v", name, a.Root().Data, err)
			}
			if build.Compression == plan.Zstd && m.Layers[0].MediaType != ocispec.MediaTypeImageLayerZstd {
				t.Errorf("%s: %s", name, m.Layers[0].MediaType)
			}
			digests = append(digests, a.Root().Digest)
			w.pusher.untags.Wait() // as the end of a run does
		}
		if digests[0] != digests[1] || w.requests[http.MethodPatch] != 3 { // two layers and a config, once
			t.Errorf("%s: %v, %v", name, digests, w.requests)
		}
	}
}

// TestPushSaves is for an engine that cannot reach the proxy.
func TestPushSaves(t *testing.T) {
	w := newWorld(t, &enginetest.Engine{Far: true})
	img := newImage(t, 2)
	if near, err := w.pusher.SharesLoopback(t.Context()); near || err != nil {
		t.Fatalf("%v, %v", near, err)
	}
	a, err := w.pusher.Push(t.Context(), w.push(w.engine.Add(img), plan.Build{}, nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.RawConfigFile()
	var m image.Contents
	if err != nil || json.Unmarshal(a.Root().Data, &m) != nil || m.Config.Digest != digest.FromBytes(config) ||
		len(m.Layers) != 2 || !a.Root().Whole(t.Context(), w.store) {
		t.Errorf("%s, %v", a.Root().Data, err)
	}
	if _, err := w.pusher.Push(t.Context(),
		w.push(digest.FromString("gone").String(), plan.Build{}, nil, nil)); err == nil ||
		!strings.Contains(err.Error(), "the engine failed to save web") {
		t.Errorf("%v", err)
	}
}

// upstream is the registry of a base image.
type upstream struct {
	layers []v1.Layer
	broken bool
}

func (u *upstream) Observe(string, string) {}

func (u *upstream) Copy(context.Context, string, string, int64,
	func(context.Context, digest.Digest, int64, func() (io.ReadCloser, error)) error) error {
	return nil
}

func (u *upstream) find(is func(v1.Layer) (v1.Hash, error), want digest.Digest) (digest.Digest, int64,
	func() (io.ReadCloser, error), bool) {
	for _, l := range u.layers {
		h, err := is(l)
		if err != nil || h.String() != want.String() {
			continue
		}
		d, err1 := l.Digest()
		size, err2 := l.Size()
		open := l.Compressed
		if u.broken {
			open = func() (io.ReadCloser, error) { return nil, errors.New("the base's registry is away") }
		}
		return digest.Digest(d.String()), size, open, errors.Join(err1, err2) == nil
	}
	return "", 0, nil, false
}

func (u *upstream) LayerByDigest(_ context.Context, d digest.Digest) (int64, func() (io.ReadCloser, error), bool) {
	_, size, open, ok := u.find(v1.Layer.Digest, d)
	return size, open, ok
}

func (u *upstream) LayerByDiffID(_ context.Context, d digest.Digest) (digest.Digest, int64,
	func() (io.ReadCloser, error), bool) {
	return u.find(v1.Layer.DiffID, d)
}

// TestPushCopiesBase: the layers of a base image come from its own registry as they are
// there, or, where that fails, from the engine.
func TestPushCopiesBase(t *testing.T) {
	for _, far := range []bool{false, true} {
		for _, build := range []plan.Build{{}, {Compression: plan.Zstd}} {
			for _, broken := range []bool{false, true} {
				w := newWorld(t, &enginetest.Engine{Far: far})
				img := newImage(t, 2)
				layers, err := img.Layers()
				if err != nil {
					t.Fatal(err)
				}
				base := &upstream{layers: layers[:1], broken: broken}
				a, err := w.pusher.Push(t.Context(), w.push(w.engine.Add(img), build, nil, base))
				if err != nil {
					t.Fatalf("far %v, %q, broken %v: %v", far, build.Compression, broken, err)
				}
				d, err := layers[0].Digest()
				var m image.Contents
				if err != nil || json.Unmarshal(a.Root().Data, &m) != nil || !a.Root().Whole(t.Context(), w.store) {
					t.Fatalf("%s, %v", a.Root().Data, err)
				}
				rewritten := broken && (far || build.Compression == plan.Zstd)
				if upstream := m.Layers[0].Digest.String() == d.String(); upstream == rewritten {
					t.Errorf("far %v, %q, broken %v: the base's layer is upstream's: %v", far, build.Compression, broken, upstream)
				}
			}
		}
	}
}

// TestPushKeepsTheRegistrysWords: the engine has only a status of a refusal.
func TestPushKeepsTheRegistrysWords(t *testing.T) {
	w := newWorld(t, &enginetest.Engine{})
	w.answer = func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost {
			return false
		}
		rw.Header().Set("Content-Type", "application/json")
		rw.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(rw, `{"errors":[{"code":"DENIED","message":"not authorized to perform: ecr:InitiateLayerUpload"}]}`)
		return true
	}
	_, err := w.pusher.Push(t.Context(), w.push(w.engine.Add(newImage(t, 1)), plan.Build{}, nil, nil))
	var e *registry.Error
	if !errors.As(err, &e) || e.Status() != http.StatusForbidden {
		t.Errorf("%v", err)
	}
}

// TestNoCopyAfterPush: a question that comes late starts nothing that nobody waits for.
func TestNoCopyAfterPush(t *testing.T) {
	img := newImage(t, 1)
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	d, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	s := &session{bases: &upstream{layers: layers}}
	if _, ok := s.copyFromBase(digest.Digest(d.String())); ok {
		t.Error("a copy began without a push")
	}
	if s.copy("sha256:00", 1, nil) {
		t.Error("a copy began without a push")
	}
	if _, ok := s.copyFromBaseByDiffID("sha256:00"); ok {
		t.Error("a copy began without a push")
	}
}

func TestReadArchive(t *testing.T) {
	e, _ := layer.EncodingOf(plan.Build{})
	for name, small := range map[string]map[string][]byte{
		"no manifest.json": {},
		"two images":       {"manifest.json": []byte(`[{},{}]`)},
		"no config":        {"manifest.json": []byte(`[{"Config":"c"}]`)},
		"no layer":         {"manifest.json": []byte(`[{"Config":"c","Layers":["l"]}]`), "c": []byte("{}")},
	} {
		a := &archive{encoding: e, small: small, layers: map[string]layer.Info{}, links: map[string]string{}}
		if _, err := a.image(t.Context()); err == nil || !strings.Contains(err.Error(), "the saved image has no") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
