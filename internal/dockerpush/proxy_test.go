package dockerpush

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

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
		"a list":                     {plan.Build{}, "application/vnd.docker.distribution.manifest.list.v2+json", `{"manifests":[]}`, http.StatusUnsupportedMediaType},
		"a config that did not come": {plan.Build{Reproducible: true}, image.DockerManifest, `{"config":{"digest":"` + digest.FromString("x").String() + `"},"layers":[]}`, http.StatusBadGateway},
		"no config":                  {plan.Build{Reproducible: true}, image.DockerManifest, `{"layers":[]}`, http.StatusBadGateway},
	} {
		d := &proxy{password: "p", sessions: map[string]*session{}, uploads: map[string]*upload{}}
		s := d.open(Push{Image: plan.Image{Containers: []string{"web"}, Repository: "shop", Build: tt.build}, ID: digest.FromString("id")})
		ask := func(method, path, contentType, body string) int {
			r := httptest.NewRequest(method, "/v2/"+s.path+path, strings.NewReader(body))
			r.Header.Set("Content-Type", contentType)
			r.SetBasicAuth(proxyUser, "p")
			w := httptest.NewRecorder()
			d.ServeHTTP(w, r)
			return w.Code
		}
		if got := ask(http.MethodPut, "/manifests/run", tt.contentType, tt.manifest); got != tt.status || len(s.manifest) != 0 || s.failed == nil {
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
