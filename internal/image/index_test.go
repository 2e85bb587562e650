package image

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func artifactOf(mediaType, text string) *Artifact {
	return &Artifact{Manifests: []Manifest{{MediaType: mediaType, Digest: digest.FromString(text), Data: []byte(text)}},
		DiffIDs: [][]digest.Digest{{digest.FromString("layer of " + text)}}}
}

// TestJoin: an index names the images of all parts, with their platforms.
func TestJoin(t *testing.T) {
	amd := artifactOf(ocispec.MediaTypeImageManifest, `{"schemaVersion":2}`)
	arm := artifactOf(ocispec.MediaTypeImageManifest, `{"schemaVersion":2,"x":1}`)
	joined, err := Join([]Part{{[]string{"linux/amd64"}, amd}, {[]string{"linux/arm64/v8"}, arm}})
	if err != nil {
		t.Fatal(err)
	}
	root := joined.Root()
	if len(joined.Manifests) != 3 || root.MediaType != ocispec.MediaTypeImageIndex ||
		root.Digest != digest.FromBytes(root.Data) || len(joined.DiffIDs) != 2 {
		t.Errorf("%+v", joined)
	}
	var index ocispec.Index
	if err := json.Unmarshal(root.Data, &index); err != nil || index.SchemaVersion != 2 || len(index.Manifests) != 2 {
		t.Fatalf("%s %v", root.Data, err)
	}
	for i, want := range []*Artifact{amd, arm} {
		m := index.Manifests[i]
		if m.Digest != want.Root().Digest || m.Size != int64(len(want.Root().Data)) ||
			m.MediaType != ocispec.MediaTypeImageManifest {
			t.Errorf("%+v", m)
		}
	}
	if p := index.Manifests[1].Platform; p.OS != "linux" || p.Architecture != "arm64" || p.Variant != "" {
		t.Errorf("%+v", p)
	}

	// A part may be an index already.
	third := artifactOf(ocispec.MediaTypeImageManifest, `{"schemaVersion":2,"x":2}`)
	all, err := Join([]Part{{[]string{"linux/amd64", "linux/arm64"}, joined}, {[]string{"linux/arm/v7"}, third}})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(all.Manifests); n != 4 || strings.Count(string(all.Root().Data), `"platform"`) != 3 {
		t.Errorf("%d manifests, %s", n, all.Root().Data)
	}
	_, err = Join([]Part{{[]string{"linux/amd64"}, third}, {[]string{"linux/amd64", "linux/arm64"}, joined}})
	if err == nil || err.Error() != "the platform linux/amd64 is there twice" {
		t.Error(err)
	}

	docker, err := Join([]Part{{[]string{"linux/amd64"}, artifactOf(DockerManifest, `{}`)},
		{[]string{"linux/arm64"}, artifactOf(DockerManifest, `{"x":1}`)}})
	if err != nil || docker.Root().MediaType != DockerManifestList {
		t.Error(err, docker)
	}
	for name, p := range map[string]Part{
		"no JSON":     {[]string{"linux/amd64"}, artifactOf(DockerManifest, `{`)},
		"no index":    {[]string{"linux/amd64", "linux/arm64"}, artifactOf(DockerManifest, `{}`)},
		"no platform": {[]string{"a/b/c/d/e"}, artifactOf(DockerManifest, `{}`)},
	} {
		if _, err := Join([]Part{p}); err == nil {
			t.Error(name)
		}
	}
}
