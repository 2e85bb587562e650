package engine

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/klauspost/pgzip"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// buildAndSave is for a classic engine that cannot reach the door: it saves
// the image, and its layers are compressed here, in parallel.
func (e *Engine) buildAndSave(ctx context.Context, r Request, sink Sink) (*Built, error) {
	r.Note("the engine has a loopback of its own: its layers are saved and compressed here")
	copies := e.newCopies(r.Image, nil) // none: its layers are compressed here
	defer copies.end()
	if _, err := e.solve(ctx, &r, moby(r.Names), copies, false); err != nil {
		return nil, err
	}
	archive, err := e.docker.ImageSave(ctx, []string{r.Names[0]})
	if err != nil {
		return nil, fmt.Errorf("%s saves %s: %w", e, r.Names[0], err)
	}
	defer archive.Close()
	b, err := sendArchive(ctx, archive, sink)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return b, err
}

// A saved image has two shapes: <id>/layer.tar with symlinks for repeats
// (engines 20.10 to 24), and an OCI layout with uncompressed layers under
// blobs/sha256 (25 and later). Both have manifest.json.
// https://github.com/moby/docker-image-spec
type savedManifest []struct {
	Config string
	Layers []string
}

// sendArchive reads the archive once; each layer is on its way to the sink
// while the next is read.
func sendArchive(ctx context.Context, archive io.Reader, sink Sink) (*Built, error) {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	layers := map[string]ocispec.Descriptor{} // by name in the archive
	small := map[string][]byte{}
	links := map[string]string{}
	err := func() error {
		tr := tar.NewReader(archive)
		for {
			h, err := tr.Next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("the saved image broke off: %w", err)
			}
			switch {
			case h.Typeflag == tar.TypeSymlink:
				links[h.Name] = path.Join(path.Dir(h.Name), h.Linkname)
			case h.Typeflag != tar.TypeReg:
			default:
				head := make([]byte, min(h.Size, 512))
				if _, err := io.ReadFull(tr, head); err != nil {
					return fmt.Errorf("the saved image broke off: %w", err)
				}
				body := io.MultiReader(bytes.NewReader(head), tr)
				if h.Size <= maxKept && !isTar(head) {
					if small[h.Name], err = io.ReadAll(body); err != nil {
						return err
					}
					continue
				}
				l, err := compress(body)
				if err != nil {
					return err
				}
				layers[h.Name] = l.desc
				g.Go(func() error {
					defer l.remove()
					return sink.Put(gctx, l.desc.Digest, l.desc.Size, l.open)
				})
			}
			if gctx.Err() != nil {
				return nil // Wait has the reason
			}
		}
	}()
	if werr := g.Wait(); werr != nil {
		return nil, werr
	}
	if err != nil {
		return nil, err
	}
	return assemble(ctx, small, layers, links, sink)
}

// isTar looks for the magic of a tar header; an empty layer is zeros alone.
func isTar(head []byte) bool {
	return len(head) == 512 && (bytes.HasPrefix(head[257:], []byte("ustar")) || bytes.Count(head, []byte{0}) == 512)
}

// assemble writes the manifest for the layers as we compressed them. The
// config, and with it the image ID, is the engine's.
func assemble(ctx context.Context, small map[string][]byte, layers map[string]ocispec.Descriptor, links map[string]string, sink Sink) (*Built, error) {
	var saved savedManifest
	if err := json.Unmarshal(small["manifest.json"], &saved); err != nil || len(saved) != 1 {
		return nil, errors.New("the saved image has no manifest.json of one image")
	}
	config, ok := small[saved[0].Config]
	if !ok {
		return nil, fmt.Errorf("the saved image has no config %s", saved[0].Config)
	}
	const schema2 = "application/vnd.docker.distribution.manifest.v2+json"
	m := ocispec.Manifest{MediaType: schema2, Config: ocispec.Descriptor{MediaType: "application/vnd.docker.container.image.v1+json", Digest: digest.FromBytes(config), Size: int64(len(config))}, Layers: []ocispec.Descriptor{}}
	m.SchemaVersion = 2
	for _, name := range saved[0].Layers {
		if target, ok := links[name]; ok {
			name = target
		}
		d, ok := layers[name]
		if !ok {
			return nil, fmt.Errorf("the saved image has no layer %s", name)
		}
		m.Layers = append(m.Layers, d)
	}
	if err := putBytes(ctx, sink, m.Config.Digest, config); err != nil {
		return nil, err
	}
	data, err := json.MarshalIndent(m, "", "   ")
	if err != nil {
		return nil, err
	}
	return &Built{Manifests: []Manifest{{MediaType: schema2, Digest: digest.FromBytes(data), Data: data}}}, nil
}

// A spooled layer lies compressed on disk, so that memory does not grow with
// it and an upload can be tried again.
type spooled struct {
	file *os.File
	desc ocispec.Descriptor
}

// blockSize is fixed: pgzip's output depends on it, and on nothing else of the
// machine, so that a layer has the same digest on every host.
const blockSize = 1 << 20

func compress(r io.Reader) (_ *spooled, err error) {
	f, err := os.CreateTemp("", "ecsbuild-layer-*")
	if err != nil {
		return nil, err
	}
	l := &spooled{file: f}
	defer func() {
		if err != nil {
			l.remove()
		}
	}()
	// Unlinked at once: nothing is left behind however the run ends.
	if err := os.Remove(f.Name()); err != nil {
		return nil, err
	}
	hash := sha256.New()
	count := &countWriter{w: io.MultiWriter(f, hash)}
	z, err := pgzip.NewWriterLevel(count, 5)
	if err != nil {
		return nil, err
	}
	if err := z.SetConcurrency(blockSize, 4); err != nil {
		return nil, err
	}
	if _, err := io.Copy(z, r); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	l.desc = ocispec.Descriptor{MediaType: "application/vnd.docker.image.rootfs.diff.tar.gzip", Size: count.n, Digest: digest.NewDigest(digest.SHA256, hash)}
	return l, nil
}

func (l *spooled) open() (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(l.file, 0, l.desc.Size)), nil
}

func (l *spooled) remove() { _ = l.file.Close() }

type countWriter struct {
	w io.Writer
	n int64
}

func (c *countWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
