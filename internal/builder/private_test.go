package builder

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ecsbuild/ecsbuild/internal/endpoint"
	"github.com/ecsbuild/ecsbuild/internal/enginetest"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/privateengine"
)

// TestOpen: which engine a choice leads to where no private one can start.
func TestOpen(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	docker, _ := (&enginetest.Engine{}).Start(t)
	cached := []plan.Image{{Containers: []string{"web"}}, {Containers: []string{"app"},
		Build: plan.Build{Cache: plan.CacheRegistry}}}
	for name, tt := range map[string]struct {
		builder     plan.Builder
		images      []plan.Image
		unsupported bool
		unavailable bool
	}{
		"docker":                        {plan.BuilderDocker, cached, false, false},
		"auto, and nothing asks for it": {plan.BuilderAuto, cached[:1], false, false},
		"auto, and an image asks":       {plan.BuilderAuto, cached, true, false},
		"private":                       {plan.BuilderPrivate, nil, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := Open(t.Context(), Choice{Endpoint: endpoint.Endpoint{Docker: docker}, Builder: tt.builder,
				Images: tt.images,
				Why:    func(text string) { t.Errorf("started: %s", text) }})
			if err == nil {
				defer e.Close()
			}
			var unsupported *UnsupportedError
			var unavailable *privateengine.UnavailableError
			switch {
			case !tt.unsupported && !tt.unavailable:
				if err != nil {
					t.Error(err)
				}
			case tt.unsupported && errors.As(err, &unsupported):
				if unsupported.Image != "app" || unsupported.NoPrivate == nil ||
					!strings.Contains(err.Error(), "dockerd is not on PATH") {
					t.Errorf("%v", err)
				}
			case tt.unavailable && errors.As(err, &unavailable):
			default:
				t.Errorf("%v", err)
			}
		})
	}
}

// TestEngineEnvironment: a private engine gets what it reaches registries by, and nothing
// that may be a secret.
func TestEngineEnvironment(t *testing.T) {
	got := engineEnvironment([]string{"HTTPS_PROXY=http://p", "no_proxy=x", "DOCKER_PASSWORD=s", "AWS_SECRET_ACCESS_KEY=s",
		"SSL_CERT_DIR=/certs", "HTTPS_PROXY_PASSWORD=s"})
	if diff := cmp.Diff([]string{"HTTPS_PROXY=http://p", "no_proxy=x", "SSL_CERT_DIR=/certs"}, got); diff != "" {
		t.Error(diff)
	}
}

// TestPrivateNetwork: the steps of a private engine are on the host's network, unless
// their image says otherwise.
func TestPrivateNetwork(t *testing.T) {
	e := &Engine{Store: Containerd, private: &privateengine.Engine{}}
	for network, want := range map[string]string{"": "host", "default": "host", "none": "none", "host": "host"} {
		j := job(t, func(j *Job) {
			j.Image.Build.Network, j.Image.Build.ExtraHosts = network, []string{"db=" + plan.HostGateway}
		})
		opt, err := e.solveOpt(t.Context(), &j)
		if err != nil {
			t.Fatal(err)
		}
		allowed := len(opt.AllowedEntitlements) == 1 && opt.AllowedEntitlements[0] == "network.host"
		if got := opt.FrontendAttrs["force-network-mode"]; got != want || allowed != (want == "host") {
			t.Errorf("%q: %q, allowed %v", network, got, opt.AllowedEntitlements)
		}
		if got := opt.FrontendAttrs["add-hosts"]; got != "db=127.0.0.1" {
			t.Errorf("%q: hosts %q", network, got)
		}
	}
}
