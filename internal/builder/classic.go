package builder

import (
	"context"
	"errors"
	"fmt"

	bkclient "github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/dockerpush"
	"github.com/ecsbuild/ecsbuild/internal/endpoint"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/layer"
)

// buildAndPush has a classic engine build an image under its names, and then
// push it.
func (e *Engine) buildAndPush(ctx context.Context, j Job) (*image.Artifact, error) {
	near, err := e.pusher.SharesLoopback(ctx)
	if err != nil {
		return nil, err
	}
	copies := e.newBaseCopy(&j)
	defer copies.end()
	if !near {
		copies.minSize = 0 // where its images are saved, a base's layers are known by their diffIDs, whatever their size
	}
	before, stop := j.pushedBefore(ctx)
	defer stop()
	res, err := e.solve(ctx, &j, mobyExport(&j), copies)
	if err != nil {
		return nil, err
	}
	id, err := e.imageID(res)
	if err != nil {
		return nil, err
	}
	if b := before(id); b != nil {
		b.EngineID = id
		return b, nil
	}
	j.Inputs.VerifyInBackground(ctx)
	pushing, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer e.untilLost(cancel)()
	b, err := e.pusher.Push(pushing, dockerpush.Push{Image: j.Image, ID: id, Store: j.Store, Bases: j.Bases,
		Inputs: j.Inputs, State: j.State, Begin: j.Begin, Note: j.Note})
	var silent *dockerpush.NoAnswerError
	switch {
	case errors.As(err, &silent), err != nil && ctx.Err() == nil && !e.answers(ctx):
		return nil, &endpoint.UnreachableError{Endpoint: e.Endpoint, Lost: true, Err: err}
	case err != nil:
		return nil, err
	}
	j.keepPushed(id, b)
	b.EngineID = id
	return b, nil
}

// hintPushed is the kind of hint for what a classic engine has pushed last of an
// image.
const hintPushed = "pushed"

// pushed is an image that the engine has pushed. It calls it by the digest of
// its config, so that the same ID means the same layers.
type pushed struct {
	ID       digest.Digest  `json:"id"`
	Encoding string         `json:"encoding"`
	Manifest image.Manifest `json:"manifest"`
}

func (j *Job) pushedKey() string {
	return j.Refs[0].Name() + " " + j.Image.Name()
}

// pushedBefore asks, while the image is built, whether the registry still has the image of
// the last run. same returns that one where the new image has the same ID and nothing of it
// is missing, and nil otherwise. stop ends the question, and must be called. An image that
// gets a label is never the same.
func (j *Job) pushedBefore(ctx context.Context) (same func(digest.Digest) *image.Artifact, stop func()) {
	var p pushed
	encoding, _ := layer.EncodingOf(j.Image.Build)
	if j.Inputs != nil || !j.State.Get(hintPushed, j.pushedKey(), &p) || p.Encoding != encoding.Key() {
		return func(digest.Digest) *image.Artifact { return nil }, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	whole, done := false, make(chan struct{})
	go func() {
		defer close(done)
		whole = p.Manifest.Whole(ctx, j.Store)
	}()
	same = func(id digest.Digest) *image.Artifact {
		if id != p.ID {
			return nil
		}
		if <-done; !whole {
			return nil
		}
		return &image.Artifact{Manifests: []image.Manifest{p.Manifest}}
	}
	return same, func() { cancel(); <-done }
}

func (j *Job) keepPushed(id digest.Digest, b *image.Artifact) {
	if encoding, _ := layer.EncodingOf(j.Image.Build); j.Inputs == nil {
		j.State.Put(hintPushed, j.pushedKey(), pushed{id, encoding.Key(), b.Root()})
	}
}

// imageID is what a classic engine calls the image that it has built: the digest
// of its config.
func (e *Engine) imageID(res *bkclient.SolveResponse) (digest.Digest, error) {
	id, err := digest.Parse(res.ExporterResponse["containerimage.digest"])
	if err != nil {
		return "", fmt.Errorf("%s does not say what image it has built: %w", e, err)
	}
	return id, nil
}

// mobyExport has an engine keep an image under the names of its job.
func mobyExport(j *Job) []bkclient.ExportEntry {
	return []bkclient.ExportEntry{{Type: "moby", Attrs: map[string]string{"name": j.names()}}}
}
