// Package image is what a build makes: manifests, configs and blobs, and the interfaces of those who take them.
package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// Artifact is an image whose blobs are in its Store; no tag names it yet.
type Artifact struct {
	Manifests []Manifest // those that an index names first, the root last

	DiffIDs [][]digest.Digest // of the layers of each image, by which an engine knows them; those that are known

	EngineID digest.Digest // what the classic engine that has built it calls it; "" elsewhere
}

// Root is what a tag will point at.
func (b *Artifact) Root() Manifest { return b.Manifests[len(b.Manifests)-1] }

// Size is what the layers of the image take in a registry, in bytes, each
// counted once.
func (b *Artifact) Size() (n int64) {
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

// Whole asks whether every blob that the manifest names is in a store.
func (m Manifest) Whole(ctx context.Context, store Store) bool {
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
			_, ok, err := store.Has(ctx, b.Digest)
			if err == nil && !ok {
				err = errors.New("gone")
			}
			return err
		})
	}
	return g.Wait() == nil
}

// Config is an image's config, whose keys nobody here needs to know.
type Config struct {
	all, run map[string]json.RawMessage // run is the key "config"
	Labels   map[string]string
}

func ParseConfig(data []byte) (c Config, err error) {
	if err := json.Unmarshal(data, &c.all); err != nil {
		return c, fmt.Errorf("the image's config: %w", err)
	}
	if raw := c.all["config"]; raw != nil {
		if err := json.Unmarshal(raw, &c.run); err != nil {
			return c, fmt.Errorf("the image's config: %w", err)
		}
	}
	if raw := c.run["Labels"]; raw != nil {
		if err := json.Unmarshal(raw, &c.Labels); err != nil {
			return c, fmt.Errorf("the image's labels: %w", err)
		}
	}
	if c.all == nil {
		c.all = map[string]json.RawMessage{}
	}
	if c.run == nil {
		c.run = map[string]json.RawMessage{}
	}
	if c.Labels == nil {
		c.Labels = map[string]string{}
	}
	return c, nil
}

// Encode writes the keys in their order, so that equal configs are equal bytes.
func (c Config) Encode() ([]byte, error) {
	delete(c.run, "Labels")
	var err error
	if len(c.Labels) > 0 {
		if c.run["Labels"], err = json.Marshal(c.Labels); err != nil {
			return nil, err
		}
	}
	if c.all["config"], err = json.Marshal(c.run); err != nil {
		return nil, err
	}
	return json.Marshal(c.all)
}

// WithConfig returns a manifest that names another config.
func WithConfig(m Manifest, config []byte) (Manifest, error) {
	var from ocispec.Manifest
	if err := json.Unmarshal(m.Data, &from); err != nil {
		return m, fmt.Errorf("the image's manifest: %w", err)
	}
	from.Config.Digest, from.Config.Size = digest.FromBytes(config), int64(len(config))
	return m.WithKey("config", from.Config)
}

// WithKey replaces one key of a manifest or index.
func (m Manifest) WithKey(key string, value any) (Manifest, error) {
	all := map[string]json.RawMessage{}
	err := json.Unmarshal(m.Data, &all)
	if err == nil && all == nil { // it says null
		err = errors.New("the manifest is not a JSON object")
	}
	if err == nil {
		all[key], err = json.Marshal(value)
	}
	if err == nil {
		m.Data, err = json.Marshal(all)
	}
	m.Digest = digest.FromBytes(m.Data)
	return m, err
}
