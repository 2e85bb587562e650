// Package layer compresses the layers of an image, and writes its config and manifest for them.
package layer

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"os"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// An Encoding is how a layer is compressed. Layers of base images stay as they are.
type Encoding struct {
	Epoch       time.Time // no file is later than that; the zero time for files as they are
	Compression plan.Compression
	level       int
}

// EncodingOf returns the encoding that an image asks for, and whether it is another one
// than a classic engine's own.
func EncodingOf(b plan.Build) (e Encoding, custom bool) {
	e = Encoding{Compression: plan.Gzip, level: 5}
	if b.Compression == plan.Zstd {
		e.Compression, e.level, custom = plan.Zstd, 3, true
	}
	if b.CompressionLevel != nil {
		e.level, custom = *b.CompressionLevel, true
	}
	if b.Reproducible {
		e.Epoch, custom = b.Epoch(), true
	}
	return e, custom
}

// Key tells encodings apart in the host state.
func (e Encoding) Key() string {
	return fmt.Sprintf("%s %d %d", e.Compression, e.level, e.Epoch.Unix())
}

func (e Encoding) mediaType() string {
	if e.Compression == plan.Zstd {
		return ocispec.MediaTypeImageLayerZstd
	}
	return image.DockerLayer
}

// blockSize is fixed: pgzip's output depends on it, and on nothing else of the
// machine, so that a layer has the same digest on every host.
const blockSize = 1 << 20

func (e Encoding) compressor(w io.Writer) (io.WriteCloser, error) {
	if e.Compression == plan.Zstd {
		return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(e.level)))
	}
	z, err := pgzip.NewWriterLevel(w, e.level)
	if err != nil {
		return nil, err
	}
	return z, z.SetConcurrency(blockSize, 4)
}

// A SpoolError is a layer that cannot be kept on disk while it is on its way.
type SpoolError struct {
	Folder string
	Err    error
}

func (e *SpoolError) Error() string {
	return "cannot keep a layer in " + e.Folder + ": " + e.Err.Error()
}

func (e *SpoolError) Unwrap() error { return e.Err }

// A Spooled layer lies compressed on disk, so that memory does not grow with
// it and an upload can be tried again.
type Spooled struct {
	file *os.File
	Info
}

// Info is a compressed layer.
type Info struct {
	Desc         ocispec.Descriptor `json:"desc"`
	SourceDiffID digest.Digest      `json:"from"`    // the diffID that the engine has
	DiffID       digest.Digest      `json:"diff_id"` // the one that the registry has
}

// Compress reads a layer's tar and leaves it compressed on disk. Its error is a
// *SpoolError where the disk is the reason.
func (e Encoding) Compress(layer io.Reader) (_ *Spooled, err error) {
	defer func() {
		var file *os.PathError
		if errors.As(err, &file) {
			err = &SpoolError{Folder: os.TempDir(), Err: file.Err}
		}
	}()
	f, err := os.CreateTemp("", "ecsbuild-layer-*")
	if err != nil {
		return nil, err
	}
	p := &Spooled{file: f}
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	// Unlinked at once: nothing is left behind however the run ends.
	if err := os.Remove(f.Name()); err != nil {
		return nil, err
	}
	from, to, sum := sha256.New(), sha256.New(), sha256.New()
	count := &countWriter{w: io.MultiWriter(f, sum)}
	z, err := e.compressor(count)
	if err != nil {
		return nil, err
	}
	in := io.TeeReader(layer, from)
	if e.Epoch.IsZero() {
		to = from
		_, err = io.Copy(z, in)
	} else {
		err = clampTimes(io.MultiWriter(z, to), in, e.Epoch)
	}
	if err != nil {
		return nil, errors.Join(err, z.Close())
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	p.Info = Info{SourceDiffID: Sum256(from), DiffID: Sum256(to),
		Desc: ocispec.Descriptor{MediaType: e.mediaType(), Size: count.n, Digest: Sum256(sum)}}
	return p, nil
}

func Sum256(h hash.Hash) digest.Digest { return digest.NewDigest(digest.SHA256, h) }

func (p *Spooled) Open() (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(p.file, 0, p.Desc.Size)), nil
}

func (p *Spooled) Close() { _ = p.file.Close() }

type countWriter struct {
	w io.Writer
	n int64
}

func (c *countWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// clampTimes copies a tar, and makes every time that is later than epoch epoch.
func clampTimes(w io.Writer, layer io.Reader, epoch time.Time) error {
	in, out := tar.NewReader(layer), tar.NewWriter(w)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if h.ModTime.After(epoch) {
			h.ModTime = epoch
		}
		h.AccessTime, h.ChangeTime = time.Time{}, time.Time{}
		h.Format = tar.FormatUnknown // the smallest that holds what is left
		maps.DeleteFunc(h.PAXRecords, func(k, _ string) bool {
			// read whole, written whole
			return k == "mtime" || k == "atime" || k == "ctime" || strings.HasPrefix(k, "GNU.sparse.")
		})
		if err := out.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(out, in); err != nil {
			return err
		}
	}
	if err := out.Close(); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, layer) // what comes after the end belongs to the diffID
	return err
}

// RewriteConfig writes the engine's config for layers that were compressed here.
func (e Encoding) RewriteConfig(engine []byte, layers []Info) ([]byte, error) {
	if e.Epoch.IsZero() {
		return engine, nil // its diffIDs hold
	}
	var c map[string]json.RawMessage
	var rootfs struct {
		Type    string          `json:"type"`
		DiffIDs []digest.Digest `json:"diff_ids"`
	}
	var history []map[string]any
	if err := errors.Join(json.Unmarshal(engine, &c), json.Unmarshal(c["rootfs"], &rootfs)); err != nil {
		return nil, fmt.Errorf("the engine's config of the image: %w", err)
	}
	if h := c["history"]; h != nil && json.Unmarshal(h, &history) != nil {
		return nil, errors.New("the engine's config of the image has a history that cannot be read")
	}
	to := map[digest.Digest]digest.Digest{}
	for _, l := range layers {
		to[l.SourceDiffID] = l.DiffID
	}
	for i, d := range rootfs.DiffIDs {
		if rewritten, ok := to[d]; ok {
			rootfs.DiffIDs[i] = rewritten
		}
	}
	for _, h := range history {
		if t, ok := h["created"].(string); ok {
			h["created"] = e.clamp(t)
		}
	}
	var created string
	if json.Unmarshal(c["created"], &created) == nil {
		c["created"], _ = json.Marshal(e.clamp(created))
	}
	var err1, err2 error
	c["rootfs"], err1 = json.Marshal(rootfs)
	if history != nil {
		c["history"], err2 = json.Marshal(history)
	}
	out, err := json.Marshal(c)
	return out, errors.Join(err1, err2, err)
}

func (e Encoding) clamp(text string) string {
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil && t.After(e.Epoch) {
		return e.Epoch.Format(time.RFC3339)
	}
	return text
}

// Manifest writes the manifest of layers, bottom first. An image with a layer
// that Docker's own types have no name for is one of OCI's.
func (e Encoding) Manifest(config []byte, layers []Info) (image.Manifest, error) {
	m := ocispec.Manifest{MediaType: image.DockerManifest, Layers: []ocispec.Descriptor{},
		Config: ocispec.Descriptor{MediaType: image.DockerConfig, Digest: digest.FromBytes(config), Size: int64(len(config))}}
	m.SchemaVersion = 2
	oci := e.Compression == plan.Zstd
	if oci {
		m.MediaType, m.Config.MediaType = ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig
	}
	for _, l := range layers {
		d := ocispec.Descriptor{MediaType: l.Desc.MediaType, Digest: l.Desc.Digest, Size: l.Desc.Size}
		if oci && d.MediaType == image.DockerLayer {
			d.MediaType = ocispec.MediaTypeImageLayerGzip
		}
		m.Layers = append(m.Layers, d)
	}
	data, err := json.MarshalIndent(m, "", "   ")
	return image.Manifest{MediaType: m.MediaType, Digest: digest.FromBytes(data), Data: data}, err
}
