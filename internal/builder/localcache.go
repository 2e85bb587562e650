package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/ecsbuild/ecsbuild/internal/image"
)

// FindLocalCache looks for the cache of an image in its folder: cache: local. Its error says
// what is wrong with one that is there.
func FindLocalCache(ctx context.Context, folder string) (CacheStatus, error) {
	file := filepath.Join(folder, ocispec.ImageIndexFile)
	st, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return CacheMissing, nil
	}
	var data []byte
	switch {
	case err != nil:
	case !st.Mode().IsRegular() || st.Size() > maxManifest:
		err = errors.New("its index is no file of a few bytes")
	default:
		data, err = os.ReadFile(file)
	}
	var index image.Contents
	if err == nil {
		err = json.Unmarshal(data, &index)
	}
	if err == nil && len(index.Manifests) == 0 {
		err = errors.New("its index names nothing")
	}
	for _, m := range index.Manifests {
		err = errors.Join(err, checkLocalBlobs(ctx, folder, m))
	}
	if err != nil {
		return CacheMissing, err
	}
	return CacheFound, nil
}

// checkLocalBlobs looks whether what a manifest names is there, and is what its digest says:
// an engine cannot build any more on layers that it has begun to take from a broken cache.
func checkLocalBlobs(ctx context.Context, folder string, manifest ocispec.Descriptor) error {
	data, err := readLocalBlob(folder, manifest)
	if err != nil {
		return err
	}
	var c image.Contents
	if err := json.Unmarshal(data, &c); err != nil {
		return err
	}
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, d := range append(append(c.Layers, c.Manifests...), c.Config) {
		if d.Digest != "" {
			g.Go(func() error {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				return checkLocalBlob(folder, d)
			})
		}
	}
	return g.Wait()
}

// maxManifest bounds a manifest that is read, in bytes.
const maxManifest = 4 << 20

func readLocalBlob(folder string, d ocispec.Descriptor) ([]byte, error) {
	f, err := openLocalBlob(folder, d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxManifest))
}

func openLocalBlob(folder string, d ocispec.Descriptor) (*os.File, error) {
	if err := d.Digest.Validate(); err != nil {
		return nil, err
	}
	path := filepath.Join(folder, ocispec.ImageBlobsDir, d.Digest.Algorithm().String(), d.Digest.Encoded())
	if st, err := os.Stat(path); err != nil || st.Size() != d.Size || !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file of %d bytes", d.Digest, d.Size)
	}
	return os.Open(path)
}

func checkLocalBlob(folder string, d ocispec.Descriptor) error {
	f, err := openLocalBlob(folder, d)
	if err != nil {
		return err
	}
	defer f.Close()
	got, err := d.Digest.Algorithm().FromReader(f)
	if err == nil && got != d.Digest {
		err = fmt.Errorf("%s has the content of %s", d.Digest, got)
	}
	return err
}
