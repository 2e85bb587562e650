package enginetest

import (
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// uncompressed is an image as an engine saves it: its layers are plain tars.
type uncompressed struct{ v1.Image }

func (u uncompressed) Layers() ([]v1.Layer, error) {
	layers, err := u.Image.Layers()
	out := make([]v1.Layer, len(layers))
	for i, l := range layers {
		out[i] = plainLayer{l}
	}
	return out, err
}

func (u uncompressed) LayerByDigest(h v1.Hash) (v1.Layer, error) {
	layers, err := u.Layers()
	if err != nil {
		return nil, err
	}
	for _, l := range layers {
		if d, err := l.Digest(); err == nil && d == h {
			return l, nil
		}
	}
	return u.Image.LayerByDigest(h)
}

func (u uncompressed) Manifest() (*v1.Manifest, error) {
	m, err := u.Image.Manifest()
	if err != nil {
		return nil, err
	}
	m = m.DeepCopy()
	layers, err := u.Layers()
	if err != nil {
		return nil, err
	}
	for i, l := range layers {
		d, err := partial.Descriptor(l)
		if err != nil {
			return nil, err
		}
		m.Layers[i] = *d
	}
	return m, nil
}

type plainLayer struct{ v1.Layer }

func (l plainLayer) Digest() (v1.Hash, error)           { return l.DiffID() }
func (l plainLayer) Compressed() (io.ReadCloser, error) { return l.Uncompressed() }
func (plainLayer) MediaType() (types.MediaType, error)  { return types.DockerUncompressedLayer, nil }
func (l plainLayer) Size() (int64, error) {
	r, err := l.Uncompressed()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	return io.Copy(io.Discard, r)
}
