package dockerpush

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/layer"
)

// disableBaseCopy says whether a layer could not be copied. The engine has these
// layers as well, and sends them itself the next time.
func (s *session) disableBaseCopy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	failed := s.copyErr != nil
	if failed {
		s.bases, s.copyErr, s.failed, s.failures, s.stalls = nil, nil, nil, 0, 0
		if s.rewriter != nil {
			s.rewriter.disableBaseCopy()
		}
	}
	return failed
}

// baseLayers returns the base images and the context of a push that runs; ok is false
// where nothing may be copied.
func (s *session) baseLayers() (ctx context.Context, bases image.Bases, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ctx, s.bases, s.bases != nil && s.ctx != nil
}

// copyFromBase answers for a layer that the registry lacks and a base image has: it is
// copied from the base's registry while the engine goes on.
func (s *session) copyFromBase(d digest.Digest) (size int64, ok bool) {
	ctx, bases, ok := s.baseLayers()
	if !ok {
		return 0, false
	}
	size, open, ok := bases.LayerByDigest(ctx, d)
	return size, ok && s.copy(d, size, open)
}

// copyFromBaseByDiffID is copyFromBase for a layer that is known by its diffID.
func (s *session) copyFromBaseByDiffID(diffID digest.Digest) (layer.Info, bool) {
	ctx, bases, ok := s.baseLayers()
	if !ok {
		return layer.Info{}, false
	}
	d, size, open, ok := bases.LayerByDiffID(ctx, diffID)
	info := layer.Info{Desc: ocispec.Descriptor{MediaType: image.DockerLayer, Digest: d, Size: size}, SourceDiffID: diffID,
		DiffID: diffID}
	return info, ok && s.copy(d, size, open)
}

// copy starts a copy, unless the push has ended; the push waits for it.
func (s *session) copy(d digest.Digest, size int64, open func() (io.ReadCloser, error)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx := s.ctx
	if ctx == nil {
		return false
	}
	s.copies.Go(func() {
		if err := s.store.Put(ctx, d, size, open); err != nil && ctx.Err() == nil {
			s.mu.Lock()
			if s.copyErr == nil {
				s.copyErr = err
			}
			s.mu.Unlock()
		}
	})
	return true
}
