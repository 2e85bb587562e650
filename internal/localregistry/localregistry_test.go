package localregistry

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/registry"
)

// TestLocalKeepsImages opens the folder a second time.
func TestLocalKeepsImages(t *testing.T) {
	dir := t.TempDir()
	addr, stop, err := New(dir).Serve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := registry.NewClient(registry.Host{Name: addr, Plain: true}, nil, "test", nil)
	r := c.Repository("shop/web")
	config := []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`)
	if err := image.PutBytes(t.Context(), r, digest.FromBytes(config), config); err != nil {
		t.Fatal(err)
	}
	manifest := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"` + digest.FromBytes(config).String() + `","size":78},"layers":[]}`)
	if err := r.PutManifest(t.Context(), "v1", "application/vnd.oci.image.manifest.v1+json", manifest); err != nil {
		t.Fatal(err)
	}
	c.Close()
	stop()
	rec := httptest.NewRecorder()
	New(dir).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/v2/shop/web/manifests/v1", nil))
	if rec.Code != http.StatusOK || !bytes.Equal(rec.Body.Bytes(), manifest) {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}
