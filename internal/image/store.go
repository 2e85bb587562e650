package image

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
)

// A Store takes the blobs of one image as they appear. registry.Repository is
// one.
type Store interface {
	// Has asks whether a blob is there, and gives its size in bytes.
	Has(ctx context.Context, d digest.Digest) (size int64, ok bool, err error)
	// Claim makes the caller the one who sends a blob, unless it is there;
	// release ends the claim.
	Claim(ctx context.Context, d digest.Digest) (release func(), there bool, err error)
	// Put sends a blob unless it is there, and tries again on its own.
	Put(ctx context.Context, d digest.Digest, size int64, open func() (io.ReadCloser, error)) error
	// Stream sends a body that can be read once; want may be "".
	Stream(ctx context.Context, want digest.Digest, body io.Reader) (commit func(context.Context, digest.Digest) error,
		err error)
}

// A DigestError is a blob that is not the one that was asked for.
type DigestError struct{ Got, Want digest.Digest }

func (e *DigestError) Error() string {
	return fmt.Sprintf("a blob arrived as %s and not as %s", e.Got, e.Want)
}

// PutBytes sends a blob that lies in memory, after a look at its digest.
func PutBytes(ctx context.Context, store Store, want digest.Digest, data []byte) error {
	if got := digest.FromBytes(data); got != want {
		return &DigestError{Got: got, Want: want}
	}
	return store.Put(ctx, want, int64(len(data)), func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	})
}
