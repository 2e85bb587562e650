package builder

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	bkclient "github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"
)

// BuildKit waits for a registry without end. What it tells of its steps shows whether it does.

// A StalledPullError is a base image whose registry does not answer the engine any more.
type StalledPullError struct {
	Image string // the one that is built
	Base  string // as BuildKit spells it
	After time.Duration
}

func (e *StalledPullError) Error() string {
	return fmt.Sprintf("%s: the registry of %s has sent nothing for %v", e.Image, e.Base, e.After)
}

// Patience with registries: for a manifest, which is small but may have to be imported by a
// pull-through cache, and for the layers that are on their way.
var (
	manifestPatience = 3 * time.Minute
	layerPatience    = 4 * time.Minute
)

// metadataStep is the one that asks for the manifest of a base image.
var metadataStep = regexp.MustCompile(`^\[[^\]]*internal\] load metadata for (\S+)$`)

// pullWatch ends a build whose pull stands still.
type pullWatch struct {
	image string
	stop  context.CancelCauseFunc

	mu    sync.Mutex
	pulls map[digest.Digest]*pull
}

// pull is a step that asks a registry.
type pull struct {
	step     digest.Digest
	base     string
	patience time.Duration
	layers   map[string]*bkclient.VertexStatus // by ID; of a manifest none
	timer    *time.Timer
}

func newPullWatch(image string, stop context.CancelCauseFunc) *pullWatch {
	return &pullWatch{image: image, stop: stop, pulls: map[digest.Digest]*pull{}}
}

// observe is told all that BuildKit tells.
func (w *pullWatch) observe(s *bkclient.SolveStatus) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, v := range s.Vertexes {
		p := w.pulls[v.Digest]
		switch {
		case v.Started == nil:
		case v.Completed != nil && p != nil:
			p.timer.Stop()
			delete(w.pulls, v.Digest)
		case v.Completed == nil && p == nil:
			w.begin(v)
		}
	}
	for _, layer := range s.Statuses {
		p := w.pulls[layer.Vertex]
		if p == nil || p.layers == nil {
			continue
		}
		before := p.layers[layer.ID]
		p.layers[layer.ID] = layer
		if before == nil || before.Current != layer.Current || (before.Completed == nil) != (layer.Completed == nil) {
			p.wait()
		}
	}
}

func (w *pullWatch) begin(v *bkclient.Vertex) {
	p := &pull{step: v.Digest, patience: manifestPatience}
	if m := metadataStep.FindStringSubmatch(v.Name); m != nil {
		p.base = m[1]
	} else if p.base = parseStep(v.Name).base; p.base != "" {
		p.patience, p.layers = layerPatience, map[string]*bkclient.VertexStatus{}
	} else {
		return
	}
	w.pulls[v.Digest] = p
	p.timer = time.AfterFunc(p.patience, func() { w.expired(p) })
	p.wait()
}

// wait begins to wait anew, unless nothing is on its way: layers that are here may take long to
// unpack.
func (p *pull) wait() {
	waits := p.layers == nil
	for _, layer := range p.layers {
		if layer.Completed == nil && !strings.HasPrefix(layer.ID, "extracting") {
			waits = true
		}
	}
	if p.timer.Stop(); waits {
		p.timer.Reset(p.patience)
	}
}

func (w *pullWatch) expired(p *pull) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pulls[p.step] != p {
		return // it has just ended
	}
	w.stop(&StalledPullError{Image: w.image, Base: p.base, After: p.patience})
}

// end forgets what still runs.
func (w *pullWatch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.pulls {
		p.timer.Stop()
	}
	clear(w.pulls)
}
