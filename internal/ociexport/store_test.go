package ociexport

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"

	"github.com/ecsbuild/ecsbuild/internal/hoststate"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/localregistry"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// target is a registry whose PATCHes are counted and may be refused.
type target struct {
	*registry.Repository
	mu      sync.Mutex
	patches int
	refuse  bool
}

func newTarget(t *testing.T) *target {
	t.Helper()
	out := &target{}
	local := localregistry.New(t.TempDir())
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out.mu.Lock()
		refuse := out.refuse && r.Method == http.MethodPost
		if r.Method == http.MethodPatch {
			out.patches++
		}
		out.mu.Unlock()
		if refuse {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"errors":[{"code":"DENIED","message":"no"}]}`)
			return
		}
		local.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	host, err := registry.ParseHost(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	c := registry.NewClient(host, nil, "test", nil)
	t.Cleanup(c.Close)
	out.Repository = c.Repository("shop")
	return out
}

// blob is n bytes that no compression makes smaller, as a gzip stream or plain.
func blob(t *testing.T, n int, zipped bool) []byte {
	t.Helper()
	data := make([]byte, n)
	if _, err := rand.New(rand.NewSource(int64(n))).Read(data); err != nil {
		t.Fatal(err)
	}
	if !zipped {
		return data
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write(data)
	if err := errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func put(ctx context.Context, s *Store, data []byte, mediaType string) (ocispec.Descriptor, error) {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	return d, content.WriteBlob(ctx, s, d.Digest.String(), bytes.NewReader(data), d)
}

// export has a store take the image of some layers, and gives what BuildKit answers.
func export(t *testing.T, s *Store, layers ...[]byte) (map[string]string, error) {
	t.Helper()
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{}}
	m.SchemaVersion = 2
	var err error
	for _, l := range layers {
		d, perr := put(t.Context(), s, l, ocispec.MediaTypeImageLayerGzip)
		if perr != nil {
			return nil, perr
		}
		m.Layers = append(m.Layers, d)
	}
	if m.Config, err = put(t.Context(), s, []byte(`{"architecture":"amd64"}`), ocispec.MediaTypeImageConfig); err != nil {
		return nil, err
	}
	data, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	root, err := put(t.Context(), s, data, m.MediaType)
	if err != nil {
		return nil, err
	}
	s.Wait()
	raw, err := json.Marshal(root)
	return map[string]string{"containerimage.descriptor": base64.StdEncoding.EncodeToString(raw)}, err
}

func options(to image.Store) Options {
	return Options{Store: to, Compressions: make(chan struct{}, 2)}
}

// TestExport: large layers are streamed and small ones sent, each once, and what the
// registry has is not taken again.
func TestExport(t *testing.T) {
	to := newTarget(t)
	large, small := blob(t, 5<<20, true), blob(t, 1000, true)
	for range 2 {
		s := New(options(to))
		response, err := export(t, s, large, small)
		if err != nil {
			t.Fatal(err)
		}
		a, err := s.Artifact(t.Context(), response)
		if err != nil || !a.Root().Whole(t.Context(), to) || a.Size() != int64(len(large)+len(small)) {
			t.Fatalf("%+v, %v", a, err)
		}
	}
	if to.patches != 3 {
		t.Errorf("%d uploads", to.patches)
	}
	_, err := New(options(to)).Writer(t.Context(),
		content.WithDescriptor(ocispec.Descriptor{Digest: digest.FromBytes(large),
			Size: int64(len(large))}), content.WithRef("r"))
	if !errdefs.IsAlreadyExists(err) {
		t.Errorf("%v", err)
	}
}

// TestExportRecompresses: a layer that BuildKit has in another compression is compressed
// as the image asks for, and the next run knows it.
func TestExportRecompresses(t *testing.T) {
	to, state := newTarget(t), hoststate.Open(t.TempDir())
	large, small := blob(t, 5<<20, true), blob(t, 1000, true)
	var digests []digest.Digest
	for range 2 {
		o := options(to)
		o.Build, o.State = plan.Build{Compression: plan.Zstd}, state
		s := New(o)
		response, err := export(t, s, large, small)
		if err != nil {
			t.Fatal(err)
		}
		a, err := s.Artifact(t.Context(), response)
		if err != nil {
			t.Fatal(err)
		}
		var m image.Contents
		if err := json.Unmarshal(a.Root().Data, &m); err != nil || m.Layers[0].MediaType != ocispec.MediaTypeImageLayerZstd ||
			!a.Root().Whole(t.Context(), to) {
			t.Errorf("%s, %v", a.Root().Data, err)
		}
		digests = append(digests, a.Root().Digest)
	}
	if digests[0] != digests[1] || to.patches != 3 {
		t.Errorf("%v, %d uploads", digests, to.patches)
	}
}

// TestExportRequires: what the registry has in another compression must come once more.
func TestExportRequires(t *testing.T) {
	to := newTarget(t)
	large := blob(t, 5<<20, true)
	if _, err := export(t, New(options(to)), large); err != nil {
		t.Fatal(err)
	}
	o := options(to)
	o.Build = plan.Build{Compression: plan.Zstd}
	s := New(o)
	response, err := export(t, s, large)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Artifact(t.Context(), response)
	var r *RecompressError
	if !errors.As(err, &r) || len(r.Layers) != 1 || r.Layers[0] != digest.FromBytes(large) || r.Error() == "" {
		t.Fatalf("%v", err)
	}
	o.Required = map[digest.Digest]bool{r.Layers[0]: true}
	s = New(o)
	if response, err = export(t, s, large); err != nil {
		t.Fatal(err)
	}
	if a, err := s.Artifact(t.Context(), response); err != nil || !a.Root().Whole(t.Context(), to) {
		t.Errorf("%v", err)
	}
}

// TestExportLevel: a level is always made here; layers that come uncompressed are, too.
func TestExportLevel(t *testing.T) {
	to, level := newTarget(t), 9
	o := options(to)
	o.Build = plan.Build{CompressionLevel: &level}
	s := New(o)
	response, err := export(t, s, blob(t, 5<<20, false), blob(t, 1000, false))
	if err != nil {
		t.Fatal(err)
	}
	if a, err := s.Artifact(t.Context(), response); err != nil || !a.Root().Whole(t.Context(), to) {
		t.Errorf("%v", err)
	}
}

// TestExportIndex: the manifests of an index come before it.
func TestExportIndex(t *testing.T) {
	to := newTarget(t)
	s := New(options(to))
	response, err := export(t, s, blob(t, 1000, true))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(response["containerimage.descriptor"])
	if err != nil {
		t.Fatal(err)
	}
	root, err := put(t.Context(), s, []byte(fmt.Sprintf(`{"mediaType":%q,"manifests":[%s]}`, ocispec.MediaTypeImageIndex,
		raw)), ocispec.MediaTypeImageIndex)
	if err != nil {
		t.Fatal(err)
	}
	if raw, err = json.Marshal(root); err != nil {
		t.Fatal(err)
	}
	a, err := s.Artifact(t.Context(), map[string]string{"containerimage.descriptor": base64.StdEncoding.EncodeToString(raw)})
	if err != nil || len(a.Manifests) != 2 || a.Root().MediaType != ocispec.MediaTypeImageIndex {
		t.Errorf("%+v, %v", a, err)
	}
}

// TestExportFails: the registry's words are kept, and nothing goes on.
func TestExportFails(t *testing.T) {
	to := newTarget(t)
	to.refuse = true
	for _, size := range []int{1000, 5 << 20} {
		s := New(options(to))
		_, err := export(t, s, blob(t, size, true))
		var e *registry.Error
		if err == nil || !errors.As(s.Err(), &e) || e.Status() != http.StatusForbidden {
			t.Errorf("%d bytes: %v, %v", size, err, s.Err())
		}
		s.Wait()
	}
	s := New(options(newTarget(t)))
	for _, response := range []map[string]string{
		{"containerimage.descriptor": "%"},
		{"containerimage.descriptor": ""},
		{"containerimage.descriptor": base64.StdEncoding.EncodeToString([]byte(`{"digest":"sha256:00"}`))},
	} {
		if _, err := s.Artifact(t.Context(), response); err == nil {
			t.Errorf("%v is taken for an image", response)
		}
	}
}

// TestWriter: what is not what it says is refused, and what is given up leaves nothing.
func TestWriter(t *testing.T) {
	to := newTarget(t)
	s := New(options(to))
	open := func(ctx context.Context, size int64) content.Writer {
		t.Helper()
		w, err := s.Writer(ctx, content.WithRef("r"),
			content.WithDescriptor(ocispec.Descriptor{Digest: digest.FromString(fmt.Sprint(size)), Size: size}))
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	w := open(t.Context(), 3)
	if _, err := w.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(t.Context(), 3, ""); err == nil || w.Digest() != digest.FromString("3") {
		t.Errorf("another content is committed: %v", err)
	}
	if st, err := w.Status(); err != nil || st.Offset != 3 || st.Total != 3 || st.Ref != "r" {
		t.Errorf("%+v, %v", st, err)
	}
	if w.Truncate(3) != nil || w.Truncate(0) == nil {
		t.Error("it is cut")
	}
	_ = w.Close()
	if _, err := open(t.Context(), 4).Write(make([]byte, maxKept+1)); err == nil {
		t.Error("more is taken than was announced")
	}
	// Given up half way, by its writer or by the end of the export.
	w = open(t.Context(), maxKept+1)
	if _, err := w.Write(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	ctx, cancel := context.WithCancel(t.Context())
	w = open(ctx, maxKept+2)
	if _, err := w.Write(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	cancel()
	s.Wait()
	_ = open(t.Context(), maxKept+3).Close()
	var unused content.Store = s
	_, err1 := unused.Info(t.Context(), "sha256:00")
	_, err2 := unused.ReaderAt(t.Context(), ocispec.Descriptor{})
	_, err3 := unused.Status(t.Context(), "r")
	if !errdefs.IsNotFound(err1) || !errdefs.IsNotFound(err2) || !errdefs.IsNotFound(err3) {
		t.Error("something can be read back")
	}
	_, err := unused.Writer(t.Context(), func(*content.WriterOpts) error { return errors.New("no") })
	if err == nil || !strings.Contains(err.Error(), "no") {
		t.Errorf("%v", err)
	}
}
