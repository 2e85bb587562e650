package image

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"
)

// Bases reads the layers of base images from their own registry.
type Bases interface {
	// Observe is told of a base image, as ref@sha256:…, and the platform it is taken for.
	Observe(ref, platform string)
	// LayerByDigest finds a layer of a base image that was seen, with its size in bytes.
	LayerByDigest(ctx context.Context, d digest.Digest) (size int64, open func() (io.ReadCloser, error), ok bool)
	// LayerByDiffID finds such a layer by its diffID.
	LayerByDiffID(ctx context.Context, diffID digest.Digest) (d digest.Digest, size int64,
		open func() (io.ReadCloser, error), ok bool)
	// Copy puts every layer of at least so many bytes of a base image that was
	// seen; it stops at the first that fails.
	Copy(ctx context.Context, ref, platform string, least int64,
		put func(ctx context.Context, d digest.Digest, size int64, open func() (io.ReadCloser, error)) error) error
}
