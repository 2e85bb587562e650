package engine

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"net/http"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ecsbuild/ecsbuild/internal/hoststate"
)

// recordLayers is the kind of the record for layers that were made anew.
const recordLayers = "layers"

// remake makes anew what a classic engine pushes, by a recipe: its layers as
// they come in, and config and manifest in the end. The engine learns nothing
// of it, and goes on calling its layers by its own digests.
type remake struct {
	recipe recipe
	state  *hoststate.State
	busy   chan struct{} // bounds the layers that are packed at once

	mu     sync.Mutex
	layers map[digest.Digest]remade // by the engine's digest
}

// remade is a layer and the bytes that the engine has of it.
type remade struct {
	made
	Size int64 `json:"size"`
	lent bool  // by a base's registry, from where it may still fail to come
}

func newRemake(r recipe, state *hoststate.State, busy chan struct{}) *remake {
	return &remake{recipe: r, state: state, busy: busy, layers: map[digest.Digest]remade{}}
}

func (m *remake) keep(engine digest.Digest, l remade) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.layers[engine] = l
}

// lendNoMore forgets what did not come from the engine itself.
func (m *remake) lendNoMore() {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.layers, func(_ digest.Digest, l remade) bool { return l.lent })
}

// arrived gives the size of what the engine has sent in this run, after which
// it asks for each blob once more.
func (m *remake) arrived(d digest.Digest) (size int64, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l, ok := m.layers[d]
	return l.Size, ok
}

// has answers the engine's question for a layer by its own digest: a base's
// layer stays what it is, and one that was made in an earlier run need not come
// again while the registry has it.
func (m *remake) has(ctx context.Context, s *Slot, d digest.Digest) (size int64, ok bool, err error) {
	if size, ok := m.arrived(d); ok {
		return size, true, nil
	}
	if size, ok := s.lend(d); ok {
		m.keep(d, remade{made{Desc: ocispec.Descriptor{MediaType: dockerLayer, Digest: d, Size: size}}, size, true})
		return size, true, nil
	}
	var known remade
	if !m.state.Get(recordLayers, m.recipe.key()+" "+d.String(), &known) {
		return 0, false, nil
	}
	if _, ok, err := s.sink.Has(ctx, known.Desc.Digest); err != nil || !ok {
		return 0, false, err
	}
	m.keep(d, known)
	return known.Size, true, nil
}

// remaking is one blob on its way from the engine.
type remaking struct {
	bytes  int64
	sum    digest.Digest
	config []byte
	layer  *packed
}

func (u *remaking) got() int64 { return u.bytes }

// take reads a layer, or the config, which is no gzip.
func (u *remaking) take(r *http.Request, s *Slot) error {
	body := bufio.NewReaderSize(&countReader{r.Body, &u.bytes}, 256<<10)
	magic, err := body.Peek(2)
	if len(magic) == 0 {
		return nil // the PUT that ends an upload
	}
	if err != nil {
		return err
	}
	sum := sha256.New()
	in := io.TeeReader(body, sum)
	if !bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		u.config, err = io.ReadAll(io.LimitReader(in, maxManifest))
		u.sum = sum256(sum)
		return err
	}
	select {
	case s.remake.busy <- struct{}{}:
		defer func() { <-s.remake.busy }()
	case <-r.Context().Done():
		return r.Context().Err()
	}
	z, err := gzip.NewReader(in)
	if err != nil {
		return err
	}
	if u.layer, err = s.remake.recipe.pack(z); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, in)
	u.sum = sum256(sum)
	return err
}

func (u *remaking) drop() {
	if u.layer != nil {
		u.layer.remove()
	}
}

// finish puts the layer as it was made; small layers of a base, for which the
// engine did not ask, are lent after all.
func (u *remaking) finish(ctx context.Context, s *Slot, want digest.Digest) error {
	defer u.drop()
	if u.sum != want {
		return fmt.Errorf("a blob arrived as %s and not as %s", u.sum, want)
	}
	m := s.remake
	if u.layer == nil {
		s.keepConfig(want, u.config)
		return nil
	}
	if lent, ok := s.lendUnpacked(u.layer.From); ok {
		m.keep(want, remade{lent, u.bytes, true})
		return nil
	}
	if err := s.sink.Put(ctx, u.layer.Desc.Digest, u.layer.Desc.Size, u.layer.open); err != nil {
		return err
	}
	l := remade{u.layer.made, u.bytes, false}
	m.keep(want, l)
	m.state.Put(recordLayers, m.recipe.key()+" "+want.String(), l)
	return nil
}

// manifest gives the image's own for the engine's layers; its config is put.
func (m *remake) manifest(ctx context.Context, s *Slot, engine []ocispec.Descriptor, config []byte) (Manifest, error) {
	m.mu.Lock()
	known := maps.Clone(m.layers)
	m.mu.Unlock()
	var layers []made
	for _, l := range engine {
		layer, ok := known[l.Digest]
		if !ok {
			return Manifest{}, fmt.Errorf("the engine names a layer %s that it did not push", l.Digest)
		}
		layers = append(layers, layer.made)
	}
	return putImage(ctx, m.recipe, s.sink, config, layers, s.inputs)
}

// putImage puts the config of layers and gives their manifest.
func putImage(ctx context.Context, r recipe, sink Sink, config []byte, layers []made, inputs *Inputs) (Manifest, error) {
	config, err := r.config(config, layers)
	if err == nil {
		config, err = inputs.stamp(config)
	}
	if err != nil {
		return Manifest{}, err
	}
	if err := putBytes(ctx, sink, digest.FromBytes(config), config); err != nil {
		return Manifest{}, err
	}
	return r.manifest(config, layers)
}
