package ociexport

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ecsbuild/ecsbuild/internal/image"
)

// keep puts a blob where a containerd content store has it.
func keep(t *testing.T, blobs string, data []byte, mediaType string) ocispec.Descriptor {
	t.Helper()
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	if err := errors.Join(os.MkdirAll(filepath.Join(blobs, "sha256"), 0o755),
		os.WriteFile(blobFile(blobs, d), data, 0o644)); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestCopyFrom takes an image from a folder. What the registry has need not be there.
func TestCopyFrom(t *testing.T) {
	small, large := blob(t, 1000, true), blob(t, maxKept+1000, true)
	for name, tt := range map[string]struct {
		gone     []byte // a layer that the engine has not fetched
		there    bool   // in the registry
		required bool   // it must come all the same
		want     error
	}{
		"all there":                               {},
		"a small layer is in the registry":        {gone: small, there: true},
		"a large layer is in the registry":        {gone: large, there: true},
		"a small layer is nowhere":                {gone: small, want: fs.ErrNotExist},
		"a large layer is nowhere":                {gone: large, want: fs.ErrNotExist},
		"a layer is there, and in another form":   {gone: large, there: true, required: true, want: fs.ErrNotExist},
		"a layer is there, and in the folder too": {there: true},
	} {
		t.Run(name, func(t *testing.T) {
			blobs, target := t.TempDir(), newTarget(t)
			m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest,
				Config: keep(t, blobs, []byte(`{"architecture":"amd64"}`), ocispec.MediaTypeImageConfig)}
			m.SchemaVersion = 2
			for _, l := range [][]byte{small, large} {
				m.Layers = append(m.Layers, keep(t, blobs, l, ocispec.MediaTypeImageLayerGzip))
			}
			data, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			root := keep(t, blobs, data, m.MediaType)
			if tt.there {
				if err := image.PutBytes(t.Context(), target, digest.FromBytes(large), large); err != nil {
					t.Fatal(err)
				}
				if err := image.PutBytes(t.Context(), target, digest.FromBytes(small), small); err != nil {
					t.Fatal(err)
				}
			}
			patches := target.patches
			required := map[digest.Digest]bool{}
			if tt.gone != nil {
				d := ocispec.Descriptor{Digest: digest.FromBytes(tt.gone)}
				required[d.Digest] = tt.required
				if err := os.Remove(blobFile(blobs, d)); err != nil {
					t.Fatal(err)
				}
			}
			s := New(Options{Store: target, Required: required, Compressions: make(chan struct{}, 1)})
			if err := s.CopyFrom(t.Context(), blobs, root); !errors.Is(err, tt.want) {
				t.Fatal(err)
			}
			s.Wait()
			if tt.want != nil {
				return
			}
			if tt.there && target.patches > patches {
				t.Errorf("%d uploads", target.patches-patches)
			}
			raw, _ := json.Marshal(root)
			a, err := s.Artifact(t.Context(), map[string]string{"containerimage.descriptor": base64.StdEncoding.EncodeToString(raw)})
			if err != nil || a.Root().Digest != root.Digest || !a.Root().Whole(t.Context(), target) {
				t.Errorf("%+v, %v", a, err)
			}
		})
	}
	if _, err := Root(map[string]string{"containerimage.descriptor": "!"}); err == nil {
		t.Error("no descriptor is one")
	}
}
