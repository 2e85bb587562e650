package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ecsbuild/ecsbuild/internal/atomicfile"
	"github.com/ecsbuild/ecsbuild/internal/cachemount"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/registry"
)

// The archives of an image's cache mounts are an OCI artifact: a layer for each mount.
// https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md#guidelines-for-artifact-usage
const (
	mountsArtifact   = "application/vnd.ecsbuild.cachemounts.v1"
	mountLayer       = "application/vnd.ecsbuild.cachemount.v1.tar+zstd"
	mountID          = "dev.ecsbuild.cachemount.id"
	mountListing     = "dev.ecsbuild.cachemount.listing"
	mountsSeconds    = "dev.ecsbuild.cachemounts.seconds" // that the steps took which use them, when they were empty
	maxMountManifest = 1 << 20
)

// A mountStore keeps the archives of one image's cache mounts.
type mountStore interface {
	// load returns the artifact, nil where there is none.
	load(ctx context.Context) (*ocispec.Manifest, error)
	// fetch makes a file of a layer.
	fetch(ctx context.Context, layer ocispec.Descriptor, file string) error
	// put keeps a layer that is a file.
	put(ctx context.Context, layer ocispec.Descriptor, file string) error
	// save keeps the artifact, whose layers have been put.
	save(ctx context.Context, m ocispec.Manifest) error
}

func newMountManifest() ocispec.Manifest {
	return ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		ArtifactType: mountsArtifact, Config: ocispec.DescriptorEmptyJSON, Annotations: map[string]string{}}
}

// parseMounts reads an artifact, and does not believe what could not be one.
func parseMounts(data []byte) (*ocispec.Manifest, error) {
	var m ocispec.Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, err
	}
	if m.ArtifactType != mountsArtifact {
		return nil, errors.New("it is something else: " + m.ArtifactType)
	}
	for _, l := range m.Layers {
		if err := l.Digest.Validate(); err != nil {
			return nil, err
		}
		if l.Size < 0 || l.Size > cachemount.DefaultLimits.Bytes {
			return nil, fmt.Errorf("a layer has %d bytes", l.Size)
		}
	}
	return &m, nil
}

// registryMounts keeps them under a tag of the image's repository.
type registryMounts struct {
	repo *registry.Repository
	tag  string
}

func (s registryMounts) load(ctx context.Context) (*ocispec.Manifest, error) {
	_, data, ok, err := s.repo.Manifest(ctx, s.tag)
	if err != nil || !ok {
		return nil, err
	}
	return parseMounts(data)
}

func (s registryMounts) fetch(ctx context.Context, l ocispec.Descriptor, file string) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(s.repo.Download(ctx, l.Digest, l.Size, f), f.Close())
}

func (s registryMounts) put(ctx context.Context, l ocispec.Descriptor, file string) error {
	return s.repo.Put(ctx, l.Digest, l.Size, func() (io.ReadCloser, error) { return os.Open(file) })
}

func (s registryMounts) save(ctx context.Context, m ocispec.Manifest) error {
	data, err := json.Marshal(m)
	if err == nil {
		err = image.PutBytes(ctx, s.repo, m.Config.Digest, ocispec.DescriptorEmptyJSON.Data)
	}
	if err != nil {
		return err
	}
	return s.repo.PutManifest(ctx, s.tag, m.MediaType, data)
}

// localMounts keeps them in a folder: manifest.json, and a file for each layer.
type localMounts struct {
	folder string
	alone  func() bool // nobody else uses the folder
}

func (s localMounts) manifest() string { return filepath.Join(s.folder, "manifest.json") }

func (s localMounts) layer(d digest.Digest) string {
	return filepath.Join(s.folder, d.Encoded()+".tar.zst")
}

func (s localMounts) load(context.Context) (*ocispec.Manifest, error) {
	st, err := os.Stat(s.manifest())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && (!st.Mode().IsRegular() || st.Size() > maxMountManifest) {
		err = errors.New("manifest.json is no small file")
	}
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(s.manifest())
	if err != nil {
		return nil, err
	}
	return parseMounts(data)
}

func (s localMounts) fetch(_ context.Context, l ocispec.Descriptor, file string) error {
	from := s.layer(l.Digest)
	if st, err := os.Stat(from); err != nil || !st.Mode().IsRegular() || st.Size() != l.Size {
		return fmt.Errorf("%s is not a file of %d bytes", from, l.Size)
	}
	if err := linkOrCopy(from, file); err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	got, err := l.Digest.Algorithm().FromReader(f)
	if err == nil && got != l.Digest {
		err = fmt.Errorf("%s has the content of %s", from, got)
	}
	return err
}

func (s localMounts) put(_ context.Context, l ocispec.Descriptor, file string) error {
	if err := os.MkdirAll(s.folder, 0o700); err != nil {
		return err
	}
	to := s.layer(l.Digest)
	if st, err := os.Stat(to); err == nil && st.Size() == l.Size {
		return nil
	}
	_ = os.Remove(to)
	return linkOrCopy(file, to)
}

// save writes the manifest, and deletes what it does not name.
func (s localMounts) save(_ context.Context, m ocispec.Manifest) error {
	data, err := json.Marshal(m)
	if err == nil {
		err = atomicfile.Write(s.manifest(), data, 0o600)
	}
	if err != nil || !s.alone() {
		return err
	}
	named := map[string]bool{s.manifest(): true}
	for _, l := range m.Layers {
		named[s.layer(l.Digest)] = true
	}
	entries, err := os.ReadDir(s.folder)
	for _, e := range entries {
		if file := filepath.Join(s.folder, e.Name()); !named[file] {
			err = errors.Join(err, os.Remove(file))
		}
	}
	return err
}

// linkOrCopy makes a file of another one, which lies on another file system, perhaps. Where it
// fails, there is none.
func linkOrCopy(from, to string) (err error) {
	if os.Link(from, to) == nil {
		return nil
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(to)
		}
	}()
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
