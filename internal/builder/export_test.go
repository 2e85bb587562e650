package builder

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ecsbuild/ecsbuild/internal/enginetest"
)

// TestClassic: an image is built under its names and pushed through the proxy, once.
func TestClassic(t *testing.T) {
	img := randomImage(t)
	builds := 0
	fake := &enginetest.Engine{}
	fake.Build = func(_ context.Context, b *enginetest.Build) (map[string]string, error) {
		builds++
		if b.Exporter != "moby" || b.ExporterAttrs["name"] != "registry.example/shop:v1,registry.example/shop:latest" {
			t.Errorf("%s %v", b.Exporter, b.ExporterAttrs)
		}
		b.Step("[1/1] COPY app /app")
		b.End("[1/1] COPY app /app", "")
		return map[string]string{"containerimage.digest": fake.Add(img)}, nil
	}
	e := connect(t, fake, false)
	j := job(t, nil)
	for range 2 {
		a, err := e.Build(t.Context(), j)
		if err != nil {
			t.Fatal(err)
		}
		want, err := img.RawManifest()
		if err != nil || !bytes.Equal(a.Root().Data, want) || !a.Root().Whole(t.Context(), j.Store) {
			t.Errorf("%s, %v", a.Root().Data, err)
		}
	}
	e.Close() // waits for names that are removed
	tags := fake.Tags()
	if builds != 2 || len(tags) != 2 || !strings.HasPrefix(tags[0], "+127.0.0.1:") ||
		!strings.HasPrefix(tags[1], "-127.0.0.1:") {
		t.Errorf("%d builds, tags %v", builds, tags) // the second one is not pushed: it is there
	}
}

// TestClassicFails: what the engine says of a push, and of an image that it does not name.
func TestClassicFails(t *testing.T) {
	fake := &enginetest.Engine{NoPush: "no space left on device"}
	answer := map[string]string{}
	fake.Build = func(context.Context, *enginetest.Build) (map[string]string, error) { return answer, nil }
	e := connect(t, fake, false)
	if _, err := e.Build(t.Context(), job(t, nil)); err == nil ||
		!strings.Contains(err.Error(), "does not say what image it has built") {
		t.Errorf("%v", err)
	}
	answer["containerimage.digest"] = digest.FromString("gone").String()
	if _, err := e.Build(t.Context(), job(t, nil)); err == nil || !strings.Contains(err.Error(), "No such image") {
		t.Errorf("%v", err)
	}
	answer["containerimage.digest"] = fake.Add(randomImage(t))
	if _, err := e.Build(t.Context(), job(t, nil)); err == nil ||
		!strings.Contains(err.Error(), "no space left on device") {
		t.Errorf("%v", err)
	}
}

// export hands an image over as BuildKit does.
func export(ctx context.Context, b *enginetest.Build, img v1.Image) (map[string]string, error) {
	store := b.Export()
	put := func(desc ocispec.Descriptor, data []byte) error {
		err := content.WriteBlob(ctx, store, desc.Digest.String(), bytes.NewReader(data), desc)
		if err != nil {
			return fmt.Errorf("%s: %w", desc.Digest, err)
		}
		return nil
	}
	layers, err := img.Layers()
	if err != nil {
		return nil, err
	}
	for _, l := range layers {
		d, err1 := l.Digest()
		size, err2 := l.Size()
		r, err3 := l.Compressed()
		if err := errors.Join(err1, err2, err3); err != nil {
			return nil, err
		}
		var data bytes.Buffer
		if _, err := data.ReadFrom(r); err != nil {
			return nil, err
		}
		if err := put(ocispec.Descriptor{Digest: digest.Digest(d.String()), Size: size,
			MediaType: ocispec.MediaTypeImageLayerGzip}, data.Bytes()); err != nil {
			return nil, err
		}
	}
	config, err1 := img.RawConfigFile()
	manifest, err2 := img.RawManifest()
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	root := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(manifest),
		Size: int64(len(manifest))}
	if err := errors.Join(put(ocispec.Descriptor{Digest: digest.FromBytes(config), Size: int64(len(config))}, config),
		put(root, manifest)); err != nil {
		return nil, err
	}
	desc, err := json.Marshal(root)
	return map[string]string{"containerimage.descriptor": base64.StdEncoding.EncodeToString(desc)}, err
}

func TestContainerd(t *testing.T) {
	img := mutate.MediaType(mutate.ConfigMediaType(randomImage(t), types.OCIConfigJSON), types.OCIManifestSchema1)
	for _, buildkit := range []bool{false, true} {
		fake := &enginetest.Engine{Containerd: true}
		fake.Build = func(ctx context.Context, b *enginetest.Build) (map[string]string, error) { return export(ctx, b, img) }
		e := connect(t, fake, buildkit)
		j := job(t, nil)
		a, err := e.Build(t.Context(), j)
		if err != nil {
			t.Fatal(err)
		}
		if !a.Root().Whole(t.Context(), j.Store) || a.Size() == 0 {
			t.Errorf("%s", a.Root().Data)
		}
	}
}
