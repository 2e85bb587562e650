package localregistry

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

// FuzzRequest: whatever is asked is answered, and nothing is written outside of the folder.
func FuzzRequest(f *testing.F) {
	f.Add("PUT", "/v2/a/manifests/latest", "", "application/vnd.oci.image.manifest.v1+json",
		[]byte(`{"schemaVersion":2,"config":{"digest":"sha256:00"},"layers":[]}`))
	f.Add("POST", "/v2/a/blobs/uploads/", "digest=sha256:00&mount=x&from=y", "", []byte("x"))
	f.Add("GET", "/v2/a/tags/list", "n=-1&last=a", "", []byte{})
	f.Add("GET", "/v2/a/referrers/sha256:00", "artifactType=x", "", []byte{})
	f.Add("PUT", "/v2/../../x/manifests/..", "", "x", []byte("null"))
	parent := f.TempDir()
	l := New(filepath.Join(parent, "registry"))
	f.Fuzz(func(t *testing.T, method, path, query, mediaType string, body []byte) {
		r := httptest.NewRequest(http.MethodGet, "/", bytes.NewReader(body))
		r.Method, r.URL.Path, r.URL.RawQuery = method, path, query
		r.Header.Set("Content-Type", mediaType)
		r.Header.Set("Content-Range", query)
		l.ServeHTTP(httptest.NewRecorder(), r)
		if entries, err := os.ReadDir(parent); err != nil || len(entries) > 1 {
			t.Errorf("%v, %v", entries, err)
		}
	})
}
