package dockerpush

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/enginetest"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// TestProxyRefuses sends the proxy what no engine should, and then gives up half
// way: no manifest passes, and nothing is left.
func TestProxyRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		build       plan.Build
		contentType string
		manifest    string
		status      int
	}{
		"a list": {plan.Build{}, "application/vnd.docker.distribution.manifest.list.v2+json",
			`{"manifests":[]}`, http.StatusUnsupportedMediaType},
		"a config that did not come": {plan.Build{Reproducible: true}, image.DockerManifest,
			`{"config":{"digest":"` + digest.FromString("x").String() + `"},"layers":[]}`, http.StatusBadGateway},
		"no config": {plan.Build{Reproducible: true}, image.DockerManifest, `{"layers":[]}`,
			http.StatusBadGateway},
	} {
		d := &proxy{password: "p", sessions: map[string]*session{}, uploads: map[string]*upload{}}
		s := d.open(Push{Image: plan.Image{Containers: []string{"web"}, Repository: "shop", Build: tt.build},
			ID: digest.FromString("id")})
		ask := func(method, path, contentType, body string) int {
			r := httptest.NewRequest(method, "/v2/"+s.path+path, strings.NewReader(body))
			r.Header.Set("Content-Type", contentType)
			r.SetBasicAuth(proxyUser, "p")
			w := httptest.NewRecorder()
			d.ServeHTTP(w, r)
			return w.Code
		}
		if got := ask(http.MethodPut, "/manifests/run", tt.contentType, tt.manifest); got != tt.status ||
			len(s.manifest) != 0 || s.failed == nil {
			t.Errorf("%s: status %d, %d manifests, %v", name, got, len(s.manifest), s.failed)
		}
		if got := ask(http.MethodPost, "/blobs/uploads/", "", ""); got != http.StatusAccepted || len(d.uploads) != 1 {
			t.Fatalf("%s: an upload: status %d", name, got)
		}
		s.close()
		if len(d.uploads) != 0 || len(d.sessions) != 0 {
			t.Errorf("%s: %d uploads and %d sessions are left", name, len(d.uploads), len(d.sessions))
		}
	}
}

// TestProxySteps: each request that a push makes, and those that none makes.
func TestProxySteps(t *testing.T) {
	w := newWorld(t, &enginetest.Engine{})
	p := &proxy{password: "p", sessions: map[string]*session{}, uploads: map[string]*upload{}}
	s := p.open(w.push("sha256:00", plan.Build{}, nil, nil))
	s.ctx = t.Context() // a push runs
	there := []byte("a blob that is there")
	if err := image.PutBytes(t.Context(), w.store, digest.FromBytes(there), there); err != nil {
		t.Fatal(err)
	}
	ask := func(method, path, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Content-Type", image.DockerManifest)
		r.SetBasicAuth(proxyUser, "p")
		rec := httptest.NewRecorder()
		p.ServeHTTP(rec, r)
		return rec
	}
	rec := httptest.NewRecorder()
	p.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/v2/", nil))
	if rec.Code != http.StatusUnauthorized || rec.Header().Get("WWW-Authenticate") == "" {
		t.Errorf("without a password: %d", rec.Code)
	}
	base := "/v2/" + s.path
	for _, tt := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/v2/", "", http.StatusOK},
		{"GET", "/v2/_catalog", "", http.StatusNotFound},
		{"HEAD", "/v2/other/blobs/sha256:00", "", http.StatusNotFound},
		{"HEAD", base + "/blobs/" + digest.FromBytes(there).String(), "", http.StatusOK},
		{"HEAD", base + "/blobs/" + digest.FromString("gone").String(), "", http.StatusNotFound},
		{"GET", base + "/blobs/sha256:00", "", http.StatusMethodNotAllowed},
		{"HEAD", base + "/manifests/run", "", http.StatusNotFound},
		{"PUT", base + "/manifests/run", strings.Repeat(" ", maxManifest+1), http.StatusRequestEntityTooLarge},
		{"PATCH", base + "/blobs/uploads/nothing", "x", http.StatusNotFound},
		{"PUT", base + "/manifests/run", `{"config":{},"layers":null}`, http.StatusCreated},
	} {
		if rec := ask(tt.method, tt.path, tt.body); rec.Code != tt.status {
			t.Errorf("%s %s: %d, want %d", tt.method, tt.path, rec.Code, tt.status)
		}
	}
	if m := <-s.manifest; !strings.Contains(string(m.Data), `"layers":[]`) {
		t.Errorf("%s", m.Data) // some engines write null, which no registry takes
	}
	upload := func() string { return ask("POST", base+"/blobs/uploads/", "").Header().Get("Location") }
	blob := "a new blob"
	for name, tt := range map[string]struct {
		digest string
		status int
	}{
		"whole":         {digest.FromString(blob).String(), http.StatusCreated},
		"wrong digest":  {digest.FromString("other").String(), http.StatusBadRequest},
		"broken digest": {"x", http.StatusBadRequest},
	} {
		at := upload()
		if rec := ask("PATCH", at, blob); rec.Code != http.StatusAccepted || rec.Header().Get("Range") != "0-9" {
			t.Errorf("%s: PATCH: %d %s", name, rec.Code, rec.Header().Get("Range"))
		}
		if rec := ask("PUT", at+"?digest="+tt.digest, ""); rec.Code != tt.status {
			t.Errorf("%s: PUT: %d", name, rec.Code)
		}
	}
	if rec := ask("DELETE", upload(), ""); rec.Code != http.StatusNoContent {
		t.Errorf("DELETE: %d", rec.Code)
	}
	if rec := ask("OPTIONS", upload(), ""); rec.Code != http.StatusMethodNotAllowed {
		t.Errorf("OPTIONS: %d", rec.Code)
	}
	s.close()
	p.running.Wait()
}
