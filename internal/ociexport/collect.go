package ociexport

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ecsbuild/ecsbuild/internal/image"
)

// Artifact walks from the root to the manifests, and sends the configs.
func (s *Store) Artifact(ctx context.Context, response map[string]string) (*image.Artifact, error) {
	root, err := Root(response)
	if err != nil {
		return nil, err
	}
	b := &image.Artifact{}
	_, err = s.walk(ctx, root, b)
	return b, err
}

// Root is what the engine's answer says of the image that it has exported.
func Root(response map[string]string) (root ocispec.Descriptor, err error) {
	raw, err := base64.StdEncoding.DecodeString(response["containerimage.descriptor"])
	if err == nil {
		err = json.Unmarshal(raw, &root)
	}
	if err != nil {
		return root, fmt.Errorf("the engine's answer describes no image: %w", err)
	}
	return root, nil
}

// walk returns the descriptor of what d names, as it will be in the registry.
func (s *Store) walk(ctx context.Context, d ocispec.Descriptor, b *image.Artifact) (ocispec.Descriptor, error) {
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
	out := image.Manifest{MediaType: m.MediaType, Digest: d.Digest, Data: data}
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
		if out, err = out.WithKey("manifests", m.Manifests); err != nil {
			return d, err
		}
	}
	if m.Config.Digest != "" {
		layers, changed, err := s.layers(ctx, m.MediaType, m.Layers)
		if err != nil {
			return d, err
		}
		if changed || m.Layers == nil { // of an image without any, some BuildKits write null
			if out, err = out.WithKey("layers", append([]ocispec.Descriptor{}, layers...)); err != nil {
				return d, err
			}
		}
	}
	if config, ok := s.kept[m.Config.Digest]; ok {
		var c ocispec.Image
		if json.Unmarshal(config, &c) == nil {
			b.DiffIDs = append(b.DiffIDs, c.RootFS.DiffIDs)
		}
	}
	if config, ok := s.kept[m.Config.Digest]; ok { // a larger one was uploaded at once, without a label
		config, err := s.inputs.AddLabel(ctx, config)
		if err != nil {
			return d, err
		}
		sum := digest.FromBytes(config)
		if err := image.PutBytes(ctx, s.target, sum, config); err != nil {
			return d, err
		}
		if sum != m.Config.Digest {
			if out, err = image.WithConfig(out, config); err != nil {
				return d, err
			}
		}
	}
	b.Manifests = append(b.Manifests, out)
	d.Digest, d.Size = out.Digest, int64(len(out.Data))
	return d, nil
}
