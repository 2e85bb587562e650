package dockerpush

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

	"github.com/ecsbuild/ecsbuild/internal/fingerprint"
	"github.com/ecsbuild/ecsbuild/internal/hoststate"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/layer"
)

// hintLayers is the kind of hint for layers that were compressed here.
const hintLayers = "layers"

// rewriter compresses what a classic engine pushes as the image asks for: its layers
// as they come in, and config and manifest in the end. The engine learns nothing
// of it, and goes on calling its layers by its own digests.
type rewriter struct {
	encoding     layer.Encoding
	state        *hoststate.State
	compressions chan struct{} // bounds the layers that are compressed at once

	mu     sync.Mutex
	layers map[digest.Digest]rewrittenLayer // by the engine's digest
}

// rewrittenLayer is a layer, and its size as the engine has it.
type rewrittenLayer struct {
	layer.Info
	Size     int64 `json:"size"` // bytes
	fromBase bool  // copied from a base's registry, which may still fail
}

func newRewriter(e layer.Encoding, state *hoststate.State, compressions chan struct{}) *rewriter {
	return &rewriter{encoding: e, state: state, compressions: compressions, layers: map[digest.Digest]rewrittenLayer{}}
}

func (m *rewriter) keep(engine digest.Digest, l rewrittenLayer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.layers[engine] = l
}

// disableBaseCopy forgets what did not come from the engine itself.
func (m *rewriter) disableBaseCopy() {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.layers, func(_ digest.Digest, l rewrittenLayer) bool { return l.fromBase })
}

// arrived returns the size of what the engine has sent in this run, after which
// it asks for each blob once more.
func (m *rewriter) arrived(d digest.Digest) (size int64, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l, ok := m.layers[d]
	return l.Size, ok
}

// has answers the engine's question for a layer by its own digest: a base's
// layer stays what it is, and one that was compressed in an earlier run need not come
// again while the registry has it.
func (m *rewriter) has(ctx context.Context, s *session, d digest.Digest) (size int64, ok bool, err error) {
	if size, ok := m.arrived(d); ok {
		return size, true, nil
	}
	if size, ok := s.copyFromBase(d); ok {
		m.keep(d, rewrittenLayer{layer.Info{Desc: ocispec.Descriptor{MediaType: image.DockerLayer, Digest: d, Size: size}},
			size, true})
		return size, true, nil
	}
	var known rewrittenLayer
	if !m.state.Get(hintLayers, m.encoding.Key()+" "+d.String(), &known) {
		return 0, false, nil
	}
	if _, ok, err := s.store.Has(ctx, known.Desc.Digest); err != nil || !ok {
		return 0, false, err
	}
	m.keep(d, known)
	return known.Size, true, nil
}

// rewriteUpload is a blob whose layer is compressed here on its way.
type rewriteUpload struct {
	bytes  int64
	sum    digest.Digest
	config []byte
	layer  *layer.Spooled
}

func (u *rewriteUpload) got() int64 { return u.bytes }

// take reads a layer, or the config, which is no gzip.
func (u *rewriteUpload) take(r *http.Request, s *session) error {
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
		u.sum = layer.Sum256(sum)
		return err
	}
	select {
	case s.rewriter.compressions <- struct{}{}:
		defer func() { <-s.rewriter.compressions }()
	case <-r.Context().Done():
		return r.Context().Err()
	}
	z, err := gzip.NewReader(in)
	if err != nil {
		return err
	}
	if u.layer, err = s.rewriter.encoding.Compress(z); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, in)
	u.sum = layer.Sum256(sum)
	return err
}

func (u *rewriteUpload) drop() {
	if u.layer != nil {
		u.layer.Close()
	}
}

// finish sends the layer as it was compressed here; small layers of a base, for which
// the engine did not ask, are copied from its registry after all.
func (u *rewriteUpload) finish(ctx context.Context, s *session, want digest.Digest) error {
	defer u.drop()
	if u.sum != want {
		return &image.DigestError{Got: u.sum, Want: want}
	}
	m := s.rewriter
	if u.layer == nil {
		s.keepConfig(want, u.config)
		return nil
	}
	if copied, ok := s.copyFromBaseByDiffID(u.layer.SourceDiffID); ok {
		m.keep(want, rewrittenLayer{copied, u.bytes, true})
		return nil
	}
	if err := s.store.Put(ctx, u.layer.Desc.Digest, u.layer.Desc.Size, u.layer.Open); err != nil {
		return err
	}
	l := rewrittenLayer{u.layer.Info, u.bytes, false}
	m.keep(want, l)
	m.state.Put(hintLayers, m.encoding.Key()+" "+want.String(), l)
	return nil
}

// manifest returns the image's own for the engine's layers; its config is put.
func (m *rewriter) manifest(ctx context.Context, s *session, engine []ocispec.Descriptor,
	config []byte) (image.Manifest, error) {
	m.mu.Lock()
	known := maps.Clone(m.layers)
	m.mu.Unlock()
	var layers []layer.Info
	for _, l := range engine {
		layer, ok := known[l.Digest]
		if !ok {
			return image.Manifest{}, fmt.Errorf("the engine names a layer %s that it did not push", l.Digest)
		}
		layers = append(layers, layer.Info)
	}
	return putImage(ctx, m.encoding, s.store, config, layers, s.inputs)
}

// putImage puts the config of layers and gives their manifest.
func putImage(ctx context.Context, e layer.Encoding, store image.Store, config []byte, layers []layer.Info,
	inputs *fingerprint.Inputs) (image.Manifest, error) {
	config, err := e.RewriteConfig(config, layers)
	if err == nil {
		config, err = inputs.AddLabel(ctx, config)
	}
	if err != nil {
		return image.Manifest{}, err
	}
	if err := image.PutBytes(ctx, store, digest.FromBytes(config), config); err != nil {
		return image.Manifest{}, err
	}
	return e.Manifest(config, layers)
}
