package engine

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	bkclient "github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxExports is how often an export is begun when uploads break: what was
// built is in BuildKit's cache, and what was sent is not sent again.
const maxExports = 4

// buildBlobs exports through BuildKit's content store protocol.
func (e *Engine) buildBlobs(ctx context.Context, r Request, sink Sink) (*Built, error) {
	again := map[digest.Digest]bool{} // layers that must come in any case
	for try := 1; ; try++ {
		copies := e.newCopies(r.Image, sink)
		store := newBlobStore(Export{Build: r.Image.Build, Sink: sink, Bases: r.Bases, Inputs: r.Inputs, State: r.State, Packs: e.packs, Again: again})
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
