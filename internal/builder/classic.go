package builder

import (
	"context"
	"errors"
	"fmt"
	"strings"

	bkclient "github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/dockerpush"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/layer"
	"github.com/ecsbuild/ecsbuild/internal/progress"
)

// buildClassic has a classic engine build an image under its names, and then
// push it, through the door or as a saved image.
func (e *Engine) buildClassic(ctx context.Context, r Request, sink image.Store) (*image.Artifact, error) {
	far, err := e.pusher.Unreachable(ctx)
	if err != nil {
		return nil, err
	}
	copies := e.newBaseCopy(r.Image, sink)
	defer copies.end()
	if far {
		r.Note(progress.Info, "the engine has a loopback of its own: its layers are saved and compressed here")
		copies.least = 0 // a base's layers are known here by their diffIDs, whatever their size
	}
	before := r.pushedBefore(ctx, sink)
	res, err := e.solve(ctx, &r, moby(r.Names), copies, false)
	if err != nil {
		return nil, err
	}
	id, err := e.imageID(res)
	if err != nil {
		return nil, err
	}
	if b := before(id); b != nil {
		return b, nil
	}
	r.Inputs.VerifyInBackground(ctx)
	b, err := e.pusher.Push(ctx, dockerpush.Push{Image: r.Image, ID: id, Store: sink, Bases: r.Bases, Inputs: r.Inputs, State: r.State, Begin: r.Begin})
	var silent *dockerpush.NoAnswerError
	switch {
	case errors.As(err, &silent):
		return nil, &UnreachableError{Endpoint: e.Endpoint, Lost: true, Err: err}
	case err != nil:
		return nil, err
	}
	r.keepPushed(id, b)
	return b, nil
}

// recordPushed is the kind of the record for what a classic engine has pushed
// last of an image.
const hintPushed = "pushed"

// pushed is an image that the engine has pushed. It calls it by the digest of
// its config, so that the same ID means the same layers.
type pushed struct {
	ID       digest.Digest  `json:"id"`
	Recipe   string         `json:"recipe"`
	Manifest image.Manifest `json:"manifest"`
}

func (r *Request) pushedKey() string {
	repository, _, _ := strings.Cut(r.Names[0], ":"+r.Image.Tags[0])
	return repository + " " + r.Image.Name()
}

// pushedBefore asks, while the image is built, whether the registry still has
// the last one whole. The function that it gives says so of the new one, where
// that is the same; nil else. What an image says of itself may differ each time.
func (r *Request) pushedBefore(ctx context.Context, sink image.Store) func(digest.Digest) *image.Artifact {
	var p pushed
	recipe, _ := layer.EncodingOf(r.Image.Build)
	if r.Inputs != nil || !r.State.Get(hintPushed, r.pushedKey(), &p) || p.Recipe != recipe.Key() {
		return func(digest.Digest) *image.Artifact { return nil }
	}
	whole := make(chan bool, 1)
	go func() { whole <- p.Manifest.Whole(ctx, sink) }()
	return func(id digest.Digest) *image.Artifact {
		if id != p.ID || !<-whole {
			return nil
		}
		return &image.Artifact{Manifests: []image.Manifest{p.Manifest}}
	}
}

func (r *Request) keepPushed(id digest.Digest, b *image.Artifact) {
	if recipe, _ := layer.EncodingOf(r.Image.Build); r.Inputs == nil {
		r.State.Put(hintPushed, r.pushedKey(), pushed{id, recipe.Key(), b.Root()})
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

func moby(names []string) []bkclient.ExportEntry {
	return []bkclient.ExportEntry{{Type: "moby", Attrs: map[string]string{"name": strings.Join(names, ",")}}}
}
