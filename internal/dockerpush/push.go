// Package dockerpush has a classic Docker engine push what it has built.
//
// The classic image store exports into the engine alone, and the engine's own push is the
// one way out that uses what it knows of its layers. So it pushes to a proxy: a registry
// on loopback, which forwards blobs to an image.Store, keeps the manifests back, and
// compresses layers again where the image asks for it (rewrite.go). An engine whose
// loopback is another one reaches it by a container on its host (relay.go); one that can run
// none saves the image, and its layers are compressed here (save.go).
package dockerpush

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/moby/moby/client"
	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/fingerprint"
	"github.com/ecsbuild/ecsbuild/internal/hoststate"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
	"github.com/ecsbuild/ecsbuild/internal/report"
)

// A Pusher has a classic engine push what it has built, which is the one way that
// its layers leave it.
type Pusher struct {
	docker *client.Client
	engine string // for messages

	untags       sync.WaitGroup // names that are being removed
	saying       sync.Once      // that images are saved
	cleaning     sync.WaitGroup // those of killed runs likewise, before the first push
	compressions chan struct{}  // bounds the layers that are compressed at once

	mu    sync.Mutex
	start *start // nil before the engine is probed
	far   bool   // its loopback is another one

	stop     func()         // ends the start of a relay; nil for none
	relaying sync.WaitGroup // what serves relays
}

// New makes one for a run; engine is what messages call it.
func New(docker *client.Client, engine string) *Pusher {
	return &Pusher{docker: docker, engine: engine, compressions: make(chan struct{}, MaxConcurrentCompressions)}
}

// A Push is one image that an engine has built and is to push.
type Push struct {
	Image  plan.Image
	ID     digest.Digest // what the engine calls it
	Store  image.Store
	Bases  image.Bases         // nil for none
	Inputs *fingerprint.Inputs // what the image says of itself; nil for nothing
	State  *hoststate.State
	Begin  func(kind report.Kind, name string) *progress.Span
	Note   progress.NoteFunc
}

// SharesLoopback says whether the engine reaches our loopback; it is asked before a build.
func (p *Pusher) SharesLoopback(ctx context.Context) (bool, error) {
	s, err := p.probe(ctx)
	return err == nil && s.direct, err
}

// maxRelays is how many a push has one after the other: a relay is a container, which may be ended.
const maxRelays = 2

// Push pushes an image through the proxy, or as a saved image.
func (p *Pusher) Push(ctx context.Context, r Push) (*image.Artifact, error) {
	for try := 1; ; try++ {
		s, err := p.await(ctx)
		if err != nil {
			return nil, err
		}
		if s.unreachable != nil {
			p.saying.Do(func() {
				r.Note(progress.Info, "the engine cannot reach ecsbuild's registry on loopback, so its layers are saved and "+
					"compressed here: a relay cannot run there: "+s.unreachable.Error())
			})
			return p.saveAndPush(ctx, r)
		}
		a, err := p.pushThrough(ctx, r, s.proxy)
		ended := s.proxy.hasEnded()
		if err == nil || ended == nil || ctx.Err() != nil {
			return a, err
		}
		p.forget(s)
		if try == maxRelays || !p.answers(ctx) {
			return nil, ended
		}
		r.Note(progress.Info, ended.Error()+": starting another one")
	}
}

// answers says whether the engine does, whose relay has ended.
func (p *Pusher) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, tagTimeout)
	defer cancel()
	_, err := p.docker.Ping(ctx, client.PingOptions{})
	return err == nil
}

// Close ends the proxy, when every name has been removed.
func (p *Pusher) Close() {
	if p.stop != nil {
		p.stop() // a start that nobody needs any more
	}
	p.mu.Lock()
	s := p.start
	p.mu.Unlock()
	if s != nil {
		<-s.done
	}
	p.cleaning.Wait()
	p.untags.Wait()
	if s != nil && s.proxy != nil {
		s.proxy.close()
	}
	p.relaying.Wait()
}

// pushThrough has a classic engine push an image through the proxy, under a name
// of its own that is removed again, also when the push fails.
func (p *Pusher) pushThrough(ctx context.Context, r Push, proxy *proxy) (*image.Artifact, error) {
	p.cleaning.Wait()
	if err := proxy.hasEnded(); err != nil {
		return nil, err
	}
	s := proxy.open(r)
	defer s.close()
	defer func() { // also of a tag that has failed: it may be there all the same
		if proxy.hasEnded() == nil { // else another run may have its address, and so the name
			p.untag(ctx, s.name)
		}
	}()
	if err := p.tag(ctx, r.ID, s.name); err != nil {
		return nil, err
	}
	span := r.Begin(report.Push, "the engine compresses and pushes")
	b, err := p.push(ctx, s)
	span.End(err)
	return b, err
}

// A NoAnswerError is a request that an engine does not answer, which it does at
// once as long as it lives.
type NoAnswerError struct {
	Request string
	After   time.Duration
}

func (e *NoAnswerError) Error() string {
	return fmt.Sprintf("no answer to a %s for %v", e.Request, e.After)
}

// tagTimeout is for a request that an engine answers at once, and grace for one whose run has
// been stopped, which people do not want to wait for.
const (
	tagTimeout = time.Minute
	grace      = 4 * time.Second
)

func (p *Pusher) tag(ctx context.Context, id digest.Digest, name string) error {
	// A request that is cut off goes on in the engine, and might give the name after untag.
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), tagTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })()
	_, err := p.docker.ImageTag(limited, client.ImageTagOptions{Source: id.String(), Target: name})
	switch {
	case err != nil && ctx.Err() == nil && limited.Err() != nil:
		return &NoAnswerError{Request: "tag", After: tagTimeout}
	case err != nil:
		return fmt.Errorf("%s failed to tag what it has built: %w", p.engine, err)
	}
	return nil
}

// untag takes a name away; nobody but Close waits for it.
func (p *Pusher) untag(ctx context.Context, name string) {
	p.untags.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		_, _ = p.docker.ImageRemove(ctx, name, client.ImageRemoveOptions{})
	})
}

// push has the engine push through the session and gives the manifest that it
// put there.
func (p *Pusher) push(ctx context.Context, s *session) (*image.Artifact, error) {
	m, err := p.pushOnce(ctx, s)
	if ctx.Err() == nil && s.disableBaseCopy() {
		m, err = p.pushOnce(ctx, s)
	}
	if err != nil {
		return nil, err
	}
	return &image.Artifact{Manifests: []image.Manifest{m}}, nil
}

func (p *Pusher) pushOnce(ctx context.Context, s *session) (image.Manifest, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.mu.Lock()
	s.ctx, s.cancel, s.refuses = ctx, cancel, false
	s.mu.Unlock()
	// The request is cut off when the run is stopped, unless the engine has put its manifest: then
	// it is about to write down a digest under this name, which untag would come too early for.
	request, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	stop := context.AfterFunc(ctx, func() {
		if s.refuseManifest() {
			cut()
		} else {
			time.AfterFunc(grace, cut)
		}
	})
	defer stop()
	auth, _ := json.Marshal(map[string]string{"username": proxyUser, "password": s.proxy.password,
		"serveraddress": s.proxy.addr})
	resp, err := p.docker.ImagePush(request, s.name,
		client.ImagePushOptions{RegistryAuth: base64.URLEncoding.EncodeToString(auth)})
	if err == nil {
		err = resp.Wait(request)
		_ = resp.Close()
	}
	cause := context.Cause(ctx)
	if err != nil && len(s.manifest) == 0 {
		stop()      // the next push may have a manifest
		cancel(nil) // nobody needs what is still copied
	}
	s.mu.Lock()
	s.ctx = nil // no copy begins any more
	s.mu.Unlock()
	s.copies.Wait()
	select {
	case m := <-s.manifest:
		return m, nil
	default:
	}
	if cause != nil {
		return image.Manifest{}, cause
	}
	s.mu.Lock()
	failed := s.failed
	s.mu.Unlock()
	if failed != nil {
		return image.Manifest{}, failed
	}
	if err == nil {
		err = errors.New("it ended without a manifest")
	}
	return image.Manifest{}, fmt.Errorf("%s failed to push: %w", p.engine, err)
}

// maxFailures and maxStalls are how many temporary failures of the store end a push. Some the
// store has tried several times; a stream it cannot, and the engine does.
const (
	maxFailures = 4
	maxStalls   = 2 // each takes minutes
)

// sameStall is the time in which the uploads of one push stall together.
const sameStall = time.Minute

// fail keeps the store's own words, and ends the push with them when trying
// again is of no use.
func (s *session) fail(err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	var temporary interface{ Temporary() bool }
	var stalled interface{ Stalled() bool }
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = err
	if errors.As(err, &stalled) && stalled.Stalled() && time.Since(s.lastStall) > sameStall {
		s.stalls, s.lastStall = s.stalls+1, time.Now()
	}
	if s.failures++; s.failures < maxFailures && s.stalls < maxStalls && errors.As(err, &temporary) &&
		temporary.Temporary() {
		return
	}
	if s.cancel != nil {
		s.cancel(err)
	}
}
