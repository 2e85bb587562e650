package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ecsbuild/ecsbuild/internal/hoststate"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// BuildKit hands a layer over as it has it: one that another build has compressed
// in another way comes in that form, whatever this build asks for. Such layers are
// compressed again here. Layers of base images stay as they are.

// The first bytes of compressed streams.
var (
	gzipMagic = []byte{0x1f, 0x8b}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

// compressionOf tells how a layer is compressed by its first bytes, "" for not.
func compressionOf(head []byte) string {
	switch {
	case bytes.HasPrefix(head, gzipMagic):
		return plan.Gzip
	case bytes.HasPrefix(head, zstdMagic):
		return plan.Zstd
	}
	return ""
}

// compressionOfType tells the same by a layer's media type.
func compressionOfType(mediaType string) string {
	switch {
	case strings.HasSuffix(mediaType, "+gzip"), strings.HasSuffix(mediaType, ".gzip"):
		return plan.Gzip
	case strings.HasSuffix(mediaType, "+zstd"), strings.HasSuffix(mediaType, ".zstd"):
		return plan.Zstd
	}
	return ""
}

// An otherFormError names layers that the registry has in another form than the
// image asks for: the engine must hand them over, to be compressed again.
type otherFormError struct{ layers []digest.Digest }

func (e *otherFormError) Error() string {
	return fmt.Sprintf("%d layers are in the registry in another compression", len(e.layers))
}

// recordRecompressed is the kind of the record for layers that were compressed
// again.
const recordRecompressed = "recompressed"

// layerForms is how a blobStore has the layers of one image compressed.
type layerForms struct {
	recipe recipe
	level  bool // the level counts, which nobody can tell by a layer's bytes
	bases  Bases
	state  *hoststate.State
	packs  chan struct{}
	again  map[digest.Digest]bool // layers that the engine must hand over

	done map[digest.Digest]made // by the engine's digest, under the store's lock
}

func newLayerForms(x Export) *layerForms {
	f := &layerForms{level: x.Build.CompressionLevel != nil, bases: x.Bases, state: x.State, packs: x.Packs, again: x.Again, done: map[digest.Digest]made{}}
	f.recipe, _ = recipeOf(x.Build)
	f.recipe.epoch = recipe{}.epoch // BuildKit has seen to the times
	return f
}

// ofBase says whether a layer is a base image's.
func (f *layerForms) ofBase(ctx context.Context, d digest.Digest) bool {
	if f.bases == nil {
		return false
	}
	_, _, ok := f.bases.LayerByDigest(ctx, d)
	return ok
}

// wrong says whether a layer must be compressed again.
func (f *layerForms) wrong(ctx context.Context, d digest.Digest, compression string) bool {
	return (f.level || compression != f.recipe.compression) && !f.ofBase(ctx, d)
}

func (f *layerForms) key(d digest.Digest) string { return f.recipe.key() + " " + d.String() }

// remembered gives what an earlier run made of a layer, while the sink has it.
func (s *blobStore) remembered(ctx context.Context, d digest.Digest) bool {
	var known made
	if s.forms.state == nil || !s.forms.state.Get(recordRecompressed, s.forms.key(d), &known) || known.Desc.Digest == "" {
		return false
	}
	if _, ok, err := s.sink.Has(ctx, known.Desc.Digest); err != nil || !ok {
		return false
	}
	s.recompressed(d, known)
	return true
}

func (s *blobStore) recompressed(d digest.Digest, m made) {
	s.mu.Lock()
	s.forms.done[d] = m
	s.mu.Unlock()
}

// recompress reads a layer in whatever form, and puts it as the image asks for it.
func (s *blobStore) recompress(ctx context.Context, d digest.Digest, layer io.Reader) error {
	select {
	case s.forms.packs <- struct{}{}:
		defer func() { <-s.forms.packs }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	sum := digest.SHA256.Digester()
	raw := io.TeeReader(layer, sum.Hash())
	unpacked, closeUnpacked, err := uncompressed(raw)
	if err != nil {
		return err
	}
	defer closeUnpacked()
	p, err := s.forms.recipe.pack(unpacked)
	if err != nil {
		var spool *SpoolError
		if errors.As(err, &spool) { // else the engine has broken off, and says why
			return s.failed(err)
		}
		return err
	}
	defer p.remove()
	if _, err := io.Copy(io.Discard, raw); err != nil {
		return err
	}
	if sum.Digest() != d {
		return fmt.Errorf("the layer %s arrived as %s", d, sum.Digest())
	}
	if err := s.sink.Put(ctx, p.Desc.Digest, p.Desc.Size, p.open); err != nil {
		return s.failed(err)
	}
	s.recompressed(d, p.made)
	if s.forms.state != nil {
		s.forms.state.Put(recordRecompressed, s.forms.key(d), p.made)
	}
	return nil
}

// uncompressed gives the tar in a layer.
func uncompressed(layer io.Reader) (io.Reader, func(), error) {
	head := make([]byte, len(zstdMagic))
	n, err := io.ReadFull(layer, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	whole := io.MultiReader(bytes.NewReader(head[:n]), layer)
	switch compressionOf(head[:n]) {
	case plan.Gzip:
		z, err := gzip.NewReader(whole)
		return z, func() {}, err
	case plan.Zstd:
		z, err := zstd.NewReader(whole, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	}
	return whole, func() {}, nil
}

// layers gives the layers of a manifest as the registry has them. Its error is an
// *otherFormError where one must come again.
func (s *blobStore) layers(ctx context.Context, manifestType string, in []ocispec.Descriptor) (out []ocispec.Descriptor, changed bool, err error) {
	var again []digest.Digest
	for _, l := range in {
		s.mu.Lock()
		m, ok := s.forms.done[l.Digest]
		s.mu.Unlock()
		if !ok {
			if s.forms.wrong(ctx, l.Digest, compressionOfType(l.MediaType)) {
				again = append(again, l.Digest)
			}
			out = append(out, l)
			continue
		}
		l.Digest, l.Size, l.MediaType, changed = m.Desc.Digest, m.Desc.Size, m.Desc.MediaType, true
		if l.MediaType == dockerLayer && manifestType == ocispec.MediaTypeImageManifest {
			l.MediaType = ocispec.MediaTypeImageLayerGzip
		}
		out = append(out, l)
	}
	if len(again) > 0 {
		return nil, false, &otherFormError{again}
	}
	return out, changed, nil
}
