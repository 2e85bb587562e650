package ociexport

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/ecsbuild/ecsbuild/internal/image"
)

// CopyFrom takes the blobs of an image from the folder where an engine on this machine keeps
// them, as BuildKit would hand them over: what the registry has is not read. blobs is the
// folder blobs of a containerd content store. A blob that is neither there nor in the
// registry, since the engine has not needed it yet, is an error that is fs.ErrNotExist.
func (s *Store) CopyFrom(ctx context.Context, blobs string, root ocispec.Descriptor) error {
	if err := root.Digest.Validate(); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	if isManifest(root.MediaType) {
		data, err := os.ReadFile(blobFile(blobs, root))
		if err != nil {
			return err
		}
		var m image.Contents
		if err := json.Unmarshal(data, &m); err != nil {
			return err
		}
		below := append(m.Manifests, m.Layers...)
		if m.Config.Digest != "" {
			below = append(below, m.Config)
		}
		for _, d := range below {
			g.Go(func() error { return s.CopyFrom(gctx, blobs, d) })
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return s.copyBlob(ctx, blobs, root)
}

func (s *Store) copyBlob(ctx context.Context, blobs string, d ocispec.Descriptor) error {
	f, err := os.Open(blobFile(blobs, d))
	if errors.Is(err, fs.ErrNotExist) && !s.encodings.required[d.Digest] {
		release, there, cerr := s.target.Claim(ctx, d.Digest) // which waits for one that is on its way
		if cerr != nil {
			return s.fail(cerr)
		}
		if there {
			return nil
		}
		release()
	}
	if err != nil {
		return err
	}
	defer f.Close()
	w, err := s.Writer(ctx, content.WithDescriptor(d), content.WithRef(d.Digest.String()))
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := io.CopyBuffer(struct{ io.Writer }{w}, f, make([]byte, copyBuffer)); err != nil {
		return err
	}
	return w.Commit(ctx, d.Size, d.Digest)
}

// copyBuffer is what is read of a blob at once, in bytes.
const copyBuffer = 256 << 10

func blobFile(blobs string, d ocispec.Descriptor) string {
	return filepath.Join(blobs, d.Digest.Algorithm().String(), d.Digest.Encoded())
}

func isManifest(mediaType string) bool {
	switch mediaType {
	case ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, image.DockerManifest, image.DockerManifestList:
		return true
	}
	return false
}
