package dockerpush

import (
	"context"
	"errors"
	"math/rand"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/ecsbuild/ecsbuild/internal/enginetest"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// TestPushStopped: an engine goes on with a request that is cut off. The name of a run that has
// been stopped is removed after the engine has given it and written the digest down, not before.
func TestPushStopped(t *testing.T) {
	for _, what := range []string{"tag", "digest"} {
		w := newWorld(t, &enginetest.Engine{})
		id := w.engine.Add(newImage(t, 1))
		ctx, stop := context.WithCancel(t.Context())
		var early []string
		done := make(chan struct{})
		w.engine.Before = func(now string) {
			if now == what {
				stop()
				time.Sleep(50 * time.Millisecond) // for a name that is removed too early
				early = w.engine.Tags()
				close(done)
			}
		}
		_, _ = w.pusher.Push(ctx, w.push(id, plan.Build{}, nil, nil))
		w.pusher.Close()
		<-done
		tags := w.engine.Tags()
		if len(tags) != 2 || tags[1][0] != '-' || len(early) > 0 && early[len(early)-1][0] == '-' {
			t.Errorf("%s: %v, then %v", what, early, tags)
		}
		stop()
	}
}

// TestSecondPush: after a copy of a base's layer has failed, the second push's manifest is taken,
// whenever the end of the first is heard of.
func TestSecondPush(t *testing.T) {
	for range 20 {
		w := newWorld(t, &enginetest.Engine{})
		r := w.push(w.engine.Add(newImage(t, 1)), plan.Build{}, nil, nil)
		started, err := w.pusher.await(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w.pusher.cleaning.Wait()
		s := started.proxy.open(r)
		if err := w.pusher.tag(t.Context(), r.ID, s.name); err != nil {
			t.Fatal(err)
		}
		w.engine.NoPush = "the registry has a fault"
		if _, err := w.pusher.pushOnce(t.Context(), s); err == nil {
			t.Fatal("it was pushed")
		}
		w.engine.NoPush = ""
		if _, err := w.pusher.pushOnce(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		s.close()
		w.pusher.Close()
	}
}

// TestLeftovers: names of a run that was killed are removed, and nobody else's.
func TestLeftovers(t *testing.T) {
	w := newWorld(t, &enginetest.Engine{})
	other, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := other.Addr().String()
	_ = other.Close()
	if other, err = net.Listen("tcp4", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	img := newImage(t, 1)
	for _, name := range []string{other.Addr().String() + "/ecsbuild/0123456789abcdef:run",
		gone + "/shop/0123456789abcdef:run",
		gone + "/ecsbuild/0123456789abcdef:1", "10.0.0.1:1/ecsbuild/0123456789abcdef:run", gone + "/ecsbuild/0123abcd:run"} {
		w.engine.Name(name, img)
	}
	want := []string{"-" + gone + "/ecsbuild/0123456789abcdef:run",
		"-" + gone + "/ecsbuild/0123456789abcdef@sha256:" + strings.Repeat("0", 64)}
	for _, name := range want {
		w.engine.Name(name[1:], img)
	}
	if _, err := w.pusher.SharesLoopback(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.pusher.Close()
	if diff := cmp.Diff(want, slices.Sorted(slices.Values(w.engine.Tags()))); diff != "" {
		t.Error(diff)
	}
}

func TestPushCanceled(t *testing.T) {
	w := newWorld(t, &enginetest.Engine{})
	id := w.engine.Add(newImage(t, 1))
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("another image failed")
	w.answer = func(http.ResponseWriter, *http.Request) bool { cancel(reason); return false }
	if _, err := w.pusher.Push(ctx, w.push(id, plan.Build{}, nil, nil)); !errors.Is(err, reason) {
		t.Errorf("%v", err)
	}
	// A probe that was canceled says nothing of the engine.
	far := newWorld(t, &enginetest.Engine{})
	if _, err := far.pusher.SharesLoopback(ctx); !errors.Is(err, reason) {
		t.Errorf("%v", err)
	}
	if near, err := far.pusher.SharesLoopback(t.Context()); !near || err != nil {
		t.Errorf("%v, %v", near, err)
	}
}

// TestCloseAbortsUploads: a registry that takes its time does not hold up the end of a
// run that has failed, although the engine keeps its connection open.
func TestCloseAbortsUploads(t *testing.T) {
	w := newWorld(t, &enginetest.Engine{})
	img, err := random.Image(SmallBlob+40<<20, 1, random.WithSource(rand.NewSource(1)))
	if err != nil {
		t.Fatal(err)
	}
	id := w.engine.Add(img)
	ctx, cancel := context.WithCancel(t.Context())
	registry := make(chan struct{})
	defer close(registry)
	w.answer = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch && r.ContentLength < 0 { // the layer, and not the config
			cancel()
			<-registry
		}
		return false
	}
	ended := make(chan error)
	go func() {
		_, err := w.pusher.Push(ctx, w.push(id, plan.Build{}, nil, nil))
		w.pusher.Close()
		ended <- err
	}()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the run waits for the registry")
	}
}
