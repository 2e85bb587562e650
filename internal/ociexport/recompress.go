package ociexport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ecsbuild/ecsbuild/internal/hoststate"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/layer"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// BuildKit exports a layer as it has it: one that another build has compressed in another
// way comes in that form, whatever this build asks for. Such layers are compressed again.
// Layers of base images stay as they are.

// A RecompressError names layers that the registry has in another form than the
// image asks for: the engine must hand them over, to be compressed again.
type RecompressError struct{ Layers []digest.Digest }

func (e *RecompressError) Error() string {
	return fmt.Sprintf("%d layers are in the registry in another compression", len(e.Layers))
}

// hintRecompressed is the kind of hint for layers that were compressed again.
const hintRecompressed = "recompressed"

// encodings is how a Store has the layers of one image compressed.
type encodings struct {
	encoding     layer.Encoding
	level        bool // the level counts, which nobody can tell by a layer's bytes
	bases        image.Bases
	state        *hoststate.State
	compressions chan struct{}
	required     map[digest.Digest]bool // layers that the engine must hand over

	done map[digest.Digest]layer.Info // by the engine's digest, under the store's lock
}

func newEncodings(x Options) *encodings {
	f := &encodings{level: x.Build.CompressionLevel != nil, bases: x.Bases, state: x.State, compressions: x.Compressions,
		required: x.Required, done: map[digest.Digest]layer.Info{}}
	f.encoding, _ = layer.EncodingOf(x.Build)
	f.encoding.Epoch = time.Time{} // BuildKit has seen to the times
	return f
}

// ofBase says whether a layer is a base image's.
func (f *encodings) ofBase(ctx context.Context, d digest.Digest) bool {
	if f.bases == nil {
		return false
	}
	_, _, ok := f.bases.LayerByDigest(ctx, d)
	return ok
}

// mustRecompress says whether a layer must be compressed again.
func (f *encodings) mustRecompress(ctx context.Context, d digest.Digest, compression plan.Compression) bool {
	return (f.level || compression != f.encoding.Compression) && !f.ofBase(ctx, d)
}

func (f *encodings) key(d digest.Digest) string { return f.encoding.Key() + " " + d.String() }

// remembered returns what an earlier run made of a layer, while the registry has it.
func (s *Store) remembered(ctx context.Context, d digest.Digest) bool {
	var known layer.Info
	if s.encodings.state == nil || !s.encodings.state.Get(hintRecompressed, s.encodings.key(d), &known) ||
		known.Desc.Digest == "" {
		return false
	}
	if _, ok, err := s.target.Has(ctx, known.Desc.Digest); err != nil || !ok {
		return false
	}
	s.recompressed(d, known)
	return true
}

func (s *Store) recompressed(d digest.Digest, m layer.Info) {
	s.mu.Lock()
	s.encodings.done[d] = m
	s.mu.Unlock()
}

// recompress reads a layer in whatever form, and puts it as the image asks for it.
func (s *Store) recompress(ctx context.Context, d digest.Digest, l io.Reader) error {
	select {
	case s.encodings.compressions <- struct{}{}:
		defer func() { <-s.encodings.compressions }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	sum := digest.SHA256.Digester()
	raw := io.TeeReader(l, sum.Hash())
	unpacked, closeUnpacked, err := layer.Decompress(raw)
	if err != nil {
		return err
	}
	defer closeUnpacked()
	p, err := s.encodings.encoding.Compress(unpacked)
	if err != nil {
		var spool *layer.SpoolError
		if errors.As(err, &spool) { // else the engine has broken off, and says why
			return s.fail(err)
		}
		return err
	}
	defer p.Close()
	if _, err := io.Copy(io.Discard, raw); err != nil {
		return err
	}
	if sum.Digest() != d {
		return fmt.Errorf("the layer %s arrived as %s", d, sum.Digest())
	}
	if err := s.target.Put(ctx, p.Desc.Digest, p.Desc.Size, p.Open); err != nil {
		return s.fail(err)
	}
	s.recompressed(d, p.Info)
	if s.encodings.state != nil {
		s.encodings.state.Put(hintRecompressed, s.encodings.key(d), p.Info)
	}
	return nil
}

// layers returns the layers of a manifest as the registry has them. Its error is an
// *RecompressError where one must come again.
func (s *Store) layers(ctx context.Context, manifestType string, in []ocispec.Descriptor) (out []ocispec.Descriptor,
	changed bool, err error) {
	var again []digest.Digest
	for _, l := range in {
		s.mu.Lock()
		m, ok := s.encodings.done[l.Digest]
		s.mu.Unlock()
		if !ok {
			if s.encodings.mustRecompress(ctx, l.Digest, layer.CompressionOfMediaType(l.MediaType)) {
				again = append(again, l.Digest)
			}
			out = append(out, l)
			continue
		}
		l.Digest, l.Size, l.MediaType, changed = m.Desc.Digest, m.Desc.Size, m.Desc.MediaType, true
		if l.MediaType == image.DockerLayer && manifestType == ocispec.MediaTypeImageManifest {
			l.MediaType = ocispec.MediaTypeImageLayerGzip
		}
		out = append(out, l)
	}
	if len(again) > 0 {
		return nil, false, &RecompressError{again}
	}
	return out, changed, nil
}
