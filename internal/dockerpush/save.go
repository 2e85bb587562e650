package dockerpush

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/ecsbuild/ecsbuild/internal/fingerprint"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/layer"
	"github.com/ecsbuild/ecsbuild/internal/report"
)

// saveAndPush is for a classic engine that cannot reach the proxy: it saves the
// image, by its ID, and its layers are compressed here, and uploaded side by side.
func (p *Pusher) saveAndPush(ctx context.Context, r Push) (*image.Artifact, error) {
	span := r.Begin(report.Push, "its layers are saved and compressed")
	b, err := p.save(ctx, r)
	var copyFailed *baseCopyError
	if errors.As(err, &copyFailed) && ctx.Err() == nil {
		r.Bases = nil // the engine has these layers as well
		b, err = p.save(ctx, r)
	}
	span.End(err)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return b, err
}

func (p *Pusher) save(ctx context.Context, r Push) (*image.Artifact, error) {
	stream, err := p.docker.ImageSave(ctx, []string{r.ID.String()})
	if err != nil {
		return nil, fmt.Errorf("%s failed to save %s: %w", p.engine, r.Image.Name(), err)
	}
	defer stream.Close()
	encoding, _ := layer.EncodingOf(r.Image.Build)
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	g, gctx := errgroup.WithContext(running)
	g.SetLimit(MaxConcurrentCompressions)
	a := &archive{encoding: encoding, bases: r.Bases, inputs: r.Inputs, store: r.Store, layers: map[string]layer.Info{},
		small: map[string][]byte{}, links: map[string]string{}, compressions: p.compressions}
	err = a.read(gctx, g, stream)
	if err != nil {
		cancel() // nobody needs what is still uploaded
	}
	if werr := g.Wait(); werr != nil && (err == nil || !errors.Is(werr, context.Canceled)) {
		return nil, werr
	}
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return a.image(ctx)
}

// baseCopyError is a base's layer that could not be had from its own registry.
type baseCopyError struct{ error }

func (e *baseCopyError) Unwrap() error { return e.error }

// A saved image has two shapes: <id>/layer.tar with symlinks for repeats
// (engines 20.10 to 24), and an OCI layout with uncompressed layers under
// blobs/sha256 (25 and later). Both have manifest.json.
// https://github.com/moby/docker-image-spec
type savedManifest []struct {
	Config string
	Layers []string
}

// archive is a saved image while it is read, once.
type archive struct {
	encoding layer.Encoding
	bases    image.Bases // nil for none
	inputs   *fingerprint.Inputs
	store    image.Store

	compressions chan struct{} // bounds the layers that are compressed at once

	layers map[string]layer.Info // by name in the archive
	small  map[string][]byte
	bytes  int // of small
	links  map[string]string
}

// maxSmall bounds what of an archive is kept in memory: a manifest and a config, and a file of
// JSON for each layer from older engines. In bytes.
const maxSmall = 64 << 20

// read goes through the archive; each layer is on its way to the store while
// the next is read.
func (a *archive) read(ctx context.Context, g *errgroup.Group, stream io.Reader) error {
	tr := tar.NewReader(stream)
	for ctx.Err() == nil { // Wait has the reason
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the saved image ended early: %w", err)
		}
		switch h.Typeflag {
		case tar.TypeSymlink:
			a.links[h.Name] = path.Join(path.Dir(h.Name), h.Linkname)
		case tar.TypeReg:
			if err := a.file(ctx, g, h, tr); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *archive) file(ctx context.Context, g *errgroup.Group, h *tar.Header, tr io.Reader) error {
	if hex, ok := strings.CutPrefix(h.Name, "blobs/sha256/"); ok &&
		a.copyFromBase(ctx, g, h.Name, digest.NewDigestFromEncoded(digest.SHA256, hex)) {
		return nil // by its name, before anything of it is read
	}
	head := make([]byte, min(h.Size, 512))
	if _, err := io.ReadFull(tr, head); err != nil {
		return fmt.Errorf("the saved image ended early: %w", err)
	}
	body := io.MultiReader(bytes.NewReader(head), tr)
	if h.Size <= maxManifest && !isTar(head) {
		var err error
		a.small[h.Name], err = io.ReadAll(body)
		if a.bytes += len(a.small[h.Name]); a.bytes > maxSmall {
			return fmt.Errorf("the saved image has more than %d bytes of manifests", maxSmall)
		}
		return err
	}
	select {
	case a.compressions <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	l, err := a.encoding.Compress(body)
	<-a.compressions
	if err != nil {
		return err
	}
	if a.copyFromBase(ctx, g, h.Name, l.SourceDiffID) {
		l.Close()
		return nil
	}
	a.layers[h.Name] = l.Info
	g.Go(func() error {
		defer l.Close()
		return a.store.Put(ctx, l.Desc.Digest, l.Desc.Size, l.Open)
	})
	return nil
}

// copyFromBase takes a base's layer from its own registry, as it was compressed there.
func (a *archive) copyFromBase(ctx context.Context, g *errgroup.Group, name string, diffID digest.Digest) bool {
	if a.bases == nil {
		return false
	}
	d, size, open, ok := a.bases.LayerByDiffID(ctx, diffID)
	if !ok {
		return false
	}
	a.layers[name] = layer.Info{Desc: ocispec.Descriptor{MediaType: image.DockerLayer, Digest: d, Size: size},
		SourceDiffID: diffID, DiffID: diffID}
	g.Go(func() error {
		if err := a.store.Put(ctx, d, size, open); err != nil {
			return &baseCopyError{err}
		}
		return nil
	})
	return true
}

// isTar looks for the magic of a tar header; an empty layer is zeros alone.
func isTar(head []byte) bool {
	return len(head) == 512 && (bytes.HasPrefix(head[257:], []byte("ustar")) || bytes.Count(head, []byte{0}) == 512)
}

// image puts the config, which is the engine's unless the encoding changes what
// it says, and writes the manifest for the layers as they were compressed.
func (a *archive) image(ctx context.Context) (*image.Artifact, error) {
	var saved savedManifest
	if err := json.Unmarshal(a.small["manifest.json"], &saved); err != nil || len(saved) != 1 {
		return nil, errors.New("the saved image has no manifest.json of one image")
	}
	config, ok := a.small[saved[0].Config]
	if !ok {
		return nil, fmt.Errorf("the saved image has no config %s", saved[0].Config)
	}
	var layers []layer.Info
	for _, name := range saved[0].Layers {
		if target, ok := a.links[name]; ok {
			name = target
		}
		l, ok := a.layers[name]
		if !ok {
			return nil, fmt.Errorf("the saved image has no layer %s", name)
		}
		layers = append(layers, l)
	}
	m, err := putImage(ctx, a.encoding, a.store, config, layers, a.inputs)
	if err != nil {
		return nil, err
	}
	return &image.Artifact{Manifests: []image.Manifest{m}}, nil
}
