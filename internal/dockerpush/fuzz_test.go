package dockerpush

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/ecsbuild/ecsbuild/internal/layer"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// nowhere is a store that has nothing and takes everything.
type nowhere struct{}

func (nowhere) Has(context.Context, digest.Digest) (int64, bool, error) { return 0, false, nil }

func (nowhere) Claim(context.Context, digest.Digest) (func(), bool, error) {
	return func() {}, false, nil
}

func (nowhere) Put(_ context.Context, _ digest.Digest, _ int64, open func() (io.ReadCloser, error)) error {
	r, err := open()
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, r)
	return r.Close()
}

func (nowhere) Stream(_ context.Context, _ digest.Digest, r io.Reader) (func(context.Context, digest.Digest) error,
	error) {
	_, err := io.Copy(io.Discard, r)
	return func(context.Context, digest.Digest) error { return nil }, err
}

// FuzzArchive: what an engine calls a saved image is one, or an error.
func FuzzArchive(f *testing.F) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, file := range [][2]string{
		{"blobs/sha256/" + strings.Repeat("0", 64), strings.Repeat("\x00", 1024)},
		{"config", `{"rootfs":{"type":"layers","diff_ids":[]}}`},
		{"manifest.json", `[{"Config":"config","Layers":["blobs/sha256/` + strings.Repeat("0", 64) + `","link"]}]`},
	} {
		_ = w.WriteHeader(&tar.Header{Name: file[0], Mode: 0o644, Size: int64(len(file[1]))})
		_, _ = io.WriteString(w, file[1])
	}
	_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "link", Linkname: "../layer.tar"})
	_ = w.Close()
	f.Add(b.Bytes())
	encoding, _ := layer.EncodingOf(plan.Build{})
	f.Fuzz(func(t *testing.T, data []byte) {
		a := &archive{encoding: encoding, store: nowhere{}, layers: map[string]layer.Info{}, small: map[string][]byte{},
			links: map[string]string{}, compressions: make(chan struct{}, 1)}
		g, ctx := errgroup.WithContext(t.Context())
		err := a.read(ctx, g, bytes.NewReader(data))
		if werr := g.Wait(); err == nil && werr == nil {
			_, _ = a.image(t.Context())
		}
	})
}

// FuzzProxy: whatever is put as a manifest, or asked for, is answered.
func FuzzProxy(f *testing.F) {
	p := newProxy(nil)
	if err := p.listen(); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(p.close)
	s := p.open(Push{Image: plan.Image{Repository: "shop"}, Store: nowhere{}})
	f.Add("PUT", "manifests/run", []byte(`{"config":{},"layers":null}`))
	f.Add("PUT", "manifests/run", []byte(`null`))
	f.Add("PATCH", "blobs/uploads/x", []byte("x"))
	f.Add("HEAD", "blobs/sha256:00", []byte{})
	f.Fuzz(func(t *testing.T, method, path string, body []byte) {
		r := httptest.NewRequest(http.MethodGet, "/", bytes.NewReader(body))
		r.Method, r.URL.Path = method, "/v2/"+s.path+"/"+path
		r.Header.Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		r.SetBasicAuth(proxyUser, p.password)
		s.mu.Lock()
		s.ctx = t.Context()
		s.mu.Unlock()
		p.ServeHTTP(httptest.NewRecorder(), r)
		select {
		case <-s.manifest:
		default:
		}
	})
}
