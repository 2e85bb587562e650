package engine

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/grpchijack"
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"

	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
	"github.com/ecsbuild/ecsbuild/internal/redact"
)

// A Request is one image to build.
type Request struct {
	Image    plan.Image
	Login    Login
	Secrets  map[string]plan.Secret // by the id that RUN --mount names
	Names    []string               // what docker images shall call it, where the engine keeps images
	Outputs  []string               // files of the run that no context has, absolute
	Contexts *Contexts
	Masked   *redact.Set // secrets that Status does not tell
	Status   func(*bkclient.SolveStatus)
	Note     func(string) // a line for the user
	Begin    func(kind, name string) *progress.Span
	Bases    Bases // nil for none
	Record   Record
	Inputs   *Inputs // what the image says of itself; nil for nothing
}

// Built is an image whose blobs are in its Sink; no tag names it yet.
type Built struct {
	Manifests []Manifest // those that an index names first, the root last
}

// Root is what a tag will point at.
func (b *Built) Root() Manifest { return b.Manifests[len(b.Manifests)-1] }

// Size is what the layers of the image take in a registry, in bytes, each
// counted once.
func (b *Built) Size() (n int64) {
	seen := map[digest.Digest]bool{}
	for _, m := range b.Manifests {
		var image ocispec.Manifest
		if json.Unmarshal(m.Data, &image) != nil {
			continue
		}
		for _, l := range image.Layers {
			if !seen[l.Digest] {
				seen[l.Digest], n = true, n+l.Size
			}
		}
	}
	return n
}

// A Manifest is an image manifest or index, as it will be in the registry.
type Manifest struct {
	MediaType string
	Digest    digest.Digest
	Data      []byte
}

// Contents is what a manifest or index names.
type Contents struct {
	Config    ocispec.Descriptor   `json:"config"`
	Layers    []ocispec.Descriptor `json:"layers"`
	Manifests []ocispec.Descriptor `json:"manifests"`
}

// Whole asks whether every blob that the manifest names is in a sink.
func (m Manifest) Whole(ctx context.Context, sink Sink) bool {
	var c Contents
	if digest.FromBytes(m.Data) != m.Digest || json.Unmarshal(m.Data, &c) != nil {
		return false
	}
	blobs := c.Layers
	if c.Config.Digest != "" {
		blobs = append(blobs, c.Config)
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, b := range blobs {
		g.Go(func() error {
			_, ok, err := sink.Has(ctx, b.Digest)
			if err == nil && !ok {
				err = errors.New("gone")
			}
			return err
		})
	}
	return g.Wait() == nil
}

// Build builds an image and sends its blobs to sink.
func (e *Engine) Build(ctx context.Context, r Request, sink Sink) (*Built, error) {
	if e.Store != Classic {
		return e.buildBlobs(ctx, r, sink)
	}
	return e.buildClassic(ctx, r, sink)
}

// BuildLocal builds an image and leaves it in the engine under its names. A
// buildkitd has nowhere to leave it.
func (e *Engine) BuildLocal(ctx context.Context, r Request) error {
	export := moby(r.Names)
	if e.Store == BuildKitd {
		r.Note("built and dropped: " + e.String() + " keeps no images")
		export = nil
	}
	r.Image = WithoutExports(r.Image)
	copies := e.newCopies(r.Image, nil)
	defer copies.end()
	_, err := e.solve(ctx, &r, export, copies, false)
	return err
}

// maxExports is how often an export is begun when uploads break: what was
// built is in BuildKit's cache, and what was sent is not sent again.
const maxExports = 4

// buildBlobs exports through BuildKit's content store protocol.
func (e *Engine) buildBlobs(ctx context.Context, r Request, sink Sink) (*Built, error) {
	again := map[digest.Digest]bool{} // layers that must come in any case
	for try := 1; ; try++ {
		copies := e.newCopies(r.Image, sink)
		store := &blobStore{sink: sink, inputs: r.Inputs, forms: e.newLayerForms(&r, again), kept: map[digest.Digest][]byte{}}
		res, err := e.solve(ctx, &r, []bkclient.ExportEntry{{Type: bkclient.ExporterOCI, Attrs: exportAttrs(r.Image.Build), OutputStore: store}}, copies, try > 1)
		copies.end()
		if err == nil {
			b, err := store.collect(ctx, res.ExporterResponse)
			var other *otherFormError
			if errors.As(err, &other) && len(again) == 0 {
				for _, d := range other.layers {
					again[d] = true
				}
				continue
			}
			return b, err
		}
		failed := store.failure()
		if failed == nil {
			return nil, err
		}
		var temporary interface{ Temporary() bool }
		if ctx.Err() != nil || try == maxExports || !errors.As(failed, &temporary) || !temporary.Temporary() {
			return nil, failed
		}
		r.Note(fmt.Sprintf("a layer's upload broke off (%v): sending the rest again", failed))
		select {
		case <-time.After(time.Duration(try) * time.Second):
		case <-ctx.Done():
		}
	}
}

// collect walks from the root to the manifests, and sends the configs.
func (s *blobStore) collect(ctx context.Context, response map[string]string) (*Built, error) {
	raw, err := base64.StdEncoding.DecodeString(response["containerimage.descriptor"])
	if err != nil {
		return nil, fmt.Errorf("the engine's answer describes no image: %w", err)
	}
	var root ocispec.Descriptor
	if err := json.Unmarshal(raw, &root); err != nil {
		return nil, fmt.Errorf("the engine's answer describes no image: %w", err)
	}
	b := &Built{}
	_, err = s.walk(ctx, root, b)
	return b, err
}

// walk gives the descriptor of what d names, as it will be in the registry.
func (s *blobStore) walk(ctx context.Context, d ocispec.Descriptor, b *Built) (ocispec.Descriptor, error) {
	data, ok := s.kept[d.Digest]
	if !ok {
		return d, fmt.Errorf("the engine did not hand over the manifest %s", d.Digest)
	}
	var m struct {
		MediaType string               `json:"mediaType"`
		Manifests []ocispec.Descriptor `json:"manifests"`
		Config    ocispec.Descriptor   `json:"config"`
		Layers    []ocispec.Descriptor `json:"layers"`
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return d, fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	if m.MediaType == "" {
		m.MediaType = d.MediaType
	}
	out := Manifest{MediaType: m.MediaType, Digest: d.Digest, Data: data}
	changed := false
	for i, child := range m.Manifests {
		now, err := s.walk(ctx, child, b)
		if err != nil {
			return d, err
		}
		m.Manifests[i], changed = now, changed || now.Digest != child.Digest
	}
	var err error
	if changed {
		if out, err = out.with("manifests", m.Manifests); err != nil {
			return d, err
		}
	}
	if m.Config.Digest != "" {
		layers, changed, err := s.layers(ctx, m.MediaType, m.Layers)
		if err != nil {
			return d, err
		}
		if changed || m.Layers == nil { // of an image without any, some BuildKits write null
			if out, err = out.with("layers", append([]ocispec.Descriptor{}, layers...)); err != nil {
				return d, err
			}
		}
	}
	if config, ok := s.kept[m.Config.Digest]; ok { // one that is larger than any other went through
		config, err := s.inputs.stamp(config)
		if err != nil {
			return d, err
		}
		sum := digest.FromBytes(config)
		if err := putBytes(ctx, s.sink, sum, config); err != nil {
			return d, err
		}
		if sum != m.Config.Digest {
			if out, err = withConfig(out, config); err != nil {
				return d, err
			}
		}
	}
	b.Manifests = append(b.Manifests, out)
	d.Digest, d.Size = out.Digest, int64(len(out.Data))
	return d, nil
}

// lostCaches says of each cache that could not be read or written what it would
// take; the build goes on without it.
func (r *Request) lostCaches(s *bkclient.SolveStatus) {
	for _, v := range s.Vertexes {
		if v.Error == "" || v.Completed == nil {
			continue
		}
		ref, ok := strings.CutPrefix(v.Name, "importing cache manifest from ")
		switch {
		case strings.HasPrefix(v.Name, "exporting cache"):
			r.Note("warning: the cache was not written, which in ECR needs what a push needs, and ecr:BatchGetImage: " + v.Error)
		case !ok:
		case strings.HasSuffix(v.Error, "not found"):
			r.Note("there is no cache at " + ref + " yet")
		default:
			r.Note(fmt.Sprintf("warning: the cache %s was not read, which in ECR needs ecr:BatchGetImage and ecr:GetDownloadUrlForLayer, and the image: %s", ref, v.Error))
		}
	}
}

// maxSolves bounds the builds that one connection carries at once. Each takes two
// streams of the engine's 250; a build whose request waits for one is given up by
// BuildKit after six seconds.
const maxSolves = 100

// maxStarts is how often a build is begun that BuildKit has given up in that way,
// on a machine with too much to do.
const maxStarts = 5

// solve runs BuildKit's Dockerfile frontend. again leaves out what would
// build anew what has just been built.
func (e *Engine) solve(ctx context.Context, r *Request, exports []bkclient.ExportEntry, copies *copies, again bool) (*bkclient.SolveResponse, error) {
	select {
	case e.solves <- struct{}{}:
		defer func() { <-e.solves }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	for start := 1; ; start++ {
		res, err := e.solveOnce(ctx, r, exports, copies, again)
		if err == nil || start == maxStarts || ctx.Err() != nil || !notBegun(err) {
			return res, err
		}
	}
}

// notBegun says that BuildKit has given a build up before it began.
func notBegun(err error) bool {
	return strings.Contains(err.Error(), "failed to receive status") && strings.Contains(err.Error(), "no such job")
}

func (e *Engine) solveOnce(ctx context.Context, r *Request, exports []bkclient.ExportEntry, copies *copies, again bool) (*bkclient.SolveResponse, error) {
	opt, err := e.solveOpt(r)
	if err != nil {
		return nil, err
	}
	if again {
		delete(opt.FrontendAttrs, "no-cache")
	}
	opt.Exports = exports
	log, masking := newStepLog(), newMasking(r.Masked)
	copying, stop := context.WithCancel(ctx)
	status := make(chan *bkclient.SolveStatus)
	drained := make(chan struct{})
	go func() { // until it is closed, whatever became of ctx
		defer close(drained)
		for s := range status {
			r.lostCaches(s)
			r.bases(copying, s, copies)
			for _, v := range s.Vertexes {
				r.Inputs.saw(v.Name)
			}
			masking.mask(s)
			log.add(s)
			r.Status(s)
		}
	}()
	res, err := e.bk.Solve(ctx, nil, opt, status)
	<-drained
	if before := copies.stop; before != nil { // of a build that was begun anew
		copies.stop = func() { before(); stop() }
	} else {
		copies.stop = stop
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if grpcerrors.Code(err) == codes.Unavailable {
			return nil, &UnreachableError{Endpoint: e.Endpoint, Lost: true, Err: err}
		}
		if nerr := unreadableName(r.Image, err); nerr != nil {
			return nil, nerr
		}
		return nil, newBuildError(r.Image, err, log)
	}
	return res, nil
}

func (e *Engine) sessionDialer() session.Dialer {
	if e.docker == nil {
		return grpchijack.Dialer(e.bk.ControlClient())
	}
	return func(ctx context.Context, proto string, meta map[string][]string) (net.Conn, error) {
		return e.docker.DialHijack(ctx, "/session", proto, meta)
	}
}
