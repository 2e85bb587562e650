package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// blobs is a Store that knows some blobs and takes others.
type blobs map[digest.Digest]int64

func (b blobs) Has(_ context.Context, d digest.Digest) (int64, bool, error) {
	size, ok := b[d]
	if size < 0 {
		return 0, false, errors.New("the registry is away")
	}
	return size, ok, nil
}

func (b blobs) Put(_ context.Context, d digest.Digest, size int64, open func() (io.ReadCloser, error)) error {
	r, err := open()
	if err == nil {
		_, err = io.Copy(io.Discard, r)
	}
	b[d] = size
	return err
}

func (blobs) Claim(context.Context, digest.Digest) (func(), bool, error) {
	return nil, false, errors.ErrUnsupported
}

func (blobs) Stream(context.Context, digest.Digest, io.Reader) (func(context.Context, digest.Digest) error, error) {
	return nil, errors.ErrUnsupported
}

func manifest(config, layer digest.Digest) Manifest {
	data := fmt.Sprintf(`{"schemaVersion":2,"config":{"digest":%q,"size":2},"layers":[{"digest":%q,"size":10},{"digest":%q,"size":10}]}`, config, layer, layer)
	return Manifest{MediaType: DockerManifest, Digest: digest.FromString(data), Data: []byte(data)}
}

func TestWhole(t *testing.T) {
	config, layer := digest.FromString("{}"), digest.FromString("layer")
	m := manifest(config, layer)
	other := m
	other.Digest = digest.FromString("other")
	for name, tt := range map[string]struct {
		m    Manifest
		has  blobs
		want bool
	}{
		"all there":              {m, blobs{config: 2, layer: 10}, true},
		"no config":              {m, blobs{layer: 10}, false},
		"no layer":               {m, blobs{config: 2}, false},
		"nobody answers":         {m, blobs{config: -1, layer: 10}, false},
		"of another digest":      {other, blobs{config: 2, layer: 10}, false},
		"no manifest":            {Manifest{Digest: digest.FromString("x"), Data: []byte("x")}, blobs{}, false},
		"an index, which has no": {Manifest{Digest: digest.FromString("{}"), Data: []byte("{}")}, blobs{}, true},
	} {
		if got := tt.m.Whole(t.Context(), tt.has); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestSize counts each layer once.
func TestSize(t *testing.T) {
	a := Artifact{Manifests: []Manifest{{Data: []byte("broken")}, manifest("sha256:c", "sha256:l"),
		manifest("sha256:d", "sha256:l")}}
	if a.Size() != 10 || a.Root().Digest != a.Manifests[2].Digest {
		t.Errorf("%d bytes", a.Size())
	}
}

func TestPutBytes(t *testing.T) {
	b := blobs{}
	if err := PutBytes(t.Context(), b, digest.FromString("{}"), []byte("{}")); err != nil ||
		b[digest.FromString("{}")] != 2 {
		t.Errorf("%v, %v", err, b)
	}
	if err := PutBytes(t.Context(), b, digest.FromString("other"), []byte("{}")); err == nil || len(b) != 1 {
		t.Errorf("%v, %v", err, b)
	}
}

// TestConfig: labels change, and every other key stays as it was.
func TestConfig(t *testing.T) {
	c, err := ParseConfig([]byte(`{"architecture":"amd64","config":{"Env":["A=1"],"Labels":{"a":"b"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	c.Labels["c"] = "d"
	out, err := c.Encode()
	if want := `{"architecture":"amd64","config":{"Env":["A=1"],"Labels":{"a":"b","c":"d"}}}`; err != nil ||
		string(out) != want {
		t.Errorf("%s, %v", out, err)
	}
	clear(c.Labels)
	out, err = c.Encode()
	if want := `{"architecture":"amd64","config":{"Env":["A=1"]}}`; err != nil || string(out) != want {
		t.Errorf("%s, %v", out, err)
	}
	for _, empty := range []string{"{}", "null"} {
		if c, err := ParseConfig([]byte(empty)); err != nil || c.Labels == nil {
			t.Errorf("%s: %v", empty, err)
		}
	}
	for _, broken := range []string{"", "[]", `{"config":[]}`, `{"config":{"Labels":[]}}`} {
		if _, err := ParseConfig([]byte(broken)); err == nil {
			t.Errorf("%q is taken for a config", broken)
		}
	}
}

func TestWithConfig(t *testing.T) {
	m := manifest("sha256:c", "sha256:l")
	out, err := WithConfig(m, []byte("{ }"))
	if err != nil || !strings.Contains(string(out.Data), digest.FromString("{ }").String()) ||
		out.Digest != digest.FromBytes(out.Data) || out.MediaType != m.MediaType {
		t.Errorf("%s, %v", out.Data, err)
	}
	for _, broken := range []string{"", "[]"} {
		if _, err := WithConfig(Manifest{Data: []byte(broken)}, nil); err == nil {
			t.Errorf("%q is taken for a manifest", broken)
		}
		if _, err := (Manifest{Data: []byte(broken)}).WithKey("a", 1); err == nil {
			t.Errorf("%q is taken for a manifest", broken)
		}
	}
}
