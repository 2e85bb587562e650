package localregistry

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/registry"
)

// TestHostileNames: no name leads out of the folder, to read or to write.
func TestHostileNames(t *testing.T) {
	dir := t.TempDir()
	secret := []byte("secret")
	d := digest.FromBytes(secret)
	outside := filepath.Join(dir, "blobs", "sha256", d.Encoded())
	if err := os.MkdirAll(filepath.Dir(outside), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(outside, secret, 0o644); err != nil {
		t.Fatal(err)
	}
	l := New(filepath.Join(dir, "registry"))
	for _, request := range []string{"GET /v2/../blobs/" + d.String(), "GET /v2/%2e%2e/blobs/" + d.String(),
		"POST /v2/a/blobs/uploads/?mount=" + d.String() + "&from=..", "GET /v2/a/manifests/..%2f..%2fx",
		"PUT /v2/a/manifests/..%2f..%2fx", "GET /v2/a/blobs/sha256:..%2f..%2fx", "DELETE /v2/../blobs/" + d.String(),
		"GET /v2/a/referrers/..", "PUT /v2/a/blobs/uploads/..?digest=" + d.String()} {
		method, target, _ := strings.Cut(request, " ")
		rec := httptest.NewRecorder()
		l.ServeHTTP(rec, httptest.NewRequest(method, target, strings.NewReader("{}")))
		if rec.Code == http.StatusOK || rec.Code == http.StatusCreated {
			t.Errorf("%s: %d %s", request, rec.Code, rec.Body)
		}
	}
	if _, err := os.Stat(outside); err != nil {
		t.Error(err)
	}
}

// TestUploadEnds: what is not whole is not kept, and nothing is left of it.
func TestUploadEnds(t *testing.T) {
	dir := t.TempDir()
	l := New(dir)
	send := func(method, target, body string, headers ...string) *httptest.ResponseRecorder {
		req := httptest.NewRequest(method, target, strings.NewReader(body))
		for i := 0; i < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		rec := httptest.NewRecorder()
		l.ServeHTTP(rec, req)
		return rec
	}
	begin := func() string { return send("POST", "/v2/a/blobs/uploads/", "").Header().Get("Location") }
	d := digest.FromString("whole")
	if rec := send("PUT", begin()+"?digest="+d.String(), "whol"); rec.Code != http.StatusBadRequest {
		t.Errorf("half a blob: %d", rec.Code)
	}
	u := begin()
	if rec := send("PATCH", u, "whole", "Content-Range", "1-5"); rec.Code != http.StatusRequestedRangeNotSatisfiable {
		t.Errorf("out of order: %d", rec.Code)
	}
	if rec := send("DELETE", u, ""); rec.Code != http.StatusNoContent {
		t.Errorf("cancelled: %d", rec.Code)
	}
	if rec := send("PATCH", u, "whole"); rec.Code != http.StatusNotFound {
		t.Errorf("after that: %d", rec.Code)
	}
	begin()
	l.cancelUploads(0)
	files, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil || len(files) > 0 {
		t.Errorf("left: %v, %v", files, err)
	}
	if rec := send("POST", "/v2/a/blobs/uploads/?digest="+d.String(), "whole"); rec.Code != http.StatusCreated {
		t.Errorf("at once: %d %s", rec.Code, rec.Body)
	}
	if rec := send("GET", "/v2/a/blobs/"+d.String(), ""); rec.Body.String() != "whole" {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

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

// TestOnThisHost: a registry without a password is for those who mean this host.
func TestOnThisHost(t *testing.T) {
	addr, stop, err := New(t.TempDir()).Serve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	for host, want := range map[string]int{
		addr:                      http.StatusOK,
		"localhost":               http.StatusOK,
		"[::1]:5000":              http.StatusOK,
		"host.docker.internal:53": http.StatusOK,
		"127.0.0.1":               http.StatusForbidden, // for a page of another origin
		"evil.example":            http.StatusMisdirectedRequest,
		"evil.example:80":         http.StatusMisdirectedRequest,
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		if host == "127.0.0.1" {
			r.Header.Set("Origin", "https://evil.example")
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d", host, resp.StatusCode)
		}
	}
}
